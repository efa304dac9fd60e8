//! One SIMD pass over mail data: line ends, end of data, and what must not be there.
