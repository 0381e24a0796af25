use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    queue::Ticket,
    ticket::{MOST, Name, Text},
};
use gpupin_policy::GpuUuid;

/// What every request holds for a moment.
const QUEUE_LOCK: &str = "queue.lock";

/// Where the queues lie.
///
/// Everything is opened relative to one descriptor, so that nobody who renames a path is followed, and never through a link.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    fd: Arc<OwnedFd>,
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

/// Why a directory cannot hold leases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error("failed to use `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Others could remove or replace what is in it.
    #[error("`{}` is not safe to keep leases in: {why}", path.display())]
    Unsafe { path: PathBuf, why: String },
    /// Locks there would not be between the processes of this machine.
    #[error("`{}` cannot keep leases: {why}", path.display())]
    NoLocks { path: PathBuf, why: String },
}

/// What a look at a ticket shows.
pub(super) enum Found {
    /// Its owner holds its lock; the open file is for waiting on it.
    Live(OwnedFd),
    Dead(Text),
    Gone,
}

impl Directory {
    /// Opens a directory that is there.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed =
            |errno: Errno| DirectoryError::File { path: path.to_owned(), source: errno.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::open(path, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) if path.is_symlink() => {
                let why = "it is a link, which could be made to lead elsewhere".to_owned();
                return Err(DirectoryError::Unsafe { path: path.to_owned(), why });
            }
            result => result.map_err(failed)?,
        };
        let stat = fs::fstat(&fd).map_err(failed)?;
        let scope = scope(&stat, rustix::process::geteuid().as_raw())
            .map_err(|why| DirectoryError::Unsafe { path: path.to_owned(), why })?;
        local(fs::fstatfs(&fd).map_err(failed)?.f_type.cast_unsigned())
            .map_err(|why| DirectoryError::NoLocks { path: path.to_owned(), why })?;
        // `systemd-tmpfiles` removes nothing from a directory that is locked, however old it is. The lock is gone with the
        // last clone of this.
        let _ = fs::flock(&fd, FlockOperation::NonBlockingLockShared);
        // The program that is started tells its children, who may stand elsewhere.
        let path = std::path::absolute(path)
            .map_err(|source| DirectoryError::File { path: path.to_owned(), source })?;
        Ok(Self { path, fd: Arc::new(fd), scope })
    }

    /// The same for a directory of this user's own, which is made if it is not there. Only its last part is made.
    pub fn open_or_create(path: &Path) -> Result<Self, DirectoryError> {
        match fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(errno) => Err(DirectoryError::File { path: path.to_owned(), source: errno.into() }),
        }
    }

    /// The first of the shared ones that is there and belongs to root and everybody, else the user's, which is made.
    pub fn shared_or_user(shared: &[&Path], user: &Path) -> Result<Self, DirectoryError> {
        let mut shared = shared.iter().filter_map(|it| Self::open(it).ok());
        match shared.find(|it| it.scope == Scope::Machine) {
            Some(directory) => Ok(directory),
            None => Self::open_or_create(user),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether a path leads to this directory.
    pub(super) fn is(&self, path: &Path) -> bool {
        let here = fs::fstat(&self.fd);
        let there = std::fs::metadata(path);
        here.is_ok_and(|here| {
            there.is_ok_and(|it| (it.dev(), it.ino()) == (here.st_dev, here.st_ino))
        })
    }

    /// The names of all tickets, in no order.
    pub(super) fn tickets(&self) -> Result<Vec<Name>, DirectoryError> {
        let list = || {
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(&self.fd)? {
                names.extend(entry?.file_name().to_str().ok().and_then(Name::parse));
            }
            Ok(names)
        };
        list().map_err(|errno: Errno| self.failed("", errno))
    }

    /// The tickets of one GPU, in no order.
    pub(super) fn tickets_of(&self, gpu: &GpuUuid) -> Result<Vec<Ticket>, DirectoryError> {
        let names = self.tickets()?.into_iter();
        Ok(names.filter(|it| it.gpu == *gpu).map(|it| it.ticket).collect())
    }

    /// Looks whether a ticket is live. What is no regular file that can be read is no ticket, since nobody could wait for it.
    pub(super) fn probe(&self, name: &str) -> Result<Found, DirectoryError> {
        let Some(fd) = self.open_ticket(name)? else { return Ok(Found::Gone) };
        // A shared lock, so that two who look at once do not take each other for the owner.
        match fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Found::Dead(read(fd))),
            Err(Errno::WOULDBLOCK) => Ok(Found::Live(fd)),
            Err(errno) => Err(self.no_lock(name, errno)),
        }
    }

    /// What a ticket that was found live says, and who owns it.
    pub(super) fn read(&self, name: &str, live: OwnedFd) -> Result<(Text, Stat), DirectoryError> {
        let stat = fs::fstat(&live).map_err(|errno| self.failed(name, errno))?;
        Ok((read(live), stat))
    }

    fn open_ticket(&self, name: &str) -> Result<Option<OwnedFd>, DirectoryError> {
        match self.open_regular(name) {
            Err(Errno::NOENT | Errno::ACCESS | Errno::LOOP | Errno::NXIO | Errno::INVAL) => {
                Ok(None)
            }
            result => Ok(result.map_err(|errno| self.failed(name, errno))?.map(|it| it.0)),
        }
    }

    /// Opens `queue.lock`, and makes it first where it is not there.
    pub(super) fn open_queue_lock(&self) -> Result<OwnedFd, DirectoryError> {
        loop {
            match self.open_regular(QUEUE_LOCK) {
                Ok(Some((fd, _))) => return Ok(fd),
                Ok(None) | Err(Errno::LOOP | Errno::NXIO) => {
                    let why = format!("`{QUEUE_LOCK}` in it is no regular file");
                    return Err(DirectoryError::Unsafe { path: self.path.clone(), why });
                }
                Err(Errno::NOENT) => match self.create(QUEUE_LOCK) {
                    // Somebody else was faster.
                    Ok(_) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(self.failed(QUEUE_LOCK, errno)),
                },
                Err(errno) => return Err(self.failed(QUEUE_LOCK, errno)),
            }
        }
    }

    /// `queue.lock`, locked; `None` if somebody else has it.
    pub(super) fn try_lock_queue(&self) -> Result<Option<OwnedFd>, DirectoryError> {
        let fd = self.open_queue_lock()?;
        let is_had = fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok((is_had && self.queue_lock_holds(fd.as_fd())?).then_some(fd))
    }

    /// Whether this is still what others open, and whether its lock, which is held, keeps others out.
    pub(super) fn queue_lock_holds(&self, held: BorrowedFd<'_>) -> Result<bool, DirectoryError> {
        let other = match self.open_regular(QUEUE_LOCK) {
            Ok(Some(it)) => it,
            Ok(None) | Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.failed(QUEUE_LOCK, errno)),
        };
        let mine = fs::fstat(held).map_err(|errno| self.failed(QUEUE_LOCK, errno))?;
        if (mine.st_dev, mine.st_ino) != (other.1.st_dev, other.1.st_ino) {
            return Ok(false);
        }
        match fs::flock(&other.0, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            Ok(()) => {
                let why = "a lock there keeps nobody out".to_owned();
                Err(DirectoryError::NoLocks { path: self.path.clone(), why })
            }
            Err(errno) => Err(self.no_lock(QUEUE_LOCK, errno)),
        }
    }

    /// Creates a ticket and locks it; `None` if there is something of this name. Only while `queue.lock` is held.
    pub(super) fn create_ticket(&self, name: &str) -> Result<Option<OwnedFd>, DirectoryError> {
        let fd = match self.create(name) {
            Err(Errno::EXIST) => return Ok(None),
            result => result.map_err(|errno| self.failed(name, errno))?,
        };
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(fd)),
            Err(errno) => {
                // Only to leave nothing behind: a file without a lock is no ticket.
                drop(self.remove(name));
                Err(self.no_lock(name, errno))
            }
        }
    }

    /// Removes the file of a dead ticket, where that is allowed. Only while `queue.lock` is held, or a new ticket of the same name
    /// could be hit.
    pub(super) fn sweep(&self, name: &str) -> Result<(), DirectoryError> {
        if let Found::Dead(_) = self.probe(name)? {
            // In a shared directory only its owner may.
            drop(self.remove(name));
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(io::Error::from)
    }

    /// Opens a file that is there to add to it.
    pub(crate) fn open_to_append(&self, name: &str) -> Result<(OwnedFd, Stat), Errno> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty())?;
        let stat = fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((fd, stat)),
            _ => Err(Errno::INVAL),
        }
    }

    /// Whether a name still stands for a file.
    pub(crate) fn is_named(&self, name: &str, file: &Stat) -> bool {
        let there = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        there.is_ok_and(|it| (it.st_dev, it.st_ino) == (file.st_dev, file.st_ino))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        fs::renameat(&self.fd, from, &self.fd, to)
    }

    /// `None` if it is there and no regular file.
    pub(crate) fn open_regular(&self, name: &str) -> Result<Option<(OwnedFd, Stat)>, Errno> {
        // Who opens a pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty())?;
        let stat = fs::fstat(&fd)?;
        Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some((fd, stat)))
    }

    pub(crate) fn create(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let fd = fs::openat(&self.fd, name, flags, mode)?;
        // Whatever the umask is: who cannot read it could not wait for it.
        fs::fchmod(&fd, mode)?;
        Ok(fd)
    }

    pub(super) fn no_lock(&self, name: &str, errno: Errno) -> DirectoryError {
        match errno {
            Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::INVAL => {
                let why = "its file system has no locks".to_owned();
                DirectoryError::NoLocks { path: self.path.clone(), why }
            }
            errno => self.failed(name, errno),
        }
    }

    pub(super) fn failed(&self, name: &str, errno: Errno) -> DirectoryError {
        if errno == Errno::ROFS {
            let why = "it is read-only".to_owned();
            return DirectoryError::NoLocks { path: self.path.clone(), why };
        }
        DirectoryError::File { path: self.path.join(name), source: errno.into() }
    }
}

fn read(fd: OwnedFd) -> Text {
    // With room for a usual ticket, it is read at once.
    let mut bytes = Vec::with_capacity(4 << 10);
    // What cannot be read says nothing.
    drop(File::from(fd).take(MOST as u64).read_to_end(&mut bytes));
    Text::parse(&bytes)
}

/// Between whom the leases of a directory would be, or why it is not safe to have any there.
fn scope(stat: &Stat, user: u32) -> Result<Scope, String> {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o022;
    let mode = stat.st_mode;
    if stat.st_uid != 0 && stat.st_uid != user {
        return Err(format!("it belongs to uid {}, who could remove what is in it", stat.st_uid));
    }
    match (mode & OTHERS_WRITE != 0, mode & STICKY != 0) {
        (true, false) => Err(format!(
            "its mode is {:o}, so that anybody could remove what is in it",
            mode & 0o7777
        )),
        (true, true) if stat.st_uid == 0 => Ok(Scope::Machine),
        _ => Ok(Scope::User),
    }
}

/// Whether locks in a file system of this kind are between the processes of this machine, or why not.
fn local(magic: u64) -> Result<(), String> {
    match network(magic) {
        Some(name) => Err(format!(
            "it is on a network file system ({name}), whose locks other machines share"
        )),
        None => Ok(()),
    }
}

/// The name of a file system that several machines use. `flock` on them is another lock, or none.
/// The numbers are those of `statfs(2)` and `linux/magic.h`.
fn network(magic: u64) -> Option<&'static str> {
    Some(match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 | 0x4753_5046 => "GPFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0102_1997 => "9P",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
