//! Whether processes still run.

use std::fs;

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

/// A process that is asked about again and again.
///
/// A descriptor of the process makes that cheap, one system call for all of them, and cannot be mistaken when the number is
/// used again.
#[derive(Debug)]
pub(super) struct Watched {
    state: State,
}

#[derive(Debug)]
enum State {
    #[cfg(target_os = "linux")]
    Descriptor(OwnedFd),
    Number {
        pid: u32,
        started: u64,
        is_alive: bool,
    },
    Ended,
}

impl Watched {
    pub(super) fn new(pid: u32, started: u64) -> Self {
        let state =
            if self::started(pid) == Some(started) { open(pid, started) } else { State::Ended };
        Self { state }
    }

    pub(super) fn is_alive(&self) -> bool {
        match self.state {
            #[cfg(target_os = "linux")]
            State::Descriptor(_) => true,
            State::Number { is_alive, .. } => is_alive,
            State::Ended => false,
        }
    }
}

/// When a process started, in clock ticks after boot; `None` if it ended, also if nobody waited for it yet.
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any character, `)` too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    // The state is field 3, the start field 22.
    let started = fields.nth(18)?.parse().ok()?;
    (!is_zombie).then_some(started)
}

/// Looks which of the processes ended.
#[cfg(target_os = "linux")]
pub(super) fn update<'a>(watched: impl Iterator<Item = &'a mut Watched>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let (mut described, others): (Vec<_>, Vec<_>) =
        watched.partition(|it| matches!(it.state, State::Descriptor(_)));
    let ended: Vec<bool> = {
        let descriptors = described.iter().filter_map(|it| match &it.state {
            State::Descriptor(descriptor) => Some(descriptor),
            _ => None,
        });
        let mut polled: Vec<_> = descriptors.map(|it| PollFd::new(it, PollFlags::IN)).collect();
        // A descriptor of a process is readable once it ended. What could not be asked counts as running.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _: rustix::io::Result<usize> = poll(&mut polled, Some(&now));
        polled.iter().map(|it| it.revents().contains(PollFlags::IN)).collect()
    };
    for (it, ended) in described.iter_mut().zip(ended) {
        if ended {
            it.state = State::Ended;
        }
    }
    for it in others {
        look(it);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn update<'a>(watched: impl Iterator<Item = &'a mut Watched>) {
    watched.for_each(look);
}

fn look(watched: &mut Watched) {
    if let State::Number { pid, started, is_alive } = &mut watched.state {
        *is_alive = self::started(*pid) == Some(*started);
    }
}

#[cfg(target_os = "linux")]
fn open(pid: u32, started: u64) -> State {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let descriptor = number.and_then(|it| pidfd_open(it, PidfdFlags::empty()).ok());
    match descriptor {
        // Only now is it certain which process was opened.
        Some(descriptor) if self::started(pid) == Some(started) => State::Descriptor(descriptor),
        Some(_) => State::Ended,
        None => State::Number { pid, started, is_alive: true },
    }
}

#[cfg(not(target_os = "linux"))]
fn open(pid: u32, started: u64) -> State {
    State::Number { pid, started, is_alive: true }
}
