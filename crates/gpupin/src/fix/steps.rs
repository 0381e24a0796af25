//! The changes that are made to the file system, one function each.
//!
//! A crash may come before any of them. Tests make it come, through [`observe`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::OnceLock,
};

/// A change that is about to be made.
pub(crate) struct Step<'a> {
    /// What is done, in one word.
    pub(crate) action: &'static str,
    pub(crate) path: &'a Path,
}

type Observer = Box<dyn Fn(&Step<'_>) + Send + Sync>;

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Has every step told before it is taken. The first observer stays.
pub(crate) fn observe(observer: impl Fn(&Step<'_>) + Send + Sync + 'static) {
    drop(OBSERVER.set(Box::new(observer)));
}

fn step(action: &'static str, path: &Path) {
    if let Some(observer) = OBSERVER.get() {
        observer(&Step { action, path });
    }
}

/// Who may read a file that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Who may read new files, as the user has it.
    Usual,
    /// Only the user: what is written may be a secret.
    User,
}

/// Creates a file that is not there.
pub(super) fn create(path: &Path, readers: Readers) -> io::Result<File> {
    step("create", path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::User {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Creates a directory, unless it is there.
pub(super) fn create_directory(path: &Path, readers: Readers) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    step("mkdir", path);
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    if readers == Readers::User {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    match builder.create(path) {
        // Another gpupin was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

pub(super) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    step("write", path);
    file.write_all(bytes)
}

pub(super) fn sync(file: &File, path: &Path) -> io::Result<()> {
    step("sync", path);
    file.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step("rename", to);
    fs::rename(from, to)
}

/// Removes a file; one that is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step("remove", path);
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes names in a directory last: until then a crash of the machine may undo a rename.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    step("sync", path);
    // Windows cannot open directories as files, and has no such promise to ask for.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
