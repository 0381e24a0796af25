use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use gpupin_policy::GpuUuid;
use gpupin_run::{
    lease::{Cancel, Directory, HolderText, Hooks, Lease, Patience, Request, acquire},
    process::ProcessId,
};
use rustix::time::{ClockId, clock_gettime};

use crate::{failure::Failure, terminal::Terminal};

/// Take a lease, as tests and benchmarks want it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of leases
    #[arg(long)]
    dir: PathBuf,
    /// The GPU
    #[arg(long)]
    gpu: GpuUuid,
    /// How many holders at once
    #[arg(long, default_value_t = 1)]
    slots: u32,
    /// Take and give back this many times, and print the nanoseconds of each
    #[arg(long, conflicts_with_all = ["journal", "hold"])]
    times: Option<usize>,
    /// Add a line to this file when the GPU is held and before it is given back
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Hold for this many milliseconds; without it until standard input ends
    #[arg(long)]
    hold: Option<u64>,
}

/// Longer than any test takes, so that a waiter that nobody wakes is an error in the end.
const PATIENCE: Patience = Patience::For(Duration::from_mins(5));

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let directory = Directory::open(&args.dir).context("failed to open the directory")?;
    let this = ProcessId::this().context("failed to read `/proc`")?;
    let request = Request {
        gpus: vec![args.gpu.clone()],
        count: 1,
        slots: args.slots,
        holder: HolderText { process: this, command: "gpupin debug lease-client".to_owned() },
        outer: None,
        patience: PATIENCE,
    };
    let take = || -> Result<Lease, Failure> {
        let mut hooks = Hooks {
            tell: &mut |_| {},
            clear: &mut |_, _: &[ProcessId]| Vec::new(),
            cancel: &Cancel::default(),
            clock: SystemTime::now,
        };
        Ok(acquire(&directory, &request, &mut hooks).context("failed to take the lease")?)
    };
    if let Some(times) = args.times {
        for _ in 0..times {
            let start = Instant::now();
            drop(take()?);
            let nanoseconds = start.elapsed().as_nanos();
            writeln!(terminal.out(), "{nanoseconds}").context("failed to write output")?;
        }
        return Ok(());
    }
    let mut lease = take()?;
    // The clock that other programs see as well.
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec, now.tv_nsec);
    writeln!(terminal.out(), "holds {} {seconds}.{nanoseconds:09}", this.pid)
        .context("failed to write output")?;
    terminal.out().flush().context("failed to write output")?;
    lease.tidy();
    note(args, "holds", &lease)?;
    match args.hold {
        Some(milliseconds) => thread::sleep(Duration::from_millis(milliseconds)),
        None => drop(io::stdin().read(&mut [0]).context("failed to read standard input")?),
    }
    note(args, "gives-back", &lease)?;
    Ok(())
}

/// One line, in one write.
fn note(args: &Args, what: &str, lease: &Lease) -> Result<(), Failure> {
    let Some(journal) = &args.journal else { return Ok(()) };
    let line = format!("{what} {} {}\n", std::process::id(), lease.variable());
    let file = OpenOptions::new().append(true).create(true).open(journal);
    let written = file.and_then(|mut it| it.write_all(line.as_bytes()));
    Ok(written.context("failed to write the journal")?)
}
