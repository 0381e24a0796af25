//! Real clients of NVML and of the CUDA driver on simulated machines: they run unmodified and must see what the scene says.
//!
//! They come from `PyPI` and Debian once; after that nothing is fetched. Every check is a run of `xtask/clients/check.py` under
//! `gpupin sim`, on drivers of several generations, each with two processes per GPU.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{cargo, display, quiet, root, stdout};

const REQUIREMENTS: &str = "xtask/clients/requirements.txt";

/// Older releases of NVIDIA's bindings, each in a directory of its own.
const OLD_BINDINGS: &[&str] = &["11.450.51", "12.535.77", "12.560.30"];

const NVTOP: &str = "http://deb.debian.org/debian/pool/contrib/n/nvtop/nvtop_3.0.1-1_amd64.deb";
const NVTOP_SHA256: &str = "cbb1158617a8a8429836539cf91b2d98f22189f24d2fb2da1ea58743398fd266";

/// Where its program lies among the tools.
pub(crate) const NVTOP_PROGRAM: &str = "nvtop/usr/bin/nvtop";

/// Drivers, and the releases of NVIDIA's bindings that read their process lists right. The first releases of R535 have rows of
/// 32 bytes, which only bindings of their time expect.
const DRIVERS: &[(&str, &[&str])] = &[
    ("535.54.03", &["11.450.51", "12.535.77"]),
    ("535.261.03", &["11.450.51", "12.560.30", "newest"]),
    ("550.163.01", &["11.450.51", "12.560.30", "newest"]),
    ("580.65.06", &["11.450.51", "12.560.30", "newest"]),
];

/// The exit code of a client that saw something else than the scene.
const DIFFERS: i32 = 3;

pub(crate) fn check() -> Result<()> {
    let tools = tools();
    install(&tools)?;
    let nvtop = nvtop(&tools);
    quiet(&mut cargo(["build", "--quiet", "--package", "gpupin"]))?;
    let busy = fs::read_to_string(root().join("scenes/busy.toml"))?;
    for (driver, bindings) in DRIVERS {
        let line = busy.lines().find(|it| it.starts_with("driver = ")).context("no driver")?;
        let scene = tools.join(format!("busy-{driver}.toml"));
        fs::write(&scene, busy.replacen(line, &format!("driver = \"{driver}\""), 1))?;
        for release in OLD_BINDINGS.iter().chain(&["newest"]) {
            let mut check = client(&tools, &scene, &["pynvml"]);
            if *release != "newest" {
                check.env("PYTHONPATH", tools.join(format!("nvidia-ml-py-{release}")));
            }
            // What is wrong on a real driver must be wrong here, or the simulation flatters.
            let (code, wanted) = (check.output()?.status.code(), bindings.contains(release));
            let wanted = if wanted { 0 } else { DIFFERS };
            ensure!(
                code == Some(wanted),
                "`{}` with nvidia-ml-py {release}: {code:?} instead of {wanted}",
                display(&check)
            );
        }
        run(&mut client(&tools, &scene, &["nvitop"]))?;
        if *driver != "535.54.03" {
            run(&mut client(&tools, &scene, &["gpustat"]))?;
        }
        match &nvtop {
            Ok(program) => {
                run(&mut client(&tools, &scene, &["nvtop", &program.to_string_lossy()]))?;
            }
            Err(error) if env::var_os("CI").is_none() => {
                println!("note: nvtop was skipped: {error:#}");
            }
            Err(error) => anyhow::bail!("{error:#}"),
        }
    }
    for name in ["numba", "bindings"] {
        run(&mut client(&tools, Path::new("mixed"), &[name]))?;
    }
    Ok(())
}

/// Where the clients are installed.
pub(crate) fn tools() -> PathBuf {
    root().join("target/clients")
}

/// The interpreter that has the clients from `PyPI`.
pub(crate) fn python(tools: &Path) -> PathBuf {
    tools.join("venv/bin/python")
}

fn run(command: &mut Command) -> Result<()> {
    println!("{}", display(command));
    quiet(command)
}

/// One client on one scene.
fn client(tools: &Path, scene: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(root().join("target/debug/gpupin"));
    command.args(["--quiet", "sim", "--scene"]).arg(scene).arg("--");
    command.arg(python(tools)).arg(root().join("xtask/clients/check.py"));
    command.args(args).current_dir(tools);
    command
}

/// Installs the pinned versions unless they are there.
pub(crate) fn install(tools: &Path) -> Result<()> {
    let (wanted, installed) = (root().join(REQUIREMENTS), tools.join("venv/requirements.txt"));
    let text = fs::read(&wanted).with_context(|| format!("failed to read `{REQUIREMENTS}`"))?;
    if fs::read(&installed).is_ok_and(|it| it == text) {
        return Ok(());
    }
    let environment = tools.join("venv");
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = || {
        let mut pip = Command::new(python(tools));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    quiet(pip().arg("--requirement").arg(&wanted))?;
    for release in OLD_BINDINGS {
        let directory = tools.join(format!("nvidia-ml-py-{release}"));
        let mut old = pip();
        old.args(["--no-deps", "--upgrade", "--target"]).arg(directory);
        quiet(old.arg(format!("nvidia-ml-py=={release}")))?;
    }
    fs::write(installed, text)?;
    Ok(())
}

/// Debian's nvtop, unpacked and not installed.
pub(crate) fn nvtop(tools: &Path) -> Result<PathBuf> {
    let program = tools.join(NVTOP_PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    let package = tools.join("nvtop.deb");
    let mut fetch = Command::new("curl");
    fetch.args(["--fail", "--silent", "--show-error", "--location", "--output"]);
    quiet(fetch.arg(&package).arg(NVTOP))?;
    let sum = stdout(Command::new("sha256sum").arg(&package))?;
    ensure!(sum.starts_with(NVTOP_SHA256), "`{NVTOP}` is not what it was");
    quiet(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(tools.join("nvtop")))?;
    Ok(program)
}
