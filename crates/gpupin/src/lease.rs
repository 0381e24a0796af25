//! Taking a lease, visibly: what `gpupin run` and `gpupin lease` have in common.

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_policy::{GpuUuid, Inventory};
use gpupin_run::{
    lease::{
        self, Cancel, Directory, Holder, HolderText, Hooks, Lease, LeaseError, Outer, Patience,
        Place, Request, Scope, Waiting, WaitsFor,
    },
    log::{self, Entry, Event},
    process::{Process, ProcessId},
};

use crate::{
    failure::{Exit, Failure},
    state,
    terminal::{Terminal, one_line},
};

/// What is to be held.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The GPUs that would do.
    pub(crate) gpus: Vec<GpuUuid>,
    pub(crate) count: usize,
    pub(crate) slots: u32,
    /// What they are held for, for people.
    pub(crate) command: String,
    /// Zero does not wait.
    pub(crate) patience: Duration,
    /// Who will hold them; without it this process.
    pub(crate) holder: Option<ProcessId>,
    pub(crate) machine: &'a dyn Machine,
    pub(crate) inventory: &'a Inventory,
}

/// A lease that is noted in the log of the machine when it is given back.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Lease,
    directory: Directory,
    kind: Kind,
    holder: ProcessId,
    command: String,
    since: SystemTime,
}

/// Waits for GPUs, and tells who is in the way.
pub(crate) fn take(wish: &Wish<'_>, terminal: &mut Terminal) -> Result<Held, Failure> {
    let directory = state::leases(wish.machine.kind())?;
    if directory.scope() == Scope::User {
        terminal.verbose(|| of_user(&directory, wish.machine.kind()));
    }
    let this = ProcessId::this().context("failed to read `/proc`")?;
    let outer = std::env::var(lease::VARIABLE).ok();
    let holder = wish.holder.unwrap_or(this);
    let request = Request {
        gpus: wish.gpus.clone(),
        count: wish.count,
        slots: wish.slots,
        holder: HolderText { process: holder, command: wish.command.clone() },
        outer: outer.and_then(|it| Outer::find(&directory, &it)),
        patience: Patience::For(wish.patience),
    };
    let mut said = None;
    let mut tell = |waiting: &Waiting| {
        let now = SystemTime::now();
        // A line when something changes; on a terminal also a clock that runs.
        let news = key(waiting);
        if said.as_ref() != Some(&news) {
            said = Some(news);
            terminal.status(&text(waiting, wish.inventory, now));
        }
        let (waited, of) = (time(waiting.waited), time(wish.patience));
        terminal.progress(|| {
            format!("{}; waited {waited} of {of}", text(waiting, wish.inventory, now))
        });
    };
    let mut clear = |gpu: &GpuUuid, earlier: &[ProcessId]| {
        lease::leftovers(wish.machine, &directory, gpu, earlier)
    };
    let result = lease::acquire(
        &directory,
        &request,
        &mut Hooks {
            tell: &mut tell,
            clear: &mut clear,
            cancel: &Cancel::default(),
            clock: SystemTime::now,
        },
    );
    let (kind, command) = (wish.machine.kind(), wish.command.clone());
    match result {
        Ok(lease) => {
            let (gpus, waited) = (lease.gpus().to_vec(), lease.waited());
            let since = SystemTime::now();
            let held = Held { lease, directory, kind, holder, command, since };
            // With more slots, or in an outer lease, others may be on it.
            if !held.is_nested() {
                if wish.slots == 1 {
                    warn_of_others(
                        held.gpus(),
                        wish.machine,
                        wish.inventory,
                        wish.holder,
                        terminal,
                    );
                }
                held.note(Event::LeaseTaken { gpus, waited_ms: milliseconds(waited) });
            }
            Ok(held)
        }
        Err(error) => {
            if let LeaseError::Busy { waiting } | LeaseError::BusyInside { waiting } = &error {
                let event = Event::LeaseNotHad {
                    gpus: request.gpus.clone(),
                    waited_ms: milliseconds(waiting.waited),
                    why: error.to_string(),
                };
                let entry = Entry::new(SystemTime::now(), kind, holder, &command, event);
                // It is for reports, and no reason to do anything else.
                drop(log::append(&directory, &entry));
            }
            Err(failure(error, wish))
        }
    }
}

/// Says which processes compute on the GPUs before the program starts.
pub(crate) fn warn_of_others(
    gpus: &[GpuUuid],
    machine: &dyn Machine,
    inventory: &Inventory,
    holder: Option<ProcessId>,
    terminal: &mut Terminal,
) {
    for gpu in gpus {
        let Ok(mut others) = machine.usage(gpu).compute else { continue };
        others.retain(|it| holder.is_none_or(|holder| holder.pid != it.pid));
        let named = |pid| match Process::read(pid) {
            Ok(process) => format!("pid {pid} `{}`", one_line(&process.command)),
            Err(_) => format!("pid {pid}"),
        };
        let named: Vec<_> = others.iter().map(|it| named(it.pid)).collect();
        let count = match named.len() {
            0 => continue,
            1 => "a process that is".to_owned(),
            count => format!("{count} processes that are"),
        };
        let (gpu, named) = (name(gpu, inventory), named.join(", "));
        terminal.warning(&format!("the {gpu} is used by {count} not of this run: {named}"));
    }
}

impl Held {
    /// Leaves the GPUs to the processes that have its descriptors.
    pub(crate) fn leave(mut self) {
        self.lease.entrust();
    }

    fn note(&self, event: Event) {
        let entry = Entry::new(SystemTime::now(), self.kind, self.holder, &self.command, event);
        // It is for reports, and no reason not to run.
        drop(log::append(&self.directory, &entry));
    }
}

impl Deref for Held {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Lease {
        &mut self.lease
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What an outer lease holds, or the program keeps, is not given back.
        if !self.lease.ends_here() {
            return;
        }
        let held = self.since.elapsed().unwrap_or_default();
        let gpus = self.lease.gpus().to_vec();
        self.note(Event::LeaseGivenBack { gpus, held_ms: milliseconds(held) });
    }
}

/// Between whom leases are where no directory is shared.
pub(crate) fn of_user(directory: &Directory, kind: Kind) -> String {
    if kind != Kind::Measured {
        let path = directory.path().display();
        return format!("{kind} leases are kept in `{path}`, apart from those on real GPUs");
    }
    format!(
        "leases are kept in `{}`, where only this user's programs see them; an administrator makes them the machine's with \
         `install -d -m 1777 /run/gpupin`",
        directory.path().display()
    )
}

fn failure(error: LeaseError, wish: &Wish<'_>) -> Failure {
    let who = |waiting: &Waiting| text(waiting, wish.inventory, SystemTime::now());
    match &error {
        LeaseError::Busy { waiting } => {
            let who = who(waiting);
            let hint = if wish.patience.is_zero() {
                "`--timeout 10min` waits for its turn, `gpupin lease ls` shows who holds what"
            } else {
                "`--timeout` waits longer, `gpupin lease ls` shows who holds what"
            };
            let gpu = name(&waiting.gpu, wish.inventory);
            let when =
                if wish.patience.is_zero() { "is not free now" } else { "was not free in time" };
            Failure::new(Exit::Busy, anyhow::anyhow!("the {gpu} {when}")).hint(who).hint(hint)
        }
        LeaseError::BusyInside { waiting } => {
            let who = who(waiting);
            Failure::new(Exit::Busy, error)
                .hint(who)
                .hint("start the outer program with all GPUs it needs, or this one outside of it")
        }
        LeaseError::Cancelled => Failure::new(Exit::Busy, error),
        LeaseError::Directory(_) => Failure::new(Exit::Failed, error)
            .hint("`GPUPIN_STATE_DIR` names another directory for leases"),
        _ => Failure::new(Exit::Failed, error),
    }
}

/// What must change for a new line to be worth it.
fn key(waiting: &Waiting) -> (GpuUuid, usize, Vec<u64>) {
    let (position, ahead) = match &waiting.what {
        WaitsFor::Turn { position, ahead } => {
            let holders = ahead.iter().filter(|it| it.place == Place::Holds);
            (*position, holders.map(|it| it.number).collect())
        }
        WaitsFor::Leftovers(processes) => {
            (0, processes.iter().map(|it| u64::from(it.pid)).collect())
        }
        WaitsFor::QueueLock(pid) => (0, pid.iter().map(|it| u64::from(*it)).collect()),
    };
    (waiting.gpu.clone(), position, ahead)
}

/// `waiting for the RTX 3090: 2nd in line behind …`.
fn text(waiting: &Waiting, inventory: &Inventory, now: SystemTime) -> String {
    let gpu = name(&waiting.gpu, inventory);
    match &waiting.what {
        WaitsFor::Turn { position, ahead } => {
            let holders: Vec<_> = ahead.iter().filter(|it| it.place == Place::Holds).collect();
            let behind = match holders.as_slice() {
                [] => String::new(),
                [holder] => format!(" behind {}", described(holder, now)),
                [holder, more @ ..] => {
                    format!(" behind {} and {} more", described(holder, now), more.len())
                }
            };
            format!("waiting for the {gpu}: {} in line{behind}", ordinal(*position))
        }
        WaitsFor::Leftovers(processes) => {
            let named: Vec<_> = processes.iter().map(|it| process(it.pid)).collect();
            let is = if named.len() == 1 { "is" } else { "are" };
            format!(
                "waiting for the {gpu}: an earlier holder's {} {is} still on it",
                named.join(", ")
            )
        }
        WaitsFor::QueueLock(Some(pid)) => {
            format!("waiting for the queue of the {gpu}, which {} has locked", process(*pid))
        }
        WaitsFor::QueueLock(None) => {
            format!("waiting for the queue of the {gpu}, which somebody has locked")
        }
    }
}

/// `python train.py` (pid 4242, 12 min).
pub(crate) fn described(holder: &Holder, now: SystemTime) -> String {
    let since = holder.held.or(holder.came).and_then(|it| now.duration_since(it).ok());
    let since = since.map(|it| format!(", {}", time(it))).unwrap_or_default();
    match &holder.text {
        Some(text) => format!("`{}` (pid {}{since})", one_line(&text.command), text.process),
        None => format!("a process of uid {}", holder.uid),
    }
}

fn process(pid: u32) -> String {
    match Process::read(pid) {
        Ok(process) => format!("`{}` (pid {pid})", one_line(&process.command)),
        Err(_) => format!("process {pid}"),
    }
}

/// The GPU without vendor words, as far as the machine knows it; twins with their UUIDs.
pub(crate) fn name(uuid: &GpuUuid, inventory: &Inventory) -> String {
    let Some(gpu) = inventory.get(uuid) else { return format!("GPU {uuid}") };
    let name = gpu.short_name();
    let twins = inventory.usable().filter(|it| it.short_name() == name).count();
    if twins > 1 { format!("{name} ({uuid})") } else { name }
}

/// `1st`, `2nd`, `11th`.
fn ordinal(number: usize) -> String {
    let end = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// A time for people, with one unit: `0.4 s`, `12 s`, `25 min`, `3.5 h`.
#[expect(clippy::cast_precision_loss, reason = "hours are far below 2^52")]
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use gpupin_device::Kind;
    use gpupin_policy::Inventory;
    use gpupin_run::{
        lease::{
            self, Cancel, Directory, Holder, HolderText, Hooks, Outer, Patience, Place, Request,
            Waiting, WaitsFor,
        },
        log::{self, Event},
        process::ProcessId,
    };

    use super::{Held, ordinal, text, time};

    /// Takes a GPU, lets something become of it, and counts how often it is said to have been given back.
    #[track_caller]
    fn check_given_back(outer: Option<&str>, directory: &Directory, with: fn(&mut Held)) -> usize {
        let gpu = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6".parse().unwrap();
        let holder = HolderText { process: ProcessId::this().unwrap(), command: "true".to_owned() };
        let request = Request {
            gpus: vec![gpu],
            count: 1,
            slots: 1,
            holder,
            outer: outer.and_then(|it| Outer::find(directory, it)),
            patience: Patience::For(Duration::ZERO),
        };
        let lease = lease::acquire(
            directory,
            &request,
            &mut Hooks {
                tell: &mut |_| {},
                clear: &mut |_, _| Vec::new(),
                cancel: &Cancel::default(),
                clock: SystemTime::now,
            },
        );
        let mut held = Held {
            lease: lease.unwrap(),
            directory: directory.clone(),
            kind: Kind::Measured,
            holder: ProcessId::this().unwrap(),
            command: "true".to_owned(),
            since: SystemTime::now(),
        };
        with(&mut held);
        if outer.is_none() {
            let variable = held.variable();
            assert_eq!(check_given_back(Some(&variable), directory, |_| {}), 0);
        }
        drop(held);
        let entries = log::read(directory).unwrap();
        entries.iter().filter(|it| matches!(it.event, Event::LeaseGivenBack { .. })).count()
    }

    #[test]
    fn only_what_was_given_back_is_logged_so() {
        let check = |with: fn(&mut Held), expected| {
            let place = tempfile::tempdir().unwrap();
            let directory = Directory::open(place.path()).unwrap();
            assert_eq!(check_given_back(None, &directory, with), expected);
        };
        check(|_| {}, 1);
        // As after a failure beside the program, which lives on and keeps it.
        check(|it| it.entrust(), 0);
        check(
            |it| {
                it.entrust();
                it.take_back();
            },
            1,
        );
    }

    #[test]
    fn places_in_line_are_said_as_people_say_them() {
        let said = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal);
        assert_eq!(
            said,
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
        );
    }

    #[test]
    fn times_have_one_unit() {
        let said =
            [400, 12_000, 90_000, 1_500_000, 12_600_000].map(Duration::from_millis).map(time);
        assert_eq!(said, ["0.4 s", "12 s", "90 s", "25 min", "3.5 h"]);
    }

    fn inventory() -> Inventory {
        gpupin_device::Scene::parse(include_str!("../../../scenes/mixed.toml")).unwrap().inventory()
    }

    #[test]
    fn who_waits_learns_for_what() {
        let now = SystemTime::now();
        let holder = |number, place, command: &str| Holder {
            number,
            slots: 1,
            place,
            uid: 1000,
            locked_by: None,
            text: Some(HolderText {
                process: ProcessId { pid: 4242, started: 1 },
                command: command.to_owned(),
            }),
            came: None,
            held: Some(now - Duration::from_mins(12)),
            used: None,
            processes: Vec::new(),
        };
        let check = |what, expected: &str| {
            let gpu = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6".parse().unwrap();
            let waiting = Waiting { gpu, what, waited: Duration::ZERO };
            assert_eq!(text(&waiting, &inventory(), now), expected);
        };
        let holds = || holder(1, Place::Holds, "python train.py");
        let ahead = vec![holds(), holder(2, Place::Waits(1), "pytest")];
        check(
            WaitsFor::Turn { position: 2, ahead },
            "waiting for the RTX 3090: 2nd in line behind `python train.py` (pid 4242, 12 min)",
        );
        let ahead = vec![holds(), holder(2, Place::Holds, "pytest")];
        check(
            WaitsFor::Turn { position: 1, ahead },
            "waiting for the RTX 3090: 1st in line behind `python train.py` (pid 4242, 12 min) and 1 more",
        );
        let ahead = vec![Holder { text: None, ..holds() }];
        check(
            WaitsFor::Turn { position: 1, ahead },
            "waiting for the RTX 3090: 1st in line behind a process of uid 1000",
        );
        let ghost = ProcessId { pid: u32::MAX, started: 1 };
        check(
            WaitsFor::Leftovers(vec![ghost]),
            "waiting for the RTX 3090: an earlier holder's process 4294967295 is still on it",
        );
        check(
            WaitsFor::QueueLock(None),
            "waiting for the queue of the RTX 3090, which somebody has locked",
        );
    }
}
