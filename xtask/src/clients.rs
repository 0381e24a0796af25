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

/// nvtop as Debian 12 has it. It asks for process lists in their first layout.
const NVTOP: File = File {
    address: "http://deb.debian.org/debian/pool/contrib/n/nvtop/nvtop_3.0.1-1_amd64.deb",
    sha256: "cbb1158617a8a8429836539cf91b2d98f22189f24d2fb2da1ea58743398fd266",
};

/// The sources of nvtop as Debian 13 has it, whose own binary needs a newer C library than that of Debian 12. It asks for the newest layout.
const NVTOP_SOURCES: File = File {
    address: "http://deb.debian.org/debian/pool/main/n/nvtop/nvtop_3.2.0.orig.tar.gz",
    sha256: "d26df685455023cedc4dda033862dcddb67402fbdb685da70da78492f73c41d0",
};
const NVTOP_DIRECTORY: &str = "nvtop-3.2.0";

/// The makers of GPUs that nvtop looks for by itself, all of which but NVIDIA need more libraries.
const OTHER_MAKERS: &[&str] =
    &["AMDGPU", "INTEL", "MSM", "PANFROST", "PANTHOR", "V3D", "TPU", "ASCEND"];

/// A file to fetch.
struct File {
    address: &'static str,
    sha256: &'static str,
}

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
    let newer_nvtop = newer_nvtop(&tools);
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
        match &newer_nvtop {
            Ok(program) => {
                let mut check = client(&tools, &scene, &["nvtop", &program.to_string_lossy()]);
                println!("{}", display(&check));
                // It takes rows of 32 bytes for shorter ones.
                let wanted = if *driver == "535.54.03" { DIFFERS } else { 0 };
                let code = check.output()?.status.code();
                ensure!(
                    code == Some(wanted),
                    "`{}`: {code:?} instead of {wanted}",
                    display(&check)
                );
            }
            Err(error) => {
                println!("note: {NVTOP_DIRECTORY} was not built, so it was skipped: {error:#}");
            }
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
    fetch(&NVTOP, &package)?;
    quiet(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(tools.join("nvtop")))?;
    Ok(program)
}

/// Debian's sources of a newer nvtop, built; that takes a C compiler, `make` and the headers of ncurses.
fn newer_nvtop(tools: &Path) -> Result<PathBuf> {
    let sources = tools.join(NVTOP_DIRECTORY);
    let build = sources.join("build");
    let program = build.join("src/nvtop");
    if program.exists() {
        return Ok(program);
    }
    let archive = tools.join("nvtop.tar.gz");
    fetch(&NVTOP_SOURCES, &archive)?;
    quiet(Command::new("tar").arg("--extract").arg("--file").arg(&archive).current_dir(tools))?;
    let mut configure = Command::new(tools.join("venv/bin/cmake"));
    configure.arg("-S").arg(&sources).arg("-B").arg(&build).arg("-DCMAKE_BUILD_TYPE=Release");
    configure.args(OTHER_MAKERS.iter().map(|it| format!("-D{it}_SUPPORT=OFF")));
    quiet(configure.arg("-DNVIDIA_SUPPORT=ON"))?;
    quiet(Command::new("make").arg("--directory").arg(&build))?;
    Ok(program)
}

fn fetch(file: &File, to: &Path) -> Result<()> {
    let File { address, sha256 } = file;
    let mut fetch = Command::new("curl");
    fetch.args(["--fail", "--silent", "--show-error", "--location", "--output"]);
    quiet(fetch.arg(to).arg(address))?;
    let sum = stdout(Command::new("sha256sum").arg(to))?;
    ensure!(sum.starts_with(sha256), "`{address}` is not what it was");
    Ok(())
}
