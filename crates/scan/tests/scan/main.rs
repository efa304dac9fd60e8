//! The scanner against what it must find: each implementation that this CPU can run, not only the one it would choose.

mod oracle;
mod slicing;
mod smuggling;
