//! Where an export goes: a file that appears when it is whole, or standard output.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

/// Octets gathered before they are written.
pub(super) const BUFFER_OCTETS: usize = 256 * 1024;

/// Standard output without line buffering: every line would be a write of its own.
pub(super) fn standard_output() -> io::Result<BufWriter<File>> {
    let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok(BufWriter::with_capacity(BUFFER_OCTETS, file))
}

/// A file in the making, under a name of its own. Dropped before it is whole, it is removed.
pub(super) struct Partial {
    path: PathBuf,
    out: BufWriter<File>,
    kept: bool,
}

impl Partial {
    /// Begins `NAME.PID.partial` beside `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = PathBuf::from(name);
        let out = BufWriter::with_capacity(BUFFER_OCTETS, File::create(&path)?);
        Ok(Self { path, out, kept: false })
    }

    /// Gives it its name. False when there is a file of this name already, which stays as it is.
    pub(super) fn name(&mut self, path: &Path) -> io::Result<bool> {
        self.out.flush()?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            // A file system that cannot do both at once.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if path.try_exists()? {
                    return Ok(false);
                }
                fs::rename(&self.path, path)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.kept = true;
        Ok(true)
    }

    /// Takes the place of the file at `path`.
    pub(super) fn replace(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }

    /// Whether the file at `path` holds the same.
    pub(super) fn is_same_as(&self, path: &Path) -> io::Result<bool> {
        if fs::metadata(&self.path)?.len() != fs::metadata(path)?.len() {
            return Ok(false);
        }
        // One message; as large as a message may be.
        Ok(fs::read(&self.path)? == fs::read(path)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.out.get_ref().sync_all()
    }
}

impl Write for Partial {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.out.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // It may be gone already; its name says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One output for everything.
pub(super) enum Stream {
    /// A file that appears at the end.
    File {
        /// Its name.
        path: PathBuf,
        /// What is written so far.
        partial: Partial,
    },
    /// Standard output, a pipe or a device: what was written is gone.
    Pipe(BufWriter<File>),
}

impl Stream {
    /// Opens `to`; `-` is standard output.
    pub(super) fn open(to: &Path) -> anyhow::Result<Self> {
        if to == Path::new("-") {
            return Ok(Self::Pipe(standard_output()?));
        }
        let place = || to.display().to_string();
        match fs::metadata(to) {
            Ok(found) if found.is_dir() => bail!("{}: is a directory; this format is one file", place()),
            Ok(found) if found.is_file() => bail!("{}: exists already and is not overwritten", place()),
            Ok(_) => {
                let file = File::options().write(true).open(to).with_context(place)?;
                Ok(Self::Pipe(BufWriter::with_capacity(BUFFER_OCTETS, file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::File { path: to.to_owned(), partial: Partial::create(to).with_context(place)? })
            }
            Err(error) => Err(error).with_context(place),
        }
    }

    /// Whether it is durable once it is finished.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Makes it durable and gives it its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Pipe(mut out) => Ok(out.flush()?),
            Self::File { path, mut partial } => {
                let place = || path.display().to_string();
                partial.flush().and_then(|()| partial.sync()).with_context(place)?;
                if !partial.name(&path).with_context(place)? {
                    bail!("{}: exists already and is not overwritten", place());
                }
                sync_directory(path.parent())
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { partial, .. } => partial.write(octets),
            Self::Pipe(out) => out.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { partial, .. } => partial.flush(),
            Self::Pipe(out) => out.flush(),
        }
    }
}

/// Makes the names in a directory durable.
fn sync_directory(directory: Option<&Path>) -> anyhow::Result<()> {
    let directory = directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|file| file.sync_all()).with_context(|| directory.display().to_string())
}

/// A directory for files of their own.
pub(super) struct Folder {
    path: PathBuf,
    /// Opened before anything is written: the kernel tells a handle of the writes that have failed since then, and of no others.
    handle: File,
}

impl Folder {
    /// Opens `path`, which is made if need be.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        fs::create_dir_all(path).with_context(|| format!("{}: cannot be made", place()))?;
        Ok(Self { path: path.to_owned(), handle: File::open(path).with_context(place)? })
    }

    /// Where a file of this name is.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes all files in it durable, with one call for the whole file system: one for each of many small files takes the disk far longer.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        rustix::fs::syncfs(&self.handle).with_context(|| self.path.display().to_string())
    }
}
