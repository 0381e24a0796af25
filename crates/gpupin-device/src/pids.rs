use std::{fs, path::Path};

use crate::machine::Usage;

/// The PID namespace that the kernel makes at boot, by the number of its inode (`PROC_PID_INIT_INO`).
const INITIAL: &str = "pid:[4026531836]";

/// Whether this process is in the PID namespace of the machine, whose numbers a driver lists; `None` if that cannot be told.
///
/// In another one, as in most containers, a number that the driver lists may be somebody else's here.
pub fn in_initial_pid_namespace(root: &Path) -> Option<bool> {
    let link = fs::read_link(root.join("proc/self/ns/pid")).ok()?;
    Some(link.as_os_str() == INITIAL)
}

/// The processes of both moments that `/proc` does not have: those of another PID namespace.
///
/// One moment is not enough, because a process may end between the driver's answer and the look at `/proc`.
pub fn strangers(before: &Usage, after: &Usage, root: &Path) -> Vec<u32> {
    let is_missing = |pid: u32| {
        // The driver says 0 of a process that this namespace cannot name.
        pid == 0 || !root.join("proc").join(pid.to_string()).exists()
    };
    let still: Vec<u32> = after.processes().map(|it| it.1.pid).collect();
    let mut strangers: Vec<u32> = before.processes().map(|it| it.1.pid).collect();
    strangers.retain(|pid| is_missing(*pid) && still.contains(pid));
    strangers.sort_unstable();
    strangers.dedup();
    strangers
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{in_initial_pid_namespace, strangers};
    use crate::{
        answer::Silence,
        machine::{GpuProcess, Usage},
    };

    fn usage(pids: &[u32]) -> Usage {
        let process = |pid: &u32| GpuProcess {
            pid: *pid,
            memory: Err(Silence::NotAvailable),
            instance: None,
        };
        Usage {
            compute: Ok(pids.iter().map(process).collect()),
            graphics: Err(Silence::NoPermission),
            mps: Ok(Vec::new()),
        }
    }

    #[test]
    fn a_process_that_just_ended_is_no_stranger() {
        let here = std::process::id();
        // Above every number that Linux gives.
        let (elsewhere, ended) = (1 << 30, (1 << 30) + 1);
        let before = usage(&[here, elsewhere, ended, 0]);
        let after = usage(&[here, elsewhere, 0]);
        assert_eq!(strangers(&before, &after, Path::new("/")), [0, elsewhere]);
    }

    #[test]
    fn without_proc_the_namespace_is_unknown() {
        assert_eq!(in_initial_pid_namespace(Path::new("/nonexistent")), None);
        assert!(in_initial_pid_namespace(Path::new("/")).is_some());
    }
}
