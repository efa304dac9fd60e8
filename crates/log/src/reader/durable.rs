//! What of a live log is proven to be durable.
//!
//! What a write brings can be read before the disk has flushed it, also past the page cache, and may be gone after a power cut. The proof comes
//! later: a seal is written when everything before it is durable, and a record tells what was durable when it was written; after a second of
//! idleness a Mark does.

use std::io;

use super::Reader;
use crate::Lsn;
use crate::layout::BLOCK;
use crate::storage::Storage;
use crate::walk::Walk;
use crate::window::Window;

impl<S: Storage> Reader<S> {
    /// The position below which everything is proven to be durable; zero where nothing is. Reads what is not sealed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn durable_end(&mut self) -> io::Result<Lsn> {
        self.refresh()?;
        let mut window = Window::new();
        let mut end = Lsn::ZERO;
        for info in &self.segments {
            let Ok(header) = info.header else { continue };
            if header.identity != self.meta.identity || header.number != info.number {
                continue;
            }
            if let Some(seal) = info.seal {
                end = end.max(seal.end);
                continue;
            }
            let file = match self.file(info.number) {
                Ok(file) => file,
                // Sealed and retired since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let walk = Walk { file: &file, header };
            // One that is ready and waits for its first record holds octets of nobody.
            if walk.header_at(&mut window, BLOCK)?.is_err() {
                continue;
            }
            if let Some(told) = walk.later(&mut window, BLOCK - 1, walk.limit())? {
                end = end.max(told.durable);
            }
        }
        Ok(end)
    }
}
