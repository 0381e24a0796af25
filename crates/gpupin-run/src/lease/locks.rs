//! Who has a lock, as the kernel tells it.

use std::{fs, path::Path};

use rustix::fs::{Stat, major, minor};

/// All locks at one moment.
pub(super) struct Locks(String);

impl Locks {
    pub(super) fn none() -> Self {
        Self(String::new())
    }

    /// None are known where `/proc` is missing. The kernel stops every change of a lock on the machine meanwhile.
    pub(super) fn read() -> Self {
        Self(fs::read_to_string(Path::new("/proc/locks")).unwrap_or_default())
    }

    /// The process that took the exclusive lock on a file, by its number in our namespace. It may have ended and left the lock
    /// to others that inherited it.
    pub(super) fn holder(&self, file: &Stat) -> Option<u32> {
        find(&self.0, file)
    }
}

fn find(locks: &str, file: &Stat) -> Option<u32> {
    let (major, minor) = (major(file.st_dev), minor(file.st_dev));
    let id = format!("{major:02x}:{minor:02x}:{}", file.st_ino);
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // `1: FLOCK  ADVISORY  WRITE 4242 00:1a:98765 0 EOF`; who waits has `->` in front.
        let [_, "FLOCK", _, "WRITE", pid, at, ..] = fields[..] else { return None };
        // 0 and -1 stand for processes of other namespaces.
        (at == id).then(|| pid.parse().ok().filter(|it| *it > 0))?
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::{Locks, find};

    #[test]
    fn the_kernel_tells_who_has_a_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::open(file.path()).unwrap();
        let stat = rustix::fs::fstat(other.as_fd()).unwrap();
        assert_eq!(Locks::read().holder(&stat), None);
        file.as_file().lock().unwrap();
        assert_eq!(Locks::read().holder(&stat), Some(std::process::id()));
    }

    #[test]
    fn who_waits_or_shares_is_no_holder() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(file.as_fd()).unwrap();
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let id = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
        let line = |text: &str| find(&text.replace("ID", &id), &stat);
        assert_eq!(line("1: -> FLOCK  ADVISORY  WRITE 7 ID 0 EOF"), None);
        assert_eq!(line("1: FLOCK  ADVISORY  READ 7 ID 0 EOF"), None);
        assert_eq!(line("1: POSIX  ADVISORY  WRITE 7 ID 0 EOF"), None);
        assert_eq!(line("1: FLOCK  ADVISORY  WRITE 0 ID 0 EOF"), None);
        assert_eq!(line("1: FLOCK  ADVISORY  WRITE 7 ID1 0 EOF"), None);
        assert_eq!(line("1: FLOCK  ADVISORY  WRITE 7 ID 0 EOF"), Some(7));
    }
}
