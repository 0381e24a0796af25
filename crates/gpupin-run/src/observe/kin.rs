use std::{
    collections::{BTreeSet, HashMap},
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    observe::record::Kin,
    process::{Process, ProcessId},
    supervise::tree::Stat,
};

/// Tells whether processes belong to the tree.
///
/// Who is in the tree stays in it, because its root is a subreaper; who is not never comes into it. So a process is looked up once,
/// and afterwards only asked whether it is still the same. A descriptor of the process tells that, one system call for many, where
/// reading `/proc` takes three for each.
#[derive(Debug)]
pub(super) struct Kinship {
    root: u32,
    /// Children of the root that are none of the tree.
    others: Vec<ProcessId>,
    known: HashMap<ProcessId, Kin>,
    watched: HashMap<u32, Watched>,
}

/// A process that is known and was alive when it was asked last.
#[derive(Debug)]
struct Watched {
    id: ProcessId,
    kin: Kin,
    descriptor: OwnedFd,
}

/// How often a chain of parents is followed again that broke because one of them ended.
const ATTEMPTS: u32 = 5;

/// How many descriptors are kept at most, of the 1024 that a process may usually have. Others are read from `/proc` each time.
const MOST_WATCHED: usize = 512;

/// What a process is, and when it started.
pub(super) type Known = (Kin, Option<u64>);

impl Kinship {
    pub(super) fn new(root: u32, others: Vec<ProcessId>) -> Self {
        Self { root, others, known: HashMap::new(), watched: HashMap::new() }
    }

    /// What the processes with these numbers are now.
    pub(super) fn of(&mut self, pids: impl Iterator<Item = u32>) -> HashMap<u32, Known> {
        let pids: BTreeSet<u32> = pids.collect();
        let ended = self.ended(&pids);
        for pid in ended {
            self.watched.remove(&pid);
        }
        let mut all = HashMap::new();
        for pid in pids {
            let known = match self.watched.get(&pid) {
                Some(it) => (it.kin, Some(it.id.started)),
                None => self.read(pid),
            };
            all.insert(pid, known);
        }
        all
    }

    /// Forgets the descriptors of who is on no GPU any more.
    pub(super) fn keep(&mut self, pids: &BTreeSet<u32>) {
        self.watched.retain(|pid, _| pids.contains(pid));
    }

    /// Those of the watched that have ended, so that their numbers may be somebody else's.
    fn ended(&self, pids: &BTreeSet<u32>) -> Vec<u32> {
        let asked: Vec<_> =
            pids.iter().filter_map(|it| Some((*it, self.watched.get(it)?))).collect();
        let mut polled: Vec<_> = asked
            .iter()
            .map(|it| PollFd::from_borrowed_fd(it.1.descriptor.as_fd(), PollFlags::IN))
            .collect();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_told = polled.is_empty() || poll(&mut polled, Some(&now)).is_ok();
        // A descriptor of a process is readable once it ended. Who could not be asked is looked at anew.
        let ended =
            asked.iter().zip(&polled).filter(|(_, it)| !is_told || !it.revents().is_empty());
        ended.map(|it| it.0.0).collect()
    }

    /// Asks `/proc`, and watches who is known from now on.
    fn read(&mut self, pid: u32) -> Known {
        // Opened before it is looked at: as long as the descriptor is not readable, the number has not changed hands since.
        let has_room = self.watched.len() < MOST_WATCHED;
        let descriptor = has_room.then(|| open(pid)).flatten();
        let Some(stat) = Stat::read(pid) else { return (Kin::Unknown, None) };
        let id = stat.id;
        let kin = match self.known.get(&id) {
            Some(kin) => *kin,
            None => self.look_up(stat),
        };
        if kin != Kin::Unknown {
            self.known.insert(id, kin);
            if let Some(descriptor) = descriptor {
                self.watched.insert(pid, Watched { id, kin, descriptor });
            }
        }
        (kin, Some(id.started))
    }

    fn look_up(&self, stat: Stat) -> Kin {
        let chain = (0..ATTEMPTS).find_map(|_| self.climb(stat));
        match chain {
            Some(true) => Kin::Tree,
            Some(false) if is_mps_server(stat.id) => Kin::MpsServer,
            Some(false) => Kin::Other,
            None => Kin::Unknown,
        }
    }

    /// Whether a descendant of the root; `None` if a parent ended meanwhile.
    fn climb(&self, mut stat: Stat) -> Option<bool> {
        loop {
            if self.others.contains(&stat.id) || stat.id.pid == self.root {
                return Some(false);
            }
            match stat.parent {
                0 => return Some(false),
                parent if parent == self.root => return Some(true),
                parent => {
                    let next = Stat::read(parent)?;
                    // A parent is older; this number was used again.
                    if next.id.started > stat.id.started {
                        return None;
                    }
                    stat = next;
                }
            }
        }
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn is_mps_server(id: ProcessId) -> bool {
    Process::read(id.pid).is_ok_and(|it| it.id == id && it.command.contains("nvidia-cuda-mps"))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::{Kin, Kinship, Known, MOST_WATCHED, Watched};
    use crate::supervise::tree::Stat;

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            // It ends with its input.
            let mut command = Command::new("cat");
            Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        }

        fn known(&self, kin: Kin) -> Known {
            (kin, Stat::read(self.0.id()).map(|it| it.id.started))
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.end();
        }
    }

    #[track_caller]
    fn check(kinship: &mut Kinship, pid: u32, expected: Known) {
        assert_eq!(kinship.of([pid, pid].into_iter())[&pid], expected);
    }

    #[test]
    fn a_process_is_what_it_was_until_it_ends() {
        let (mut ours, own) = (Sleeper::start(), std::process::id());
        let mut kinship = Kinship::new(own, Vec::new());
        let (known, other) = (ours.known(Kin::Tree), Stat::read(own).map(|it| it.id.started));
        for _ in 0..3 {
            check(&mut kinship, ours.0.id(), known);
            check(&mut kinship, own, (Kin::Other, other));
        }
        assert_eq!(kinship.watched.len(), 2);
        ours.end();
        check(&mut kinship, ours.0.id(), (Kin::Unknown, None));
        assert_eq!(kinship.watched.len(), 1);
    }

    #[test]
    fn a_number_that_is_used_again_is_looked_up_again() {
        let (mut ended, ours) = (Sleeper::start(), Sleeper::start());
        let mut kinship = Kinship::new(std::process::id(), Vec::new());
        check(&mut kinship, ended.0.id(), ended.known(Kin::Tree));
        let watched = kinship.watched.remove(&ended.0.id()).unwrap();
        ended.end();
        // As if the other had got the number of the one that ended.
        kinship.watched.insert(ours.0.id(), Watched { kin: Kin::Other, ..watched });
        check(&mut kinship, ours.0.id(), ours.known(Kin::Tree));
    }

    #[test]
    fn descriptors_are_few_and_are_given_back() {
        let (ours, own) = (Sleeper::start(), std::process::id());
        let mut kinship = Kinship::new(own, Vec::new());
        check(&mut kinship, ours.0.id(), ours.known(Kin::Tree));
        kinship.keep(&[own].into());
        assert!(kinship.watched.is_empty());
        let id = Stat::read(own).unwrap().id;
        for pid in (1..).take(MOST_WATCHED) {
            let descriptor = super::open(own).unwrap();
            kinship.watched.insert(u32::MAX - pid, Watched { id, kin: Kin::Other, descriptor });
        }
        check(&mut kinship, ours.0.id(), ours.known(Kin::Tree));
        assert_eq!(kinship.watched.len(), MOST_WATCHED);
    }
}
