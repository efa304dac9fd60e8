//! The `inrush-load` command.
fn main() {}
