use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_policy::{GpuUuid, Inventory};
use gpupin_run::{
    lease::{Directory, Holder, Place, Scope, earlier, is_idle, leftovers, lines},
    process::Process,
};
use serde::Serialize;

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    fix::time::rfc3339,
    lease::{name, of_user, time},
    machine::MachineArgs,
    report::write_json,
    state,
    terminal::{BOLD, Terminal, WARNING, one_line, shortened},
};

/// List who holds each GPU, and who waits for it
///
/// The user is the one the kernel knows. What is run, and since when, is what the holder says about itself. Leases on simulated GPUs are
/// listed too, and marked; they are in nobody's way but each other's.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gpupin lease ls\n  gpupin lease ls --watch\n  gpupin lease ls --output-format json"
)]
pub(crate) struct Args {
    /// List again whenever something changed, until Ctrl-C
    #[arg(long, conflicts_with = "output_format")]
    watch: bool,

    /// How to print the list
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    machine: MachineArgs,
}

/// How often it is looked for changes.
const PACE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Document {
    version: u32,
    /// `null` where no machine was asked.
    kind: Option<Kind>,
    directory: String,
    /// `machine` or `user`.
    scope: &'static str,
    gpus: Vec<Queue>,
}

#[derive(Serialize)]
struct Queue {
    uuid: GpuUuid,
    name: Option<String>,
    /// Whether it is no real GPU, so that nobody waits for it who wants a real one.
    simulated: bool,
    holders: Vec<Ticket>,
    waiting: Vec<Ticket>,
    /// Processes of holders that are over which the machine still shows on the GPU.
    leftovers: Vec<Leftover>,
}

#[derive(Serialize)]
struct Leftover {
    pid: u32,
    /// `null` where it is gone for the kernel.
    command: Option<String>,
}

#[derive(Serialize)]
struct Ticket {
    number: u64,
    slots: u32,
    /// Who made the ticket.
    uid: u32,
    /// Who locked it, as the kernel knows it; `null` where it does not tell.
    locked_by: Option<LockedBy>,
    pid: Option<u32>,
    /// Those of its program that were noted and live.
    processes: Vec<u32>,
    command: Option<String>,
    since: Option<String>,
    held_since: Option<String>,
    /// Seconds, as noted by who watches the program; `null` where nobody does.
    used_seconds: Option<f64>,
    used_noted: Option<String>,
    /// Whether the machine shows a process of the holder on the GPU now; `null` where that is not known.
    on_gpu_now: Option<bool>,
    idle: Option<String>,
    /// How long it has held or waited.
    #[serde(skip)]
    age: Option<Duration>,
}

#[derive(Serialize)]
struct LockedBy {
    pid: u32,
    /// `null` if that process has ended and left the lock to one that it started.
    uid: Option<u32>,
}

/// How many characters of a command are shown.
const COMMAND: usize = 80;

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    // The line is worth seeing on a machine whose driver is gone.
    let machine = args.machine.open_if_any();
    let machine = match machine {
        Ok(machine) => machine,
        Err(failure) => {
            let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
            terminal.warning(&format!("the machine was not asked: {}", lines.join(": ")));
            None
        }
    };
    let kind = machine.as_ref().map_or(Kind::Measured, |it| it.kind());
    let directory = state::leases(kind)?;
    let mut shown = None;
    loop {
        let now = SystemTime::now();
        let mut document = look(&directory, machine.as_deref(), kind, now)?;
        if kind == Kind::Measured
            && let Some(simulated) = state::simulated_leases()?
        {
            let simulated = look(&simulated, None, Kind::Simulated, now)?;
            document.gpus.extend(simulated.gpus);
        }
        match args.output_format {
            Format::Json => {
                write_json(&document, terminal.out()).context("failed to write output")?;
            }
            Format::Text => {
                let text = document.text(terminal.has_colour());
                let key = document.key();
                if shown.as_ref() != Some(&key) {
                    let gap = if shown.is_some() { "\n" } else { "" };
                    write!(terminal.out(), "{gap}{text}").context("failed to write output")?;
                    shown = Some(key);
                }
            }
        }
        if !args.watch || !terminal.pause(PACE).context("failed to write output")? {
            break;
        }
    }
    if directory.scope() == Scope::User {
        terminal.status(&of_user(&directory, kind));
    }
    Ok(Exit::Clean)
}

fn look(
    directory: &Directory,
    machine: Option<&dyn Machine>,
    kind: Kind,
    now: SystemTime,
) -> Result<Document, Failure> {
    let mut lines = lines(directory).context("failed to read the leases")?;
    let inventory = machine.and_then(|it| it.inventory().ok());
    let mut left = BTreeMap::new();
    if let (Some(machine), Some(inventory)) = (machine, &inventory) {
        left = left_over(directory, machine, inventory)?;
    }
    for uuid in left.keys() {
        lines.entry(uuid.clone()).or_default();
    }
    let known = |uuid: &GpuUuid| {
        let inventory = inventory.as_ref()?;
        inventory.get(uuid).map(|_| name(uuid, inventory))
    };
    let mut queue = |(uuid, line): (GpuUuid, Vec<Holder>)| {
        let on_gpu = machine.and_then(|it| on_gpu(it, &uuid));
        let ticket = |it: &Holder| Ticket::new(it, on_gpu.as_ref(), now);
        let (holders, waiting): (Vec<_>, Vec<_>) =
            line.iter().partition(|it| it.place == Place::Holds);
        Queue {
            name: known(&uuid),
            simulated: kind != Kind::Measured,
            leftovers: left.remove(&uuid).unwrap_or_default(),
            uuid,
            holders: holders.into_iter().map(ticket).collect(),
            waiting: waiting.into_iter().map(ticket).collect(),
        }
    };
    Ok(Document {
        version: 1,
        kind: machine.map(Machine::kind),
        directory: directory.path().display().to_string(),
        scope: match directory.scope() {
            Scope::Machine => "machine",
            Scope::User => "user",
        },
        gpus: lines.into_iter().map(&mut queue).collect(),
    })
}

/// What holders that are over have left, on the GPUs where they have.
fn left_over(
    directory: &Directory,
    machine: &dyn Machine,
    inventory: &Inventory,
) -> Result<BTreeMap<GpuUuid, Vec<Leftover>>, Failure> {
    let earlier = earlier(directory).context("failed to read the leases")?;
    let mut left = BTreeMap::new();
    for gpu in inventory.usable() {
        let noted = earlier.get(&gpu.uuid).map_or(&[][..], Vec::as_slice);
        let processes = leftovers(machine, directory, &gpu.uuid, noted);
        let named = processes.into_iter().map(|it| Leftover {
            pid: it.pid,
            command: Process::read(it.pid).ok().map(|it| it.command),
        });
        let named: Vec<_> = named.collect();
        if !named.is_empty() {
            left.insert(gpu.uuid.clone(), named);
        }
    }
    Ok(left)
}

/// The processes on a GPU, and their parents' parents; `None` if the machine does not tell all.
fn on_gpu(machine: &dyn Machine, gpu: &GpuUuid) -> Option<BTreeSet<u32>> {
    let usage = machine.usage(gpu);
    if usage.compute.is_err() || usage.graphics.is_err() {
        return None;
    }
    let mut pids: BTreeSet<u32> = usage.processes().map(|it| it.1.pid).collect();
    for pid in pids.clone() {
        let mut parent = Process::read(pid).ok()?.parent;
        while parent > 1 && pids.insert(parent) {
            parent = Process::read(parent).map_or(0, |it| it.parent);
        }
    }
    Some(pids)
}

impl Ticket {
    fn new(holder: &Holder, on_gpu: Option<&BTreeSet<u32>>, now: SystemTime) -> Self {
        let pid = holder.text.as_ref().map(|it| it.process.pid);
        let holds = holder.place == Place::Holds;
        let living = holder.processes.iter().filter(|it| Process::is_alive(**it));
        let processes: Vec<_> = living.map(|it| it.pid).collect();
        let on_gpu_now = on_gpu.filter(|_| holds).and_then(|all| {
            let is_seen = processes.iter().chain(&pid).any(|it| all.contains(it));
            // Only below a runner that lives, and has the number it gives, all of the program would be found.
            let runner = holder.text.as_ref().map(|it| it.process);
            let is_known = runner.is_some_and(|it| {
                Process::is_alive(it) && holder.locked_by.is_some_and(|by| by.0 == it.pid)
            });
            (is_seen || is_known).then_some(is_seen)
        });
        Self {
            number: holder.number,
            slots: holder.slots,
            uid: holder.uid,
            locked_by: holder.locked_by.map(|(pid, uid)| LockedBy { pid, uid }),
            pid,
            processes,
            command: holder.text.as_ref().map(|it| it.command.clone()),
            since: holder.came.map(rfc3339),
            held_since: holder.held.map(rfc3339),
            used_seconds: holder.used.map(|it| it.0.as_secs_f64()),
            used_noted: holder.used.map(|it| rfc3339(it.1)),
            on_gpu_now,
            idle: idle(holder, now).filter(|_| holds),
            age: holder.held.or(holder.came).and_then(|it| now.duration_since(it).ok()),
        }
    }
}

/// What is known of a holder that hardly uses its GPU. Who is not watched may use it all the time.
fn idle(holder: &Holder, now: SystemTime) -> Option<String> {
    let held = now.duration_since(holder.held?).ok()?;
    let (used, noted) = holder.used?;
    // What was used after it was noted is not known.
    let until = noted.duration_since(holder.held?).ok()?;
    is_idle(until, used).then(|| format!("held {}, GPU used {}", time(held), minutes(used)))
}

/// `0.4 min`.
fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}

/// What must change at a GPU for the list to be shown again.
#[derive(PartialEq)]
struct Shown {
    tickets: Vec<(u64, bool)>,
    leftovers: Vec<u32>,
}

impl Document {
    /// What must change for the list to be shown again.
    fn key(&self) -> BTreeMap<(String, bool), Shown> {
        let tickets = |it: &Queue| {
            let holders = it.holders.iter().map(|it| (it.number, true));
            let tickets = holders.chain(it.waiting.iter().map(|it| (it.number, false)));
            Shown {
                tickets: tickets.collect(),
                leftovers: it.leftovers.iter().map(|it| it.pid).collect(),
            }
        };
        let gpu = |it: &Queue| (it.uuid.to_string(), it.simulated);
        self.gpus.iter().map(|it| (gpu(it), tickets(it))).collect()
    }

    fn text(&self, colour: bool) -> String {
        let style = |style| if colour { style } else { <_>::default() };
        let (bold, warning) = (style(BOLD), style(WARNING));
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("a `String` takes everything");
            text.push('\n');
        };
        if self.gpus.is_empty() {
            line(format_args!("nobody holds or awaits a GPU"));
        }
        for queue in &self.gpus {
            let name = queue.name.as_deref().unwrap_or("a GPU this machine does not show");
            let mark = if queue.simulated { "  simulated" } else { "" };
            line(format_args!("{bold}{name}{bold:#}  {}{mark}", queue.uuid));
            for ticket in &queue.holders {
                line(format_args!("  held by {}", ticket.text()));
                if let Some(idle) = &ticket.idle {
                    line(format_args!("    {warning}idle:{warning:#} {idle}"));
                }
            }
            for left in &queue.leftovers {
                let command = left.command.as_deref().map_or("process".to_owned(), |it| {
                    format!("`{}`", shortened(&one_line(it), COMMAND))
                });
                line(format_args!(
                    "  still on it, of an earlier holder: {command} (pid {})",
                    left.pid
                ));
            }
            for (position, ticket) in (1..).zip(&queue.waiting) {
                line(format_args!("  {position}. {}", ticket.text()));
            }
        }
        text
    }
}

impl Ticket {
    /// `python train.py` (pid 4242, uid 1000, 12 min).
    fn text(&self) -> String {
        let command = self.command.as_deref().map_or("an unknown program".to_owned(), |it| {
            format!("`{}`", shortened(&one_line(it), COMMAND))
        });
        let pid = self.pid.map(|it| format!("pid {it}, ")).unwrap_or_default();
        let since = self.age.map(|it| format!(", {}", time(it))).unwrap_or_default();
        let locked = match &self.locked_by {
            Some(LockedBy { pid, uid: Some(uid) })
                if Some(*pid) != self.pid || *uid != self.uid =>
            {
                format!("; its lock has process {pid} of uid {uid}")
            }
            Some(LockedBy { uid: None, .. }) => {
                let pids: Vec<_> = self.processes.iter().map(|it| format!(" {it}")).collect();
                let which = match pids.as_slice() {
                    [] => String::new(),
                    [pid] => format!(": process{pid}"),
                    pids => format!(": processes{}", pids.join(",")),
                };
                format!("; its runner is gone, its program is not{which}")
            }
            _ => String::new(),
        };
        let is_left = matches!(self.locked_by, Some(LockedBy { uid: None, .. }));
        let now = match self.on_gpu_now {
            Some(false) => "; not on the GPU now",
            Some(true) if is_left => "; on the GPU now",
            _ => "",
        };
        format!("{command} ({pid}uid {}{since}){now}{locked}", self.uid)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use gpupin_run::lease::{Holder, Place};

    use super::idle;

    #[test]
    fn only_who_was_watched_for_long_and_used_little_is_idle() {
        let held = SystemTime::UNIX_EPOCH;
        let after = |minutes| held + Duration::from_mins(minutes);
        let holder = |used| Holder {
            number: 1,
            slots: 1,
            place: Place::Holds,
            uid: 0,
            locked_by: None,
            text: None,
            came: None,
            held: Some(held),
            used,
            processes: Vec::new(),
        };
        let check = |used, expected: Option<&str>| {
            assert_eq!(idle(&holder(used), after(25)).as_deref(), expected);
        };
        check(Some((Duration::from_secs(24), after(25))), Some("held 25 min, GPU used 0.4 min"));
        check(Some((Duration::from_mins(3), after(25))), None);
        // Nobody watched, or not for long.
        check(None, None);
        check(Some((Duration::ZERO, after(5))), None);
    }
}
