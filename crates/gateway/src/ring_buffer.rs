//! Buffers of the log as the ring takes them.
#![allow(unsafe_code, reason = "the runtime's buffer trait is unsafe to implement")]

use monoio::buf::IoBuf;

use crate::journal::LogWrite;

/// A write of the log on its way through the ring, which owns it until it is done.
pub(crate) struct RingBuffer(pub(crate) LogWrite);

// SAFETY: `bytes()` lies on the heap in a buffer that the write owns and that is not touched, moved or freed while the
// ring has the write; moving the write itself moves only the pointer. Pointer and length come from the same slice.
unsafe impl IoBuf for RingBuffer {
    fn read_ptr(&self) -> *const u8 {
        self.0.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.bytes().len()
    }
}
