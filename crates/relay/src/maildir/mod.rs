//! Delivery into Maildirs: the last step of a message whose mailbox is on this machine.
//!
//! ```text
//!   recipient ─▶ Template::expand ─▶ Mailbox::open ─▶ begin ─▶ write … write ─▶ commit ─▶ Stored
//!                joe@a.example       tmp new cur      quota     tmp/NAME         quota, fsync, new/NAME,S=…,W=…, fsync
//! ```
//! A message that [`Delivery::commit`] has given a [`Stored`] for survives a power cut. Until then nothing of it can be seen by
//! a reader, and what is in `tmp` goes away with the [`Delivery`]; what a process that was killed has left there is removed by
//! [`Mailbox::clean_tmp`].
//!
//! Everything here blocks on the disk: it is called from a thread that may wait. No lock is taken, as the format asks:
//! any number of threads, processes and machines may deliver into one mailbox, and readers may work in it meanwhile.
//!
//! Files belong to the user of the process; they are not given to the owner of the mailbox.
//!
//! Standards: D. J. Bernstein's maildir(5) and "Using maildir format"; Courier's Maildir++ and its quota ("README.maildirquota");
//! the size fields `S=` and `W=` of Courier and Dovecot; RFC 5321 §4.4 (Return-Path); RFC 3463 (enhanced status).

mod delivery;
mod error;
mod header;
mod lines;
mod name;
mod quota;
mod size_file;
mod store;
mod template;
#[cfg(test)]
mod tests;

pub use delivery::{Delivery, Stored};
pub use error::{Failure, MaildirError};
pub use header::prepend;
pub use quota::Quota;
pub use store::{Mailbox, MailboxSettings, TMP_AGE_MAX};
pub use template::{AddressError, ExpandSettings, Template, TemplateError};
