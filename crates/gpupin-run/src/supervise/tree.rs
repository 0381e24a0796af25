use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
};

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
    },
};

use crate::process::ProcessId;

/// What `/proc/PID/stat` says, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) id: ProcessId,
    pub(crate) parent: u32,
    pub(crate) state: char,
}

impl Stat {
    /// `None` if there is no such process.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        // Longer than the longest there is: 52 fields of at most 20 digits, and a name. The kernel tells all of it in one read.
        let mut buffer = [0; 2048];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
        let text = &buffer[..length];
        // The name is in parentheses and may hold anything, `)` too.
        let end = text.iter().rposition(|it| *it == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // The parent is field 4, the start field 22.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { id: ProcessId { pid, started }, parent, state })
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every process below `root`, zombies included, without what is below `others`.
///
/// Who loses its parent becomes a child of the nearest subreaper above, so that nothing leaves the tree of one. A process that is
/// born while `/proc` is read may be missing.
pub(crate) fn descendants(root: u32, others: &[ProcessId]) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|it| it.parse().ok()) else { continue };
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut found: Vec<Stat> = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if !others.contains(&child.id) {
                next.push(child.id.pid);
                found.push(child);
            }
        }
    }
    found
}

/// Whether this process has a child, dead or alive. Asks the kernel one question, where [`descendants`] reads all of `/proc`.
pub(super) fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// Sends a signal to exactly this process, never to another that got its number.
pub(super) fn send(id: ProcessId, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(id.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    // What the descriptor means does not change any more, so that this look is not too early.
    if Stat::read(id.pid).is_none_or(|it| it.id != id) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(pidfd_send_signal(fd, signal)?)
}
