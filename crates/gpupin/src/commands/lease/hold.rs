use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::Context as _;
use gpupin_policy::{GpuUuid, Inventory, UuidPrefix};
use gpupin_run::{
    lease as leases,
    supervise::{Ended, Group, Happening, Program, Supervised},
};

use crate::{
    commands::run::wait_time,
    failure::{Exit, Failure},
    lease::{self, Held, Wish},
    machine::MachineArgs,
    names::{self, Names},
    project::{self, ProjectArgs},
    run::{choice, words},
    terminal::Terminal,
};

/// Wait until the GPU is free, and leave it to others
///
/// Takes a place in the line like any other, and gives it back as soon as it is first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it is free, 2 usage or configuration, 3 no GPU matches, 75 it was not free in time"
)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    which: Which,
}

/// Hold the GPU while a program runs, and change nothing else about it
///
/// The program is not pinned and not watched: for services and scripts that choose the GPU themselves and shall take turns with
/// others. `gpupin run` also pins and proves. The GPU is given back when the program and everything that it started has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", names::HELP))]
pub(crate) struct Args {
    /// Program and arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    command: Vec<OsString>,

    #[command(flatten)]
    which: Which,
}

const EXAMPLES: &str = "\
Examples:
  gpupin lease hold -- ./benchmark.sh                 the policy's GPU
  gpupin lease hold --gpu GPU-8932f937 -- bash        a shell that has the GPU for itself

Exit codes: those of the program, 126 it cannot be started, 127 it was not found, 128+n signal n ended it; 2 usage or
configuration, 3 no GPU matches, 75 the GPU was not had in time";

#[derive(Debug, clap::Args)]
struct Which {
    /// UUID of the GPU, or how it begins, instead of the policy's (can be repeated)
    #[arg(long, value_name = "UUID")]
    gpu: Vec<UuidPrefix>,

    /// The GPU of this role
    #[arg(long, value_name = "NAME", conflicts_with = "gpu")]
    role: Option<String>,

    /// How many holders the GPU may have at once, instead of what the policy says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,

    /// Wait this long, such as `30s` or `2h`, instead of what the policy says
    #[arg(long, value_name = "TIME", value_parser = wait_time)]
    timeout: Option<Duration>,

    /// Fail if the GPU is not free now
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    #[command(flatten)]
    project: ProjectArgs,

    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn wait(args: &WaitArgs, terminal: &mut Terminal) -> Result<Exit, Failure> {
    drop(args.which.take(&args.which.names(), "gpupin lease wait".to_owned(), terminal)?);
    Ok(Exit::Clean)
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let names = args.which.names();
    let (held, inventory) = args.which.take(&names, words::command(&args.command), terminal)?;
    let gpus: Vec<_> = held.gpus().iter().map(|it| lease::name(it, &inventory)).collect();
    let ended = stay(&args.command, names.variables(), held, &gpus.join(" and the "), terminal)?;
    Ok(Exit::Program(ended.code()))
}

impl Which {
    fn names(&self) -> Names {
        let mut names = Names::new(self.role.as_deref(), &self.project);
        if !self.gpu.is_empty() {
            // It is no role's GPU, whatever the environment says.
            names.role = None;
        }
        names
    }

    fn take(
        &self,
        names: &Names,
        command: String,
        terminal: &mut Terminal,
    ) -> Result<(Held, Inventory), Failure> {
        // Who names the GPU needs no policy for it.
        let project = if self.gpu.is_empty() {
            project::open(&names.project, None, terminal)?
        } else {
            project::open_or_place(&names.project, terminal)?
        };
        let machine = self.machine.open()?;
        let inventory = machine.inventory().context("failed to list the GPUs")?;
        let (gpus, count) = if self.gpu.is_empty() {
            choice::meant(names.role.as_deref(), &project, &inventory)
                .map_err(|it| choice::with_unknown(it, &*machine))?
        } else {
            let gpus = by_uuid(&self.gpu, &inventory)?;
            let count = gpus.len();
            (gpus, count)
        };
        let policy = project.policy.lease;
        let patience =
            if self.no_wait { Duration::ZERO } else { self.timeout.unwrap_or(policy.timeout) };
        let wish = Wish {
            gpus,
            count,
            slots: self.slots.unwrap_or(policy.slots),
            command,
            patience,
            holder: None,
            machine: &*machine,
            inventory: &inventory,
        };
        let held = lease::take(&wish, terminal)?;
        Ok((held, inventory))
    }
}

/// Each prefix means one GPU.
fn by_uuid(prefixes: &[UuidPrefix], inventory: &Inventory) -> Result<Vec<GpuUuid>, Failure> {
    let mut gpus = Vec::new();
    for prefix in prefixes {
        let matching: Vec<_> =
            inventory.usable().filter(|it| prefix.matches(it.uuid.as_str())).collect();
        match matching.as_slice() {
            [gpu] => gpus.push(gpu.uuid.clone()),
            [] => {
                let all =
                    inventory.usable().map(|it| format!("{} is {}", it.uuid, it.short_name()));
                let failure =
                    Failure::new(Exit::NoGpu, anyhow::anyhow!("no GPU is called `{prefix}`"));
                return Err(all.fold(failure, Failure::hint));
            }
            _ => return Err(Failure::usage(format!("`{prefix}` is more than one GPU"))),
        }
    }
    gpus.sort();
    gpus.dedup();
    Ok(gpus)
}

/// Runs the program, and stays until everything it started has ended.
fn stay(
    command: &[OsString],
    mut variables: Vec<(String, OsString)>,
    held: Held,
    gpu: &str,
    terminal: &mut Terminal,
) -> Result<Ended, Failure> {
    let (name, args) = command.split_first().expect("clap wants a program");
    if !held.is_nested() {
        variables.push((leases::VARIABLE.to_owned(), held.variable().into()));
    }
    let has_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
    let program = Program {
        name: name.clone(),
        args: args.to_vec(),
        variables,
        group: if has_terminal { Group::Shared } else { Group::Own },
        inherits: held.descriptors().collect(),
    };
    let started = Supervised::start(program);
    let mut supervised = match started {
        Ok(supervised) => supervised,
        Err(error) => {
            let exit = Exit::Program(error.code());
            return Err(Failure::new(exit, error));
        }
    };
    let mut held = held;
    // Where this process is killed, the next holder waits until the program is off the GPU.
    held.entrust();
    held.note_process(supervised.program());
    held.tidy();
    let mut result = Ended::Code(0);
    loop {
        match supervised.next().context("failed to wait for the program")? {
            Happening::Ended(ended) => {
                result = ended;
                let left = supervised.living().len();
                if left > 0 {
                    let still = if left == 1 {
                        "a process it started has".to_owned()
                    } else {
                        format!("{left} processes it started have")
                    };
                    terminal.status(&format!(
                        "`{}` has ended; the {gpu} stays held until {still} ended too",
                        words::command(command)
                    ));
                }
            }
            Happening::Empty => {
                held.take_back();
                return Ok(result);
            }
            Happening::Woken | Happening::Killed => {}
        }
    }
}
