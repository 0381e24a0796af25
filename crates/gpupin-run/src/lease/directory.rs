use std::path::{Path, PathBuf};

/// Where the queues lie.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    scope: Scope,
}

/// Between whom the leases of a directory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All users of the machine.
    Machine,
    /// One user; others do not see them.
    User,
}

impl Directory {
    /// Opens a directory that is there.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        Ok(Self { path: path.to_owned(), scope: Scope::User })
    }

    /// The first of the shared ones that is there and is made for it, else the user's, which is made.
    pub fn shared_or_user(_shared: &[&Path], user: &Path) -> Result<Self, DirectoryError> {
        Self::open(user)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }
}

/// Why a directory cannot hold leases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error("failed to use `{}`", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// Others could remove or replace what is in it.
    #[error("`{}` is not safe to share: {why}", path.display())]
    Unsafe { path: PathBuf, why: String },
    /// Locks there would not be between the processes of this machine.
    #[error("`{}` cannot hold locks: {why}", path.display())]
    NoLocks { path: PathBuf, why: String },
}
