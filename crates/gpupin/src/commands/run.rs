use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use gpupin_device::Machine;
use gpupin_policy::{InvalidValue, OnMissing, OnViolation, duration};

use crate::{
    failure::{Exit, Failure},
    machine::MachineArgs,
    machine::has_no_driver,
    names::{self, Names},
    project::{self, ProjectArgs},
    run::{self, LeaseWish, Order},
    terminal::Terminal,
};

/// Run a program on the GPU the policy declares, and write down where it ran
///
/// Waits until the GPU is free, holds it, and starts the program with nothing else visible. Watches which GPUs its processes
/// use until the last of them has ended, and leaves evidence in `.gpupin/evidence`: proved, violated, or unproved and why.
///
/// Signals, the terminal and the exit code are the program's. A program that uses another GPU is ended, and the exit code is 76.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = format!("{EXAMPLES}\n\n{}", names::HELP))]
pub(crate) struct Args {
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,

    /// Use the GPU of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Keep the other GPUs out of the program's reach, as far as the kernel allows
    #[arg(long)]
    isolate: bool,

    /// Wait this long for the GPU, such as `30s` or `2h`, instead of what the policy says
    #[arg(long, value_name = "TIME", value_parser = wait_time)]
    timeout: Option<Duration>,

    /// Fail if the GPU is not free now
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    /// Take no lease, so that others may use the GPU meanwhile
    #[arg(long, conflicts_with_all = ["timeout", "no_wait"])]
    no_lease: bool,

    /// Watch nothing and leave no evidence
    #[arg(long)]
    no_observe: bool,

    /// What to do with a program that uses another GPU, instead of what the policy says
    #[arg(long, value_enum, value_name = "ACTION", conflicts_with = "no_observe")]
    on_violation: Option<Action>,

    /// Put the evidence there
    #[arg(long, value_name = "DIR", conflicts_with = "no_observe")]
    evidence_dir: Option<PathBuf>,

    /// Write the name of the evidence to this file, for programs that run gpupin
    #[arg(long, hide = true, value_name = "FILE")]
    name_evidence_in: Option<PathBuf>,

    #[command(flatten)]
    project: ProjectArgs,

    #[command(flatten)]
    machine: MachineArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin run -- python train.py
  gpupin run --no-wait -- pytest            fail at once if the GPU is in use
  gpupin run --role tts --isolate -- ./serve

Exit codes: those of the program, 126 it cannot be started, 127 it was not found, 128+n signal n ended it; 2 usage,
configuration, or no evidence of a program that ended with 0, 3 no GPU matches, 75 the GPU was not had in time, 76 it used
another GPU, whatever else failed";

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Action {
    /// End it
    Kill,
    /// Let it run, and say so
    Warn,
}

pub(crate) fn wait_time(text: &str) -> Result<Duration, InvalidValue> {
    duration(text)
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let names = Names::new(args.role.as_deref(), &args.project);
    let project = project::open(&names.project, None, terminal)?;
    let policy = &project.policy;
    let lease = match (args.no_lease, args.no_wait, args.timeout) {
        (true, _, _) => LeaseWish::None,
        (_, true, _) => LeaseWish::Within(Duration::ZERO),
        (_, _, timeout) => LeaseWish::Within(timeout.unwrap_or(policy.lease.timeout)),
    };
    let order = Order {
        names,
        lease,
        isolate: args.isolate,
        observe: !args.no_observe,
        on_violation: match args.on_violation {
            None => policy.run.on_violation,
            Some(Action::Kill) => OnViolation::Kill,
            Some(Action::Warn) => OnViolation::Warn,
        },
        evidence_directory: args.evidence_dir.clone(),
        command: args.command.clone(),
    };
    let machine: Arc<dyn Machine> = match args.machine.open() {
        Ok(machine) => Arc::from(machine),
        Err(failure) if policy.run.on_missing == OnMissing::Cpu && has_no_driver(&failure) => {
            return Ok(run::without_gpu(&order, &project, terminal)?.exit);
        }
        Err(failure) => return Err(failure),
    };
    // The end of this process, which is near then, stops the driver's library as well, and nobody has to wait for it.
    std::mem::forget(Arc::clone(&machine));
    let finished = run::run(&order, &project, machine, terminal)?;
    if let (Some(file), Some(path)) = (&args.name_evidence_in, &finished.evidence) {
        let written = std::fs::write(file, path.as_os_str().as_encoded_bytes())
            .with_context(|| format!("failed to write `{}`", file.display()));
        match (written, finished.exit) {
            // It goes before every other code.
            (Err(error), Exit::Violation) => terminal.error(&format!("{error:#}")),
            (written, _) => written?,
        }
    }
    Ok(finished.exit)
}
