use std::{collections::BTreeSet, fs};

use gpupin_device::Machine;
use gpupin_policy::GpuUuid;

use super::{VARIABLE, directory::Directory, nested};
use crate::process::{Process, ProcessId};

/// The processes of earlier holders that a machine still shows on a GPU: those that dead tickets noted, and those whose environment names
/// a ticket that nobody holds any more.
///
/// A list that is silent does not say that somebody has left, so then all noted ones that live count. The environment of other users'
/// processes can be read by root only.
pub fn leftovers(
    machine: &dyn Machine,
    directory: &Directory,
    gpu: &GpuUuid,
    earlier: &[ProcessId],
) -> Vec<ProcessId> {
    let usage = machine.usage(gpu);
    let on_gpu: BTreeSet<u32> = usage.processes().map(|it| it.1.pid).collect();
    let left = |pid: &u32| match Process::read(*pid) {
        Ok(process) => {
            let is_left =
                earlier.contains(&process.id) || ran_under_a_dead_ticket(directory, gpu, *pid);
            is_left.then_some(process.id)
        }
        // Gone for the kernel, and the driver has not tidied up behind it.
        Err(_) => earlier.iter().copied().find(|it| it.pid == *pid),
    };
    let seen = on_gpu.iter().filter_map(left);
    let knows = usage.compute.is_ok();
    let unseen = earlier.iter().copied().filter(|it| !knows && Process::is_alive(*it));
    seen.chain(unseen).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ran_under_a_dead_ticket(directory: &Directory, gpu: &GpuUuid, pid: u32) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let variable = format!("{VARIABLE}=");
    let values = environment
        .split(|it| *it == 0)
        .filter_map(|it| std::str::from_utf8(it.strip_prefix(variable.as_bytes())?).ok());
    values.filter_map(nested::parse).any(|(tickets, path)| {
        let is_over = |it: &nested::Stamped| !it.is_live(directory).unwrap_or(true);
        directory.is(path) && tickets.iter().filter(|it| it.name.gpu == *gpu).any(is_over)
    })
}
