//! Processes of this machine, named so that a number used again is not the same process.

use std::{fmt, fs, io, path::Path};

use crate::supervise::tree::Stat;

/// A process: its number, and when it started, since numbers are used again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: ProcessId,
    pub parent: u32,
    /// As `ps` shows it: `R`, `S`, `Z`…
    pub state: char,
    /// The real user.
    pub uid: u32,
    /// The command line, or the name in brackets where there is none.
    pub command: String,
}

impl ProcessId {
    /// This process; an error of kind `NotFound` where there is no `/proc`.
    pub fn this() -> io::Result<Self> {
        Self::of(std::process::id()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        Stat::read(pid).map(|it| it.id)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

impl Process {
    /// Reads `/proc/PID`; an error of kind `NotFound` if there is no such process.
    pub fn read(pid: u32) -> io::Result<Self> {
        let directory = Path::new("/proc").join(pid.to_string());
        let stat = fs::read_to_string(directory.join("stat"))?;
        let status = fs::read_to_string(directory.join("status"))?;
        let command = fs::read(directory.join("cmdline")).unwrap_or_default();
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`/proc/{pid}/stat` is not understood"),
            )
        };
        // The name is in parentheses and may hold any character, `)` too.
        let (before, after) = stat.rsplit_once(')').ok_or_else(invalid)?;
        let name = before.split_once('(').ok_or_else(invalid)?.1;
        let mut fields = after.split_whitespace();
        let state = fields.next().and_then(|it| it.chars().next()).ok_or_else(invalid)?;
        let parent = fields.next().and_then(|it| it.parse().ok()).ok_or_else(invalid)?;
        // The parent is field 4, the start field 22.
        let started = fields.nth(17).and_then(|it| it.parse().ok()).ok_or_else(invalid)?;
        let uid = status.lines().find_map(|it| it.strip_prefix("Uid:"));
        let uid =
            uid.and_then(|it| it.split_whitespace().next()?.parse().ok()).ok_or_else(invalid)?;
        let words: Vec<_> = command
            .split(|it| *it == 0)
            .filter(|it| !it.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        let command = if words.is_empty() { format!("[{name}]") } else { words.join(" ") };
        Ok(Self { id: ProcessId { pid, started }, parent, state, uid, command })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(id: ProcessId) -> bool {
        Stat::read(id.pid).is_some_and(|it| it.id == id && !it.is_dead())
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, ProcessId};

    #[test]
    fn this_process_is_alive_and_not_with_another_start() {
        let this = Process::read(std::process::id()).unwrap();
        assert_eq!(ProcessId::this().unwrap(), this.id);
        assert!(Process::is_alive(this.id), "{this:?}");
        assert!(!Process::is_alive(ProcessId { started: this.id.started + 1, ..this.id }));
        assert!(this.command.contains("gpupin_run"), "{this:?}");
    }
}
