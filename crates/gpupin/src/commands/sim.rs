use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use gpupin_device::scene::{BUILT_IN, Library, Live};
use gpupin_run::supervise::{Group, Happening, Program, Supervised};
use gpupin_sim::{InstallError, Resident, STATE_VARIABLE};
use tempfile::TempDir;

use crate::{
    failure::{Exit, Failure},
    machine::{CUDA_VARIABLE, NVML_VARIABLE, ROOT_VARIABLE, no_scene},
    terminal::Terminal,
};

/// Run a command on a simulated machine
///
/// The command finds an NVML and a CUDA driver that answer from a scene. Monitors such as nvitop, gpustat and nvtop work, and so do
/// programs that use the CUDA driver's own interface; PyTorch and others that need CUDA's runtime do not. Editing `scene.toml` in the
/// directory that `GPUPIN_SIM` names makes things happen. The exit code is the command's.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The machine: one of `--list`, or a file [default: mixed]
    #[arg(long, value_name = "SCENE")]
    scene: Option<OsString>,

    /// Keep the state here, and go on from it if there is one
    ///
    /// The scene is its `scene.toml` then, so that `--scene` is only for a new one.
    #[arg(long, value_name = "DIR")]
    keep_state: Option<PathBuf>,

    /// List the scenes that are part of gpupin
    #[arg(long, conflicts_with_all = ["command", "keep_state", "scene"])]
    list: bool,

    /// Print a scene, to start one of your own from
    #[arg(long, value_name = "SCENE", conflicts_with_all = ["command", "keep_state", "scene", "list"])]
    print: Option<OsString>,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present_any = ["list", "print"])]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  gpupin sim -- bash                              a shell on a machine with two different GPUs
  gpupin sim --scene busy -- nvtop
  gpupin sim --print mixed > mine.toml            a machine to change; docs/scenes.md has every key
  gpupin sim --scene mine.toml -- gpupin doctor
  gpupin sim --scene lost --keep-state state -- bash

Exit codes: the command's, 126 or 127 if it could not be started, 2 if the simulation could not";

const DEFAULT_SCENE: &str = "mixed";

/// Tells a process which of the scene's it is: its place, from 0.
const RESIDENT_VARIABLE: &str = "GPUPIN_SIM_RESIDENT";

/// Where the library of `gpupin-sim` lies, if not beside the program.
const LIBRARY_VARIABLE: &str = "GPUPIN_SIM_LIBRARY";

const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    if args.list {
        for (name, text) in BUILT_IN {
            let what = text.lines().next().and_then(|it| it.strip_prefix("# ")).unwrap_or_default();
            writeln!(terminal.out(), "{name:<12} {what}").context("failed to write output")?;
        }
        return Ok(Exit::Clean);
    }
    if let Some(scene) = &args.print {
        let (_, text) = BUILT_IN.iter().find(|it| scene == it.0).ok_or_else(|| no_scene(scene))?;
        write!(terminal.out(), "{text}").context("failed to write output")?;
        return Ok(Exit::Clean);
    }
    let Some(name) = args.command.first() else { return Ok(Exit::Clean) };

    let own = TempDir::with_prefix("gpupin-sim-").context("failed to make a directory")?;
    let state = args.keep_state.clone().unwrap_or_else(|| own.path().join("state"));
    let state = env::current_dir().context("failed to find the working directory")?.join(state);
    let live = prepare(args, &state)?;
    let scene = live.scene()?;
    let libraries = own.path().join("lib");
    std::fs::create_dir(&libraries).context("failed to make a directory")?;
    gpupin_sim::install(&library()?, &scene, &libraries).map_err(|error| {
        let is_other = matches!(error, InstallError::OtherBuild { .. });
        let failure = Failure::new(Exit::Failed, error);
        if is_other { failure.hint(both_anew()) } else { failure }
    })?;

    let residents = start_residents(&live, &state)?;
    terminal.status(&format!(
        "simulated: `{}` runs on the machine of a scene, `{}`; nothing it says about GPUs was measured",
        name.display(),
        state.join("scene.toml").display()
    ));
    let is_absent = scene.library == Library::Absent;
    let code = supervise(&args.command, &state, &libraries, is_absent);
    // They end when nobody holds the other end of their standard input.
    drop(residents);
    code.map(Exit::Program)
}

/// The state directory, made from the scene unless there is one.
fn prepare(args: &Args, state: &Path) -> Result<Live, Failure> {
    let own = state.join("scene.toml");
    if own.exists() {
        if let Some(scene) = &args.scene {
            let text = format!(
                "`{}` has a state already, so `--scene {}` cannot be its scene",
                state.display(),
                scene.display()
            );
            return Err(Failure::usage(text).hint(format!(
                "leave `--scene` out to go on from it, name another directory, or edit `{}`",
                own.display()
            )));
        }
        return Ok(Live::open(state)?);
    }
    let scene = args.scene.as_deref().unwrap_or(OsStr::new(DEFAULT_SCENE));
    let found = Live::find(scene).map_err(|error| {
        let is_name = !Path::new(scene).exists();
        if is_name { no_scene(scene) } else { Failure::from(error) }
    });
    Ok(found?.copy_to(state)?)
}

fn library() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os(LIBRARY_VARIABLE) {
        return Ok(PathBuf::from(named));
    }
    let program = env::current_exe().context("failed to find this program")?;
    gpupin_sim::beside(&program).ok_or_else(|| {
        let directory = program.parent().unwrap_or(Path::new("/"));
        let missing = directory.join(gpupin_sim::LIBRARY);
        Failure::usage(format!("`{}` was not found", missing.display())).hint(both_anew())
    })
}

fn both_anew() -> String {
    format!(
        "build both with `cargo build -p gpupin -p gpupin-sim`, or say with `{LIBRARY_VARIABLE}` where the library of this build lies"
    )
}

/// Starts what the scene has running, so that it is found in `/proc` too.
fn start_residents(live: &Live, state: &Path) -> Result<Vec<Child>, Failure> {
    let program = env::current_exe().context("failed to find this program")?;
    let mut children = Vec::new();
    for (place, resident) in Resident::all(live.scene()?.as_ref()).into_iter().enumerate() {
        let (name, rest) = resident.process.command.split_first().expect("scenes are checked");
        let mut command = Command::new(&program);
        command.arg0(name).args(rest).env(STATE_VARIABLE, state);
        command.env(RESIDENT_VARIABLE, place.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("failed to start a process of the scene")?;
        // It says so when it is on its GPU.
        let mut ready = [0];
        let out = child.stdout.as_mut().expect("it is piped");
        out.read_exact(&mut ready).context("a process of the scene did not start")?;
        children.push(child);
    }
    Ok(children)
}

/// Whether this process is one of a scene; then it stays until the simulation ends.
pub(crate) fn settle() -> Option<Exit> {
    let place = env::var(RESIDENT_VARIABLE).ok()?;
    let settled = || -> anyhow::Result<()> {
        let state = env::var_os(STATE_VARIABLE).context("no state directory")?;
        let live = Live::open(Path::new(&state))?;
        let residents = Resident::all(live.scene()?.as_ref());
        let resident = residents.get(place.parse::<usize>()?).context("no such process")?;
        let name = resident.process.command.first().context("no command")?;
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        let name = std::ffi::CString::new(name.as_bytes())?;
        // A short name is a nicety for who reads the list of processes.
        let _: rustix::io::Result<()> = rustix::thread::set_name(&name);
        resident.settle(&live)?;
        io::stdout().write_all(b"\n")?;
        io::stdout().flush()?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        Ok(())
    };
    Some(if settled().is_ok() { Exit::Clean } else { Exit::Failed })
}

/// Runs the command with the simulated libraries in front; the answer is its exit code.
fn supervise(
    command: &[OsString],
    state: &Path,
    libraries: &Path,
    is_absent: bool,
) -> Result<u8, Failure> {
    let (name, rest) = command.split_first().expect("the caller has looked");
    let mut path = libraries.as_os_str().to_owned();
    if let Some(before) = env::var_os(LIBRARY_PATH).filter(|it| !it.is_empty()) {
        path.push(":");
        path.push(before);
    }
    // A machine without driver has none in the kernel either, whatever this one has.
    let root = if is_absent { libraries.as_os_str().to_owned() } else { OsString::new() };
    let program = Program {
        name: name.to_owned(),
        args: rest.to_vec(),
        variables: vec![
            (LIBRARY_PATH.to_owned(), path),
            (STATE_VARIABLE.to_owned(), state.as_os_str().to_owned()),
            // Where else gpupin was told to look is not this machine.
            (NVML_VARIABLE.to_owned(), libraries.join("libnvidia-ml.so.1").into()),
            (CUDA_VARIABLE.to_owned(), libraries.join("libcuda.so.1").into()),
            (ROOT_VARIABLE.to_owned(), root),
        ],
        group: Group::Shared,
        inherits: Vec::new(),
    };
    let mut supervised = match Supervised::start(program) {
        Ok(supervised) => supervised,
        Err(error) => {
            let exit = Exit::Program(error.code());
            return Err(Failure::new(exit, error));
        }
    };
    loop {
        if let Happening::Ended(ended) =
            supervised.next().context("failed to wait for the command")?
        {
            // Whoever wants an end once more would keep the caller from tidying up.
            std::mem::forget(supervised);
            return Ok(ended.code());
        }
    }
}
