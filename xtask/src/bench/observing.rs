//! What it costs to watch which processes use which GPU, next to monitors that show the same.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    leases::{median, row},
    measure::run,
    simulation::Simulation,
};
use crate::{
    clients,
    process::{root, stdout},
};

const GPUS: usize = 4;
const PROCESSES: usize = 50;

/// How long gpupin watches in one round. It looks most often in the first two seconds.
const SECONDS: &str = "2";

/// How often gpustat is asked in one round, and for how many seconds nvtop runs.
const QUERIES: &str = "20";
const NVTOP_SECONDS: f64 = 5.0;

/// How often nvtop refreshes at its fastest, per second.
const NVTOP_REFRESHES: f64 = 10.0;

/// Compares, printing a table.
pub(super) fn compare(gpupin: &Path, rounds: usize, is_short: bool) -> Result<()> {
    let place = root().join("target/bench/observe");
    drop(fs::remove_dir_all(&place));
    for directory in ["state", "project"] {
        fs::create_dir_all(place.join(directory))?;
    }
    fs::write(place.join("project/gpupin.toml"), "gpu.name = \"RTX 3090\"\n")?;
    let scene = place.join("scene.toml");
    fs::write(&scene, machine())?;
    let tools = Tools::find(is_short);
    let machine = Simulation::start(gpupin, scene.as_os_str())?;

    let (mut ours, mut samples) = (Vec::new(), Vec::new());
    let (mut gpustat, mut nvtop) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (of_sample, count) = sample(gpupin, &place, &machine)?;
        ours.push(of_sample);
        samples.push(count);
        if let Ok(python) = &tools.python {
            gpustat.extend(figures(python, &["gpustat", QUERIES], &machine)?);
        }
        if let (Ok(python), Ok(program)) = (&tools.python, &tools.nvtop) {
            let program = program.to_string_lossy();
            let args = ["nvtop", &program, &NVTOP_SECONDS.to_string()];
            let all = figures(python, &args, &machine)?;
            nvtop.extend(all.iter().map(|it| it / (NVTOP_SECONDS * NVTOP_REFRESHES)));
        }
    }

    println!(
        "\nwatching {GPUS} GPUs with {PROCESSES} processes each, median of {rounds} rounds, processor time in milliseconds"
    );
    println!("real processes on a simulated machine, whose library has its share in every figure");
    row("a sample of `gpupin run`, its evidence included", &mut ours, None);
    println!("{:<44} {:>8.0}", "  samples in a round", median(&mut samples));
    for (name, why) in
        [("gpustat", tools.python.as_ref().err()), ("nvtop", tools.nvtop.as_ref().err())]
    {
        if let Some(why) = why {
            println!("note: {name} is missing: {why:#}");
        }
    }
    if !gpustat.is_empty() {
        row("a query of gpustat, its interpreter warm", &mut gpustat, None);
        let ratio = median(&mut ours) / median(&mut gpustat);
        println!("{:<44} {ratio:>8.3}", "ratio to gpustat (goal: at most 0.05)");
    }
    if !nvtop.is_empty() {
        row("a refresh of nvtop, if it made 10 a second", &mut nvtop, None);
        let ratio = median(&mut ours) / median(&mut nvtop);
        println!("{:<44} {ratio:>8.3}", "ratio to nvtop, whose refreshes may be fewer");
    }
    Ok(())
}

/// What is compared with, or why it is not there.
struct Tools {
    python: Result<PathBuf>,
    nvtop: Result<PathBuf>,
}

impl Tools {
    /// Installs what is missing, unless nothing may be fetched.
    fn find(is_short: bool) -> Self {
        let tools = clients::tools();
        if is_short {
            let there = |path: PathBuf| {
                ensure!(path.exists(), "it is not installed, and a short run fetches nothing");
                Ok(path)
            };
            let nvtop = tools.join(clients::NVTOP_PROGRAM);
            return Self { python: there(clients::python(&tools)), nvtop: there(nvtop) };
        }
        let python = clients::install(&tools).map(|()| clients::python(&tools));
        Self { python, nvtop: clients::nvtop(&tools) }
    }
}

/// A scene with as many processes as are to be watched, one GPU of which is the policy's.
fn machine() -> String {
    let mut scene = "version = 1\nhost = \"benchmark\"\ndriver = \"580.65.06\"\n".to_owned();
    for gpu in 0..GPUS {
        let name = if gpu == 0 { "RTX 3090" } else { "RTX 5060 Ti" };
        let number = gpu + 1;
        write!(
            scene,
            "\n[[gpu]]\nuuid = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f{gpu}\"\nname = \"NVIDIA GeForce {name}\"\nvram = \"24 GiB\"\n\
             compute-capability = \"8.6\"\npci = \"0000:0{number}:00.0\"\n"
        )
        .expect("a `String` takes everything");
        for process in 0..PROCESSES {
            write!(
                scene,
                "\n[[gpu.process]]\ncommand = [\"python\", \"worker.py\", \"{process}\"]\nmemory = \"100 MiB\"\nutilization = 1\n"
            )
            .expect("a `String` takes everything");
        }
    }
    scene
}

/// What one sample costs, in milliseconds: what a run that is watched takes beyond one that is not, by the samples in its evidence.
fn sample(gpupin: &Path, place: &Path, machine: &Simulation) -> Result<(f64, f64)> {
    let evidence = place.join("evidence");
    drop(fs::remove_dir_all(&evidence));
    let used = |options: &[&str]| -> Result<f64> {
        let mut command = Command::new(gpupin);
        command.arg("run").args(options).args(["--", "sleep", SECONDS]);
        machine.enter(&mut command);
        command.env("GPUPIN_STATE_DIR", place.join("state"));
        command.current_dir(place.join("project"));
        let used = run(&mut command, &[0])?.1;
        Ok((used.utime + used.stime).as_secs_f64() * 1e3)
    };
    let watched = used(&["--evidence-dir", &evidence.to_string_lossy()])?;
    let unwatched = used(&["--no-observe"])?;
    let samples = samples(&evidence)?;
    Ok(((watched - unwatched) / samples, samples))
}

/// How many samples the only evidence in a directory speaks of.
fn samples(evidence: &Path) -> Result<f64> {
    let mut files = fs::read_dir(evidence)?.filter_map(Result::ok).map(|it| it.path());
    let file = files.find(|it| it.extension().is_some_and(|it| it == "json"));
    let text = fs::read_to_string(file.context("the run left no evidence")?)?;
    let evidence: serde_json::Value = serde_json::from_str(&text)?;
    evidence["samples"]["samples"].as_f64().context("the evidence does not count its samples")
}

/// What `monitors.py` prints.
fn figures(python: &Path, args: &[&str], machine: &Simulation) -> Result<Vec<f64>> {
    let mut command = Command::new(python);
    command.arg(root().join("xtask/bench/monitors.py")).args(args);
    machine.enter_as_client(&mut command);
    let text = stdout(&mut command)?;
    text.lines().map(|it| it.parse().context("a figure is no number")).collect()
}

#[cfg(test)]
mod tests {
    use super::{GPUS, PROCESSES, machine};

    #[test]
    fn the_scene_has_what_is_to_be_watched() {
        let scene = machine();
        assert_eq!(scene.matches("[[gpu]]").count(), GPUS);
        assert_eq!(scene.matches("[[gpu.process]]").count(), GPUS * PROCESSES);
        assert_eq!(scene.matches("RTX 3090").count(), 1);
    }
}
