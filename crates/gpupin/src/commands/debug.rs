use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_device::cuda::{CudaError, CudaView, HeldMemory};
use gpupin_lint::{selection::Selection, survey::Surveyor};
use gpupin_policy::{Bytes, Policy};

use crate::{
    commands::undo,
    failure::{Exit, Failure},
    fix::{self, Change, Description, TreeLock, steps},
    machine, project, reference,
    report::write_json,
    run::isolation,
    terminal::Terminal,
    which::facts::{Fact, facts},
};

mod lease_client;

/// Chores for who develops gpupin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the pages under `docs/reference`
    Docs {
        /// Where to
        #[arg(long)]
        dir: PathBuf,
    },
    /// Print the literals that make a Python file worth parsing, for comparison with other tools
    Needles,
    /// Change files as `gpupin fix` does, to what a JSON list on standard input says
    ///
    /// The lock is taken before standard input is read. `GPUPIN_FAIL_AT=N` ends the process before its
    /// Nth change of the file system, from 0.
    Write {
        /// The root of the project
        #[arg(long, default_value = ".")]
        root: PathBuf,
        /// List every change of the file system on standard error
        #[arg(long)]
        trace: bool,
        /// What the clock says, in seconds since 1970
        #[arg(long)]
        time: Option<u64>,
    },
    /// Print what CUDA shows this process, as JSON
    CudaView,
    LeaseClient(lease_client::Args),
    /// Try every undocumented spelling of a mask or order on CUDA, and print what it makes of them, as JSON
    VisibilityFacts,
    /// Use a GPU as a program does: take a context and memory through the CUDA driver, and keep them
    UseGpu(UseGpu),
    /// Undo, with the same `GPUPIN_FAIL_AT`
    Undo(undo::Args),
    /// Keep GPUs out of reach of this process, and become the program
    Isolated {
        /// What to hide, in JSON
        order: String,
        /// The descriptor to which it is told what was achieved
        report: i32,
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
struct UseGpu {
    /// The N of `cuda:N`
    #[arg(long, default_value_t = 0)]
    ordinal: u32,
    /// How much memory to take besides the context
    #[arg(long, default_value = "64 MiB")]
    memory: Bytes,
    /// How long to keep it
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How long to wait before
    #[arg(long, default_value_t = 0.0)]
    after: f64,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Docs { dir } => reference::write(dir)?,
        Command::Needles => {
            let surveyor = Surveyor::new(Selection::default().rules(), &Policy::default());
            let literals: BTreeSet<&str> = surveyor.literals().collect();
            for literal in literals {
                writeln!(terminal.out(), "{literal}").context("failed to write output")?;
            }
        }
        Command::Write { root, trace, time } => {
            fail_where_asked();
            let time = time.map(|it| SystemTime::UNIX_EPOCH + Duration::from_secs(it));
            return write(root, *trace, time.unwrap_or_else(SystemTime::now), terminal);
        }
        Command::VisibilityFacts => {
            let machine = machine::driver()?;
            let facts = facts(machine.as_ref(), |done, all| {
                terminal.progress(|| format!("asking CUDA: {done} of {all}"));
            })?;
            let differ = facts.iter().any(Fact::differs);
            write_json(&facts, terminal.out()).context("failed to write output")?;
            return Ok(if differ { Exit::Findings } else { Exit::Clean });
        }
        Command::CudaView => return cuda_view(terminal),
        Command::Isolated { order, report, command } => {
            return isolation::become_isolated(order, *report, command);
        }
        Command::LeaseClient(args) => lease_client::run(args, terminal)?,
        Command::UseGpu(args) => return use_gpu(args, terminal),
        Command::Undo(args) => {
            fail_where_asked();
            return undo::run(args, terminal);
        }
    }
    Ok(Exit::Clean)
}

fn use_gpu(args: &UseGpu, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let duration = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| Failure::usage("a time must be a positive number"))
    };
    let (before, during) = (duration(args.after)?, duration(args.seconds)?);
    std::thread::sleep(before);
    let held = HeldMemory::take(&machine::cuda_library(), args.ordinal, args.memory.get());
    let held = held.context("failed to use the GPU")?;
    // Who waits for this line knows that the GPU is in use.
    writeln!(terminal.out(), "{}", held.uuid).context("failed to write output")?;
    terminal.out().flush().context("failed to write output")?;
    std::thread::sleep(during);
    drop(held);
    Ok(Exit::Clean)
}

/// The child of [`crate::machine::cuda_view`].
fn cuda_view(terminal: &mut Terminal) -> Result<Exit, Failure> {
    match CudaView::of_this_process(&machine::cuda_library()) {
        Ok(view) => {
            write_json(&view, terminal.out()).context("failed to write output")?;
            Ok(Exit::Clean)
        }
        Err(CudaError::NoLibrary { why }) => Err(Failure::new(Exit::NoGpu, anyhow::anyhow!(why))),
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}

/// What standard input says of a file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Relative to the root.
    path: String,
    /// What it holds; without it, it is created.
    old: Option<String>,
    new: String,
}

#[derive(serde::Serialize)]
struct Outcome {
    id: Option<String>,
    files: Vec<String>,
    /// Path and message.
    problems: Vec<(String, String)>,
}

fn write(
    root: &Path,
    trace: bool,
    time: SystemTime,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    if trace {
        let taken = Arc::clone(&taken);
        steps::observe(move |step| {
            let line = format!("{} {}", step.action, step.path.display());
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        });
    }
    let root = std::env::current_dir().context("failed to find the working directory")?.join(root);
    let root = project::normal(&root);
    let lock = TreeLock::acquire(&root, terminal)?;
    let wanted: Vec<Wanted> =
        serde_json::from_reader(io::stdin().lock()).context("failed to read standard input")?;
    let change = |it: Wanted| Change {
        path: root.join(&it.path),
        key: it.path,
        old: it.old.map(String::into_bytes),
        new: it.new.into_bytes(),
    };
    let changes: Vec<_> = wanted.into_iter().map(change).collect();
    let description = Description {
        command: ["gpupin", "debug", "write"].map(str::to_owned).to_vec(),
        policy_hash: None,
        time,
    };
    let written = fix::write(&root, &lock, &changes, &description)?;
    for line in taken.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        terminal.status(line);
    }
    let has_problems = !written.problems.is_empty();
    let problems = written.problems.into_iter().map(|it| (it.path, it.message)).collect();
    let outcome = Outcome { id: written.id, files: written.files, problems };
    write_json(&outcome, terminal.out()).context("failed to write output")?;
    Ok(if has_problems { Exit::Failed } else { Exit::Clean })
}

/// Lets the process die before the change of the file system that the environment names.
fn fail_where_asked() {
    let asked = std::env::var("GPUPIN_FAIL_AT").ok();
    let Some(asked) = asked.and_then(|it| it.parse::<usize>().ok()) else { return };
    let taken = AtomicUsize::new(0);
    steps::observe(move |_| {
        if taken.fetch_add(1, Ordering::Relaxed) == asked {
            std::process::abort();
        }
    });
}
