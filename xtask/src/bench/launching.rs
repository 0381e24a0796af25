//! What it costs to start a program through gpupin, next to starting it through `flock`.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    measure::{Contender, Measured, in_turns},
    simulation::Simulation,
};
use crate::process::root;

/// How many starts there are in one round: they take milliseconds, and differ much.
const STARTS: usize = 25;

const SCENE: &str = "mixed";
const FLOCK: &str = "flock FILE true";
const GPUPIN: &str = "gpupin run --no-observe -- true";

/// Compares, printing a table.
pub(super) fn compare(gpupin: &Path, rounds: usize, is_short: bool) -> Result<()> {
    let place = root().join("target/bench/run");
    drop(fs::remove_dir_all(&place));
    for directory in ["state", "project"] {
        fs::create_dir_all(place.join(directory))?;
    }
    fs::write(place.join("project/gpupin.toml"), "gpu.name = \"RTX 3090\"\n")?;
    let machine = Simulation::start(gpupin, OsStr::new(SCENE))?;
    // What a linker has written lies in small pieces of the page cache and takes a millisecond longer to start than what was copied, as
    // whatever is installed was.
    let installed = place.join("gpupin");
    fs::copy(gpupin, &installed)?;

    let mut flock = Command::new("flock");
    flock.arg(place.join("lock")).arg("true");
    let mut run = Command::new(&installed);
    run.args(["run", "--no-observe", "--", "true"]);
    let mut nothing = Command::new(&installed);
    nothing.arg("--version");
    let rows = [
        (FLOCK, flock),
        (GPUPIN, run),
        ("gpupin --version", nothing),
        ("true", Command::new("true")),
    ];
    let mut contenders: Vec<_> = rows
        .into_iter()
        .map(|(name, mut command)| {
            machine.enter(&mut command);
            command.env("GPUPIN_STATE_DIR", place.join("state"));
            command.current_dir(place.join("project"));
            Contender { codes: &[0], ..Contender::looking(name, 1, command) }
        })
        .collect();
    let starts = if is_short { 2 } else { STARTS * rounds };
    let measured = in_turns(&mut contenders, starts)?;

    println!(
        "\nstarting a program that does nothing, on the simulated machine `{SCENE}`: it has no driver, whose start would come on top"
    );
    println!("median of {starts} starts, in milliseconds{:>19} {:>16} {:>8}", "", "", "CPU");
    for row in &measured {
        let (first, last) = row.extremes();
        println!(
            "{:<44} {:>8.2} {:>16} {:>8.2}",
            row.name,
            row.median() * 1e3,
            format!("({:.2} to {:.2})", first * 1e3, last * 1e3),
            row.median_cpu() * 1e3,
        );
    }
    let of = |name: &str| {
        let row = measured.iter().find(|it| it.name == name);
        row.map(Measured::median).context("every row was measured")
    };
    println!("{:<44} {:>8.2}", "ratio to flock (goal: at most 2)", of(GPUPIN)? / of(FLOCK)?);
    Ok(())
}
