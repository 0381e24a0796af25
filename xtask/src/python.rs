//! The Python package: built as a wheel, checked, and tested as installed, on the oldest and the newest Python of this machine.
//!
//! The tests run programs on simulated machines, with real clients of CUDA where the Python has them. Tools and clients come from
//! `PyPI` once; after that nothing is fetched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{cargo, loud, quiet, root};

/// The versions that the package is for, oldest first.
const MINORS: std::ops::RangeInclusive<u32> = 9..=14;

/// Clients of CUDA that the tests use where they can be installed.
const CLIENTS: &str = "xtask/clients/requirements.txt";

pub(crate) fn check() -> Result<()> {
    let tools = root().join("target/python");
    let package = root().join("python");
    let python = tools.join("tools/bin/python");
    install(&tools.join("tools"), "python3", &["xtask/python/requirements.txt"])?;
    quiet(Command::new(tools.join("tools/bin/ruff")).args(["check", "--quiet"]).arg(&package))?;
    quiet(
        Command::new(tools.join("tools/bin/ruff"))
            .args(["format", "--check", "--quiet"])
            .arg(&package),
    )?;
    quiet(&mut cargo(["build", "--quiet", "--package", "gpupin", "--package", "gpupin-sim"]))?;
    let wheel = wheel(&python, &tools)?;
    let found = pythons();
    ensure!(!found.is_empty(), "there is no Python of the versions that the package is for");
    let (oldest, newest) = (&found[0], &found[found.len() - 1]);
    for (name, interpreter) in [("oldest", oldest), ("newest", newest)] {
        let environment = tools.join(name);
        install(&environment, interpreter, &["xtask/python/tests.txt"])?;
        if name == "newest" || oldest == newest {
            clients(&environment);
        }
        test(&environment, &wheel)?;
        if oldest == newest {
            break;
        }
    }
    // Types are those of the environment that has the clients.
    let newest = if oldest == newest { "oldest" } else { "newest" };
    let interpreter = tools.join(newest).join("bin/python");
    quiet(
        Command::new(tools.join("tools/bin/pyright"))
            .arg("--pythonpath")
            .arg(interpreter)
            .current_dir(&package),
    )
}

/// Interpreters on `PATH`, oldest first; some are mere names, so that each is asked.
fn pythons() -> Vec<String> {
    let version = |name: &str| {
        let mut ask = Command::new(name);
        let asked = ask.args(["-c", "import sys; print(sys.version_info[1])"]).output().ok()?;
        String::from_utf8(asked.stdout).ok()?.trim().parse::<u32>().ok()
    };
    let named = MINORS.map(|minor| format!("python3.{minor}"));
    let mut found: Vec<(u32, String)> = named
        .chain(["python3".to_owned()])
        .filter_map(|it| Some((version(&it)?, it)))
        .filter(|it| MINORS.contains(&it.0))
        .collect();
    found.sort();
    found.dedup_by_key(|it| it.0);
    found.into_iter().map(|it| it.1).collect()
}

/// Installs the pinned versions unless they are there.
fn install(environment: &Path, interpreter: &str, files: &[&str]) -> Result<()> {
    let mut wanted = interpreter.to_owned();
    for file in files {
        wanted += &fs::read_to_string(root().join(file))
            .with_context(|| format!("failed to read `{file}`"))?;
    }
    let mark = environment.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    quiet(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(environment))?;
    for file in files {
        quiet(pip(environment).arg("--requirement").arg(root().join(file)))?;
    }
    fs::write(mark, wanted)?;
    Ok(())
}

fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip
}

/// The clients of CUDA, as far as there are any for this Python.
fn clients(environment: &Path) {
    let mark = environment.join("clients");
    if !mark.exists() {
        match quiet(pip(environment).arg("--requirement").arg(root().join(CLIENTS))) {
            Ok(()) => drop(fs::write(mark, "")),
            Err(error) => println!(
                "note: the newest Python has no clients of CUDA, so that their tests are skipped: {error:#}"
            ),
        }
    }
}

/// Builds the wheel with the release build that everything shares.
fn wheel(python: &Path, tools: &Path) -> Result<PathBuf> {
    let out = tools.join("wheels");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut build = Command::new(python);
    build.args(["-m", "maturin", "build", "--quiet", "--release", "--out"]).arg(&out);
    build.arg("--target-dir").arg(root().join("target")).current_dir(root().join("python"));
    quiet(&mut build)?;
    let mut wheels = fs::read_dir(&out)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(wheels.len() == 1, "maturin built {} wheels", wheels.len());
    Ok(wheels.remove(0).path())
}

/// Runs the tests against the installed wheel, and the sources of nothing.
fn test(environment: &Path, wheel: &Path) -> Result<()> {
    quiet(pip(environment).args(["--force-reinstall", "--no-deps"]).arg(wheel))?;
    let mut tests = Command::new(environment.join("bin/python"));
    tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-rs"]);
    tests.arg(root().join("python/tests")).current_dir(environment);
    // The program of the wheel simulates no GPU itself, and the dev build's libraries do.
    tests.env("GPUPIN_BINARY", root().join("target/debug/gpupin"));
    tests.env("GPUPIN_INSTALLED", "1");
    for name in ["PYTHONPATH", "GPUPIN_STATE_DIR", "GPUPIN_SIM_LIBRARY"] {
        tests.env_remove(name);
    }
    if env::var_os("CI").is_none() {
        println!("{}", environment.display());
    }
    loud(&mut tests)
}

/// Runs `bench python`: on a simulated machine, with the wheel's release build.
pub(crate) fn bench(args: &[&str]) -> Result<()> {
    let tools = root().join("target/python");
    install(&tools.join("tools"), "python3", &["xtask/python/requirements.txt"])?;
    let wheel = wheel(&tools.join("tools/bin/python"), &tools)?;
    let environment = tools.join("bench");
    install(&environment, "python3", &[])?;
    quiet(pip(&environment).args(["--force-reinstall", "--no-deps"]).arg(wheel))?;
    quiet(&mut cargo(["build", "--quiet", "--package", "gpupin", "--package", "gpupin-sim"]))?;
    let mut bench = Command::new(root().join("target/debug/gpupin"));
    bench.args(["--quiet", "sim", "--scene", "mixed", "--"]);
    bench.arg(environment.join("bin/python")).arg(root().join("xtask/python/bench.py")).args(args);
    loud(bench.current_dir(root().join("examples/assistant")))
}
