//! The project's own chores: `cargo xtask`.
//!
//! Everything here is for people who work on gpupin; nothing of it is shipped.
//! [`ci`] is the whole gate, and each other command is one of its parts that is
//! also useful alone. [`tidy`] holds the rules about the repository that no
//! compiler checks; they run as tests.
//!
//! Adding a chore: a module, a line in [`USAGE`] and an arm in [`run`]. A chore
//! that every change must pass is also a step in `ci::STEPS`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to a developer")]

use std::process::ExitCode;

use anyhow::{Result, bail};

mod bench;
mod ci;
mod clients;
mod dashboard;
mod docs;
mod editor;
mod fuzz;
mod gpu;
mod hooks;
mod licenses;
mod prefilter;
mod process;
mod proof;
mod python;
mod readme;
mod tidy;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci [--skip STEP]… [STEP]…   run the whole gate, or the named steps of it
  docs [--check]              write docs/reference, or only tell whether it is up to date
  bench scan [--rounds N]     measure `gpupin scan` beside ripgrep, ruff and a Python script
  bench fix [--rounds N]      measure `gpupin fix` beside ruff fixing one rule
  bench run [--rounds N]      measure what leases, starts and samples cost beside C, flock, gpustat and nvtop
  bench history [--days N]    measure a month of made-up history: its size, what a moment costs, how long questions take
  bench python [ROUNDS]       measure what the Python package costs
  proof [NAME]…               fix real projects of the corpus and check that they stayed what they were
  prefilter [NAME]…           compare scans with and without the survey on the benchmark's corpus
  clients                     run real clients of NVML and CUDA on simulated machines
  python                      build, check and test the Python package
  fuzz [--seconds N] [NAME]…  run the fuzz targets, 60 seconds each
  fuzz --corpus               apply their checks to every file of the benchmark's corpus
  gpu                         bundle the checks that need a GPU, to carry to a machine that has one
  gpu record FILE             make docs/hardware.md of what they said
  licenses                    check the licenses of all dependencies
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["ci", rest @ ..] => ci::run(rest),
        ["docs"] => docs::write(),
        ["docs", "--check"] => docs::check(),
        ["bench", "scan", rest @ ..] => bench::scan(rest),
        ["bench", "fix", rest @ ..] => bench::fix(rest),
        ["bench", "run", rest @ ..] => bench::run(rest),
        ["bench", "history", rest @ ..] => bench::history(rest),
        ["bench", "python", rest @ ..] => python::bench(rest),
        ["proof", names @ ..] => proof::run(names),
        ["prefilter", names @ ..] => prefilter::run(names),
        ["clients"] => clients::check(),
        ["python"] => python::check(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["gpu", rest @ ..] => gpu::run(rest),
        ["licenses"] => licenses::check(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown command `{}`\n\n{USAGE}", args.join(" ")),
    }
}
