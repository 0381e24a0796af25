//! The Python package: built as a wheel, checked, and tested as installed, on the oldest and the newest Python of this machine:
//! those on `PATH`, and those that pyenv and uv keep beside.
//!
//! The tests run programs on simulated machines, with real clients of CUDA where the Python has them. Tools and clients come from
//! `PyPI` once; after that nothing is fetched.

use std::{
    env,
    ffi::OsString,
    fs,
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
    let (oldest, newest) = found
        .first()
        .zip(found.last())
        .context("there is no Python of the versions that the package is for")?;
    let mut chosen = vec![("oldest", oldest), ("newest", newest)];
    if oldest == newest {
        chosen.truncate(1);
        println!("note: no other Python than 3.{} was found, so that it alone is tested", oldest.0);
    }
    let last = chosen.len() - 1;
    for (number, (name, (minor, interpreter))) in chosen.iter().enumerate() {
        println!("Python 3.{minor}: `{interpreter}`");
        let environment = tools.join(name);
        install(&environment, interpreter, &["xtask/python/tests.txt"])?;
        if number == last {
            clients(&environment);
        }
        test(&environment, &wheel)?;
    }
    // Types are those of the environment that has the clients.
    let interpreter = tools.join(chosen[last].0).join("bin/python");
    quiet(
        Command::new(tools.join("tools/bin/pyright"))
            .arg("--pythonpath")
            .arg(interpreter)
            .current_dir(&package),
    )
}

/// Interpreters by the minor version of Python 3, oldest first. Some on `PATH` are mere names, and some lack what an environment
/// needs, so that each is asked.
fn pythons() -> Vec<(u32, String)> {
    let on_path = MINORS.map(|minor| format!("python3.{minor}")).chain(["python3".to_owned()]);
    let beside = beside(|name| env::var_os(name)).into_iter().flat_map(|directory| {
        MINORS.map(move |minor| directory.join(format!("python3.{minor}")).display().to_string())
    });
    let mut found: Vec<_> =
        on_path.chain(beside).filter_map(|it| Some((minor(&it)?, it))).collect();
    // It is stable: of one version, what is on `PATH` goes first.
    found.sort_by_key(|it| it.0);
    found.dedup_by_key(|it| it.0);
    found
}

/// The directories of programs of every Python that pyenv and uv have installed, whichever of them is the one in use.
fn beside(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let home = set("HOME");
    let in_home = |path: &str| home.as_ref().map(|it| it.join(path));
    let data = set("XDG_DATA_HOME").or_else(|| in_home(".local/share"));
    let roots = [
        set("PYENV_ROOT").or_else(|| in_home(".pyenv")).map(|it| it.join("versions")),
        set("UV_PYTHON_INSTALL_DIR").or_else(|| Some(data?.join("uv/python"))),
    ];
    let entries = roots.into_iter().flatten().filter_map(|it| fs::read_dir(it).ok()).flatten();
    let mut found: Vec<_> = entries.flatten().map(|it| it.path().join("bin")).collect();
    found.retain(|it| it.is_dir());
    found.sort();
    found
}

/// The version of an interpreter that the package can be installed and tested with.
fn minor(interpreter: &str) -> Option<u32> {
    const ASK: &str = "import ctypes, ensurepip, ssl, sys, venv
if sys.implementation.name == 'cpython': print(sys.version_info[1])";
    let asked = Command::new(interpreter).args(["-c", ASK]).output().ok()?;
    let minor = String::from_utf8(asked.stdout).ok()?.trim().parse().ok()?;
    MINORS.contains(&minor).then_some(minor)
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

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs};

    use super::beside;

    /// Makes directories below a home, and lists what is found there with some variables set to places in it.
    #[track_caller]
    fn check(made: &[&str], variables: &[(&str, &str)], expected: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        for path in made {
            fs::create_dir_all(home.path().join(path)).unwrap();
        }
        let variable = |name: &str| -> Option<OsString> {
            let set = variables.iter().find(|it| it.0 == name).map(|it| it.1);
            let set = set.or((name == "HOME").then_some("."))?;
            Some(if set.is_empty() { OsString::new() } else { home.path().join(set).into() })
        };
        let found = beside(variable);
        let expected: Vec<_> = expected.iter().map(|it| home.path().join(it)).collect();
        assert_eq!(found, expected);
    }

    const PYENV: &str = ".pyenv/versions/3.9.18/bin";
    const UV: &str = ".local/share/uv/python/cpython-3.13.0-linux-x86_64-gnu/bin";

    #[test]
    fn what_pyenv_and_uv_keep_is_found() {
        check(&[PYENV, UV], &[], &[UV, PYENV]);
        check(&[], &[], &[]);
        // An installation that was begun, and shims, are none.
        check(&[".pyenv/versions/3.12.1", ".pyenv/shims"], &[], &[]);
    }

    #[test]
    fn variables_say_where_they_are_kept() {
        let made = ["pyenv/versions/3.10.1/bin", "uv/3.12/bin", "data/uv/python/3.13/bin", PYENV];
        check(&made, &[("PYENV_ROOT", "pyenv")], &[made[0]]);
        check(&made, &[("UV_PYTHON_INSTALL_DIR", "uv")], &[PYENV, made[1]]);
        check(&made, &[("XDG_DATA_HOME", "data")], &[PYENV, made[2]]);
        check(&made, &[("PYENV_ROOT", "")], &[PYENV]);
    }
}
