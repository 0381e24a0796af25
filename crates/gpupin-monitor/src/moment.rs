//! Everything that is known of one moment: the machine, the leases, and what the driver reported since the last one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;
use gpupin_run::{
    lease::{self, Directory, Holder, Place},
    process::Process,
};

use crate::snapshot::{GpuNow, Snapshot};

/// The version of [`Moment`] as JSON.
pub const VERSION: u32 = 1;

/// One moment. It is kept, published and shown as a whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moment {
    pub version: u32,
    /// Milliseconds since 1970.
    pub at: u64,
    /// Microseconds that asking took.
    pub took: u64,
    /// `None` where the machine did not answer, which is a gap and not a machine at rest.
    pub machine: Option<Snapshot>,
    /// Why it did not.
    pub gap: Option<String>,
    /// Who holds or awaits a GPU, holders first, in order. `None` where that could not be read.
    pub leases: Option<Vec<Ticket>>,
    pub xids: Vec<XidNow>,
}

/// Who holds or awaits a GPU.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ticket {
    pub gpu: GpuUuid,
    pub number: u64,
    pub slots: u32,
    /// 0 holds; 1 is next.
    pub position: usize,
    pub uid: u32,
    pub pid: Option<u32>,
    pub command: Option<String>,
    /// Milliseconds since 1970, as the ticket says.
    pub came: Option<u64>,
    pub held: Option<u64>,
    /// Milliseconds for which its program had used the GPU, and when that was noted. `None` where nobody watches it.
    pub used: Option<(u64, u64)>,
}

/// An error that the driver reported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct XidNow {
    pub at: u64,
    pub gpu: GpuUuid,
    pub number: u64,
}

impl Ticket {
    /// Whether it holds a GPU and hardly uses it, as far as somebody watches. Who is not watched may use it all the time.
    pub fn is_idle(&self) -> bool {
        let (Some(held), Some((used, noted))) = (self.held, self.used) else { return false };
        // What was used after it was noted is not known.
        let until = Duration::from_millis(noted.saturating_sub(held));
        self.position == 0 && lease::is_idle(until, Duration::from_millis(used))
    }
}

impl Moment {
    /// The GPUs and instances; none in a gap.
    pub fn gpus(&self) -> &[GpuNow] {
        self.machine.as_ref().map_or(&[], |it| &it.gpus)
    }
}

/// Milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the leases, and tells of each process in the snapshot whether it works under one.
pub(crate) fn leases(directory: &Directory, machine: Option<&mut Snapshot>) -> Option<Vec<Ticket>> {
    let lines = lease::lines(directory).ok()?;
    if let Some(machine) = machine {
        let holders: BTreeMap<_, _> =
            lines.iter().map(|(gpu, line)| (gpu, holding(line))).collect();
        for gpu in &mut machine.gpus {
            let holders = holders.get(&gpu.uuid);
            for process in gpu.processes.iter_mut().filter(|it| !it.stranger) {
                process.leased = Some(holders.is_some_and(|it| is_below(process.pid, it)));
            }
        }
    }
    Some(lines.into_iter().flat_map(|(gpu, line)| tickets(&gpu, line)).collect())
}

fn tickets(gpu: &GpuUuid, line: Vec<Holder>) -> impl Iterator<Item = Ticket> + use<> {
    let gpu = gpu.clone();
    line.into_iter().map(move |it| Ticket {
        gpu: gpu.clone(),
        number: it.number,
        slots: it.slots,
        position: match it.place {
            Place::Holds => 0,
            Place::Waits(position) => position,
        },
        uid: it.uid,
        pid: it.text.as_ref().map(|it| it.process.pid),
        command: it.text.map(|it| it.command),
        came: it.came.map(milliseconds),
        held: it.held.map(milliseconds),
        used: it.used.map(|(used, at)| {
            (u64::try_from(used.as_millis()).unwrap_or(u64::MAX), milliseconds(at))
        }),
    })
}

/// The processes that are known to work for those who hold a GPU.
fn holding(line: &[Holder]) -> BTreeSet<u32> {
    let holders = line.iter().filter(|it| it.place == Place::Holds);
    let of = |it: &Holder| {
        let noted = it.processes.iter().filter(|it| Process::is_alive(**it)).map(|it| it.pid);
        let runner = it.text.as_ref().map(|it| it.process);
        let runner = runner.filter(|it| Process::is_alive(*it)).map(|it| it.pid);
        noted.chain(runner).chain(it.locked_by.map(|it| it.0)).collect::<Vec<_>>()
    };
    holders.flat_map(of).collect()
}

/// Whether a process or one of its ancestors is among these.
fn is_below(mut pid: u32, holders: &BTreeSet<u32>) -> bool {
    while pid > 1 {
        if holders.contains(&pid) {
            return true;
        }
        let Ok(process) = Process::read(pid) else { return false };
        pid = process.parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::Moment;

    #[test]
    fn the_golden_file_is_read_and_written_as_it_is() {
        let golden = expect_file!["../../../wire/moment.json"];
        let moment: Moment = serde_json::from_str(&golden.data()).unwrap();
        golden.assert_eq(&(serde_json::to_string_pretty(&moment).unwrap() + "\n"));
    }
}
