//! Files that others may have put there.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Whether a link to a file will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Follow,
    Refuse,
}

/// Opens a plain file for reading, and never waits for somebody to write, as for a pipe.
///
/// What is no plain file is [`io::ErrorKind::InvalidInput`].
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    let no = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file");
    let (metadata, flags) = match links {
        Links::Follow => (fs::metadata(path)?, libc::O_NONBLOCK),
        Links::Refuse => (fs::symlink_metadata(path)?, libc::O_NONBLOCK | libc::O_NOFOLLOW),
    };
    // To open a device may do something; who changes the file in between is caught below.
    if !metadata.is_file() {
        return Err(no());
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no()) }
}
