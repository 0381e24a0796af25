use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

/// What tells that a file or directory was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    length: u64,
    #[cfg(unix)]
    inode: u64,
    /// Another change in the same tick of the clock would leave the same time.
    is_settled: bool,
}

/// Longer than the tick by which file systems tell the time.
const TICK: Duration = Duration::from_millis(30);

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?;
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        Ok(Self {
            modified,
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
            is_settled: age > TICK,
        })
    }

    /// Whether what was read under this stamp is what there is under `now`.
    pub(super) fn still_holds(&self, now: &Self) -> bool {
        self.is_settled && self == now
    }
}
