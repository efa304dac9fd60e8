//! The disk as a file: a FUSE file system whose root is a folder with one file in it.
//!
//! The kernel keeps none of its pages (direct I/O), so every write and every sync comes here. One thread serves; it never touches a file
//! system itself, and a request that shall not be answered is put aside, so the others go on.

use std::ffi::OsStr;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::device::Device;

/// Name of the file.
pub(super) const FILE: &str = "disk.img";

const FILE_NUMBER: INodeNo = INodeNo(2);
/// Nothing here ever changes.
const FOREVER: Duration = Duration::from_secs(3600);

pub(super) struct Served {
    pub(super) device: Device,
    pub(super) octets: u64,
}

impl Served {
    fn attributes(&self, number: INodeNo) -> FileAttr {
        let file = number == FILE_NUMBER;
        let octets = if file { self.octets } else { 0 };
        FileAttr {
            ino: number,
            size: octets,
            blocks: octets / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file { FileType::RegularFile } else { FileType::Directory },
            perm: if file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == FILE {
            reply.entry(&FOREVER, &self.attributes(FILE_NUMBER), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(number));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        octets: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let octets = self.octets.saturating_sub(offset).min(octets.into());
        let mut buffer = vec![0; usize::try_from(octets).unwrap_or(0)];
        self.device.read(offset, &mut buffer);
        reply.data(&buffer);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Ok(octets) = u32::try_from(data.len()) else { return reply.error(Errno::EINVAL) };
        let answer = move |result: std::io::Result<()>| match result {
            Ok(()) => reply.written(octets),
            Err(_) => reply.error(Errno::EIO),
        };
        self.device.write(offset, data, Box::new(answer));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.device.flush(Box::new(move |result| match result {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }));
    }

    // A close is no request to the disk.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
