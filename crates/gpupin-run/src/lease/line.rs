use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;
use rustix::fs::Stat;

use super::{
    HolderText,
    directory::{Directory, DirectoryError, Found},
    locks::Locks,
    queue::{Ticket, holding},
    ticket::{Name, Text},
};
use crate::process::{Process, ProcessId};

/// Who holds a GPU, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub number: u64,
    /// How many holders it allows, itself among them.
    pub slots: u32,
    pub place: Place,
    /// Who made the ticket, as the file system knows it.
    pub uid: u32,
    /// Who locked it, as the kernel knows it: the process in our namespace and its real user. It may be gone, its lock inherited.
    /// Not looked up for who is only ahead.
    pub locked_by: Option<(u32, Option<u32>)>,
    /// As the ticket says; `None` where it says nothing that is understood.
    pub text: Option<HolderText>,
    /// When it came, as the ticket says.
    pub came: Option<SystemTime>,
    /// When it was its turn, as the ticket says.
    pub held: Option<SystemTime>,
    /// How long the program had used the GPU, and when that was noted. `None` where nobody watched.
    pub used: Option<(Duration, SystemTime)>,
    /// Processes of its program, as the ticket says.
    pub processes: Vec<ProcessId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Holds,
    /// From 1: who is next.
    Waits(usize),
}

/// Whether somebody who used a GPU for so long while it was held hardly uses it. Who is not watched may use it all the time.
pub fn is_idle(held: Duration, used: Duration) -> bool {
    const LONG: Duration = Duration::from_mins(10);
    const LITTLE: u32 = 20;
    held > LONG && used < held / LITTLE
}

/// The live tickets of every GPU that has any, in order.
pub fn lines(directory: &Directory) -> Result<BTreeMap<GpuUuid, Vec<Holder>>, DirectoryError> {
    let mut gpus: Vec<_> = directory.tickets()?.into_iter().map(|it| it.gpu).collect();
    gpus.sort();
    gpus.dedup();
    let mut lines = BTreeMap::new();
    for gpu in gpus {
        let line = line(directory, &gpu)?;
        if !line.is_empty() {
            lines.insert(gpu, line);
        }
    }
    Ok(lines)
}

/// Every process of holders that are over and whose tickets are still there, by GPU: what [`leftovers`](super::leftovers) wants to know.
pub fn earlier(directory: &Directory) -> Result<BTreeMap<GpuUuid, Vec<ProcessId>>, DirectoryError> {
    let mut earlier: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for name in directory.tickets()? {
        if let Found::Dead(text) = directory.probe(&name.to_string())?
            && text.held.is_some()
        {
            earlier.entry(name.gpu).or_default().extend(text.everybody());
        }
    }
    Ok(earlier)
}

/// The live tickets of one GPU, in order.
pub fn line(directory: &Directory, gpu: &GpuUuid) -> Result<Vec<Holder>, DirectoryError> {
    below(directory, gpu, None, &Locks::read())
}

/// The live tickets below one's own, and one's position in the line of those who wait.
pub(super) fn ahead(
    directory: &Directory,
    gpu: &GpuUuid,
    own: Option<Ticket>,
) -> Result<(usize, Vec<Holder>), DirectoryError> {
    // Reading all locks of the machine makes everybody's locks wait, so who only waits does not.
    let ahead = below(directory, gpu, own, &Locks::none())?;
    let waiting = ahead.iter().filter(|it| it.place != Place::Holds).count();
    Ok((waiting + 1, ahead))
}

fn below(
    directory: &Directory,
    gpu: &GpuUuid,
    own: Option<Ticket>,
    locks: &Locks,
) -> Result<Vec<Holder>, DirectoryError> {
    let mut tickets = directory.tickets_of(gpu)?;
    tickets.retain(|it| own.is_none_or(|own| it.number < own.number));
    tickets.sort_unstable();
    let mut live = Vec::new();
    for ticket in tickets {
        let name = Name { gpu: gpu.clone(), ticket }.to_string();
        if let Found::Live(fd) = directory.probe(&name)? {
            let (text, stat) = directory.read(&name, fd)?;
            live.push((ticket, text, stat));
        }
    }
    let tickets: Vec<_> = live.iter().map(|it| it.0).collect();
    let holding = holding(&tickets);
    let place =
        |index| if index < holding { Place::Holds } else { Place::Waits(index - holding + 1) };
    Ok((0..).zip(live).map(|(index, it)| holder(place(index), locks, it)).collect())
}

fn holder(place: Place, locks: &Locks, (ticket, text, stat): (Ticket, Text, Stat)) -> Holder {
    let locked_by = locks.holder(&stat).map(|pid| (pid, Process::read(pid).ok().map(|it| it.uid)));
    Holder {
        number: ticket.number,
        slots: ticket.slots,
        place,
        uid: stat.st_uid,
        locked_by,
        text: text.holder,
        came: text.came,
        held: text.held,
        used: text.used,
        processes: text.processes,
    }
}
