//! Replacing a file in one go: whoever looks sees the old bytes or the new ones.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::fix::{
    attributes,
    steps::{self, Readers},
};

/// A file, what it must hold, and what it shall hold.
pub(super) struct Replacement<'a> {
    /// Without links.
    pub(super) target: &'a Path,
    /// Name of the temporary file, which lies beside the target.
    pub(super) temporary: &'a str,
    /// `None`: there must be no file.
    pub(super) old: Option<&'a [u8]>,
    pub(super) new: &'a [u8],
    /// Other permissions than those it has.
    pub(super) mode: Option<u32>,
}

/// Why a file is not replaced for good.
#[derive(Debug)]
pub(super) enum NotReplaced {
    /// Somebody else wrote to it.
    Changed,
    Vanished,
    Failed(io::Error),
    /// It is replaced, but the disk did not confirm it.
    NotConfirmed(io::Error),
}

impl fmt::Display for NotReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => write!(f, "somebody else changed it in the meantime"),
            Self::Vanished => write!(f, "there is no such file any more"),
            Self::Failed(error) => write!(f, "not changed: {error}"),
            Self::NotConfirmed(error) => {
                write!(f, "changed, but the disk did not confirm it: {error}")
            }
        }
    }
}

/// Name of a temporary file: of no language, and the same in every run, so that the next one finds it.
pub(super) fn temporary(id: &str, what: impl fmt::Display) -> String {
    format!(".gpupin-{id}-{what}.tmp")
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|it| it.starts_with(".gpupin-"))
}

/// The file that a path leads to. One that is not there yet lies in the directory its path leads to.
pub(super) fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (parent, name) = (path.parent(), path.file_name());
            let (Some(parent), Some(name)) = (parent, name) else { return Err(error) };
            let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(fs::canonicalize(here)?.join(name))
        }
        result => result,
    }
}

pub(super) fn replace(it: &Replacement<'_>) -> Result<(), NotReplaced> {
    let directory = it.target.parent().expect("a file lies in a directory");
    let temporary = directory.join(it.temporary);
    let replaced = prepare(it, &temporary)
        .map_err(NotReplaced::Failed)
        // As late as possible: what others write from here on is lost.
        .and_then(|()| holds(it.target, it.old))
        .and_then(|()| steps::rename(&temporary, it.target).map_err(NotReplaced::Failed));
    if replaced.is_err() {
        drop(fs::remove_file(&temporary));
    }
    replaced?;
    steps::sync_directory(directory).map_err(NotReplaced::NotConfirmed)
}

/// Removes a file that holds `old`.
pub(super) fn remove(target: &Path, old: &[u8]) -> Result<(), NotReplaced> {
    holds(target, Some(old))?;
    steps::remove(target).map_err(NotReplaced::Failed)?;
    let directory = target.parent().expect("a file lies in a directory");
    steps::sync_directory(directory).map_err(NotReplaced::NotConfirmed)
}

/// Writes a file that only gpupin writes, whatever it holds.
pub(super) fn put(path: &Path, temporary: &str, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let directory = path.parent().expect("a file lies in a directory");
    let temporary = directory.join(temporary);
    let written =
        fill(&temporary, bytes, readers, |_| Ok(())).and_then(|()| steps::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written.and_then(|()| steps::sync_directory(directory))
}

/// Fails unless the file holds these bytes, or is not there.
pub(super) fn holds(target: &Path, bytes: Option<&[u8]>) -> Result<(), NotReplaced> {
    match (fs::read(target), bytes) {
        (Ok(there), Some(bytes)) if there == bytes => Ok(()),
        (Ok(_), _) => Err(NotReplaced::Changed),
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is something, too.
            if target.is_symlink() { Err(NotReplaced::Changed) } else { Ok(()) }
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Err(NotReplaced::Vanished),
        (Err(error), _) => Err(NotReplaced::Failed(error)),
    }
}

fn prepare(it: &Replacement<'_>, temporary: &Path) -> io::Result<()> {
    let is_new = it.old.is_none();
    // Until it has the permissions of the old one, nobody else may read it.
    let readers = if is_new && it.mode.is_none() { Readers::Usual } else { Readers::User };
    fill(temporary, it.new, readers, |file| {
        if is_new { Ok(()) } else { attributes::copy(it.target, file, it.mode) }
    })
}

/// Creates a file with these bytes, and makes them last.
fn fill(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    finish: impl FnOnce(&fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = match steps::create(path, readers) {
        // The name is one that only gpupin uses, and only one gpupin is at work.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            steps::remove(path)?;
            steps::create(path, readers)?
        }
        result => result?,
    };
    steps::write(&mut file, path, bytes)?;
    finish(&file)?;
    steps::sync(&file, path)
}
