use std::collections::HashMap;

use crate::{
    observe::record::Kin,
    process::{Process, ProcessId},
    supervise::tree::Stat,
};

/// Tells whether a process belongs to the tree.
///
/// Who is in the tree stays in it, because its root is a subreaper; who is not never comes into it. So a process is looked up once,
/// and afterwards only asked whether it is still the same.
#[derive(Debug)]
pub(super) struct Kinship {
    root: u32,
    /// Children of the root that are none of the tree.
    others: Vec<ProcessId>,
    known: HashMap<ProcessId, Kin>,
}

/// How often a chain of parents is followed again that broke because one of them ended.
const ATTEMPTS: u32 = 5;

impl Kinship {
    pub(super) fn new(root: u32, others: Vec<ProcessId>) -> Self {
        Self { root, others, known: HashMap::new() }
    }

    /// What the process with this number is now, and when it started.
    pub(super) fn of(&mut self, pid: u32) -> (Kin, Option<u64>) {
        let Some(stat) = Stat::read(pid) else { return (Kin::Unknown, None) };
        let started = Some(stat.id.started);
        if let Some(kin) = self.known.get(&stat.id) {
            return (*kin, started);
        }
        let kin = self.look_up(stat);
        if kin != Kin::Unknown {
            self.known.insert(stat.id, kin);
        }
        (kin, started)
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

fn is_mps_server(id: ProcessId) -> bool {
    Process::read(id.pid).is_ok_and(|it| it.id == id && it.command.contains("nvidia-cuda-mps"))
}
