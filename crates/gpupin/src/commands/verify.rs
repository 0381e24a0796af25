use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_run::{
    evidence::{self, Evidence},
    observe::Verdict,
    supervise::{Ended, EndingSignal, Endings, kill_below},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    commands::{rule::Format, run::wait_time},
    failure::{Exit, Failure},
    names::{self, Names},
    project::{self, Project, ProjectArgs},
    quote,
    report::write_json,
    run::words,
    terminal::{BOLD, Terminal, one_line},
};

/// Run the programs that exercise this project, and tell for each whether it stayed on its GPU
///
/// Runs the commands of `[verify]` in the policy, or the ones named, each through `gpupin run`; never anything else that it finds.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", names::HELP))]
pub(crate) struct Args {
    /// One program instead of those of the policy
    #[arg(last = true, value_name = "PROGRAM")]
    command: Vec<OsString>,

    /// Run this command line too, instead of those of the policy
    #[arg(long, value_name = "COMMAND LINE", conflicts_with = "command")]
    script: Vec<String>,

    /// How many to start at once; those that want the same GPU still wait for each other
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,

    /// How long each may take once it has started waiting for its GPU
    #[arg(long, value_name = "TIME", value_parser = wait_time)]
    script_timeout: Option<Duration>,

    /// Let verdicts be `unproved`
    #[arg(long)]
    allow_unproved: bool,

    /// Keep the other GPUs out of reach, which is what a proof usually needs
    #[arg(long)]
    isolate: bool,

    /// Use the GPU of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Ask this scene instead of the driver; everything it says is marked as simulated
    #[arg(long, value_name = "SCENE", help_heading = "Machine")]
    machine: Option<OsString>,

    /// How to print the results
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin verify                                   the commands of `[verify]` in gpupin.toml
  gpupin verify --isolate --script-timeout 5min
  gpupin verify -- python train.py --steps 10

Exit codes: 0 all proved, 1 a command failed or its run stayed unproved, 76 a program used another GPU, 128+n signal n ended it: what
runs is then ended too, and what has run is printed";

/// What became of one script.
#[derive(Debug, serde::Serialize)]
struct Verified {
    command: String,
    /// The product names of the GPUs it was pinned to.
    gpus: Vec<String>,
    /// `null` if there is no evidence.
    verdict: Option<Verdict>,
    kind: Option<Kind>,
    reasons: Vec<String>,
    /// The program's, or gpupin's where nothing tells the program's; `null` if a signal ended gpupin.
    code: Option<i32>,
    /// `None` if a signal ended it.
    #[serde(skip)]
    runner_code: Option<i32>,
    timed_out: bool,
    seconds: f64,
    evidence: Option<String>,
}

#[derive(serde::Serialize)]
struct Document {
    version: u32,
    scripts: Vec<Verified>,
}

/// A script that runs.
struct Running {
    index: usize,
    child: Child,
    name_file: PathBuf,
    started: Instant,
    timed_out: bool,
    /// When its next harder way of being ended is due, and which that is.
    ending: Option<(Instant, Harder)>,
}

/// What becomes of a runner that was asked to end and has not.
#[derive(Clone, Copy)]
enum Harder {
    /// Its program is killed, so that the runner can still say how that ended.
    KillProgram,
    KillRunner,
    Nothing,
}

/// How long a script may take to end once it was asked to, and its runner once the script was killed.
const GRACE: Duration = Duration::from_secs(15);

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.names().project, None, terminal)?;
    let scripts = scripts(args, &project.policy.verify.commands)?;
    let directory = tempdir()?;
    let mut endings = Endings::catch().context("failed to catch signals")?;
    let mut work = Work { running: Vec::new(), results: scripts.iter().map(|_| None).collect() };
    let done = work.go(args, &project, &scripts, &directory.path, &mut endings, terminal);
    let ended_by = match done {
        Ok(ended_by) => ended_by,
        Err(failure) => {
            // Nobody else would end them.
            work.ask_all(Signal::TERM);
            while !work.running.is_empty() && work.poll(None).is_ok() {
                thread::sleep(PAUSE);
            }
            return Err(failure);
        }
    };
    drop(endings);
    let results: Vec<_> = work.results.into_iter().flatten().collect();
    let exit = match (judge(&results, args.allow_unproved), ended_by) {
        (Exit::Violation, _) => Exit::Violation,
        (_, Some(signal)) => {
            let missing = scripts.len() - results.len();
            terminal.warning(&format!("ended by signal {}; not run: {missing}", signal.as_raw()));
            let number = u8::try_from(signal.as_raw()).unwrap_or(0);
            Exit::Program(Ended::Signal(number).code())
        }
        (exit, None) => exit,
    };
    match args.output_format {
        Format::Json => write_json(&Document { version: 1, scripts: results }, terminal.out()),
        Format::Text => {
            let text = table(&results, terminal.has_colour());
            terminal.out().write_all(text.as_bytes())
        }
    }
    .context("failed to write output")?;
    Ok(exit)
}

impl Args {
    fn names(&self) -> Names {
        Names::new(self.role.as_deref(), &self.project)
    }
}

/// How often it is looked for what has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// What runs, and what became of what has run.
struct Work {
    running: Vec<Running>,
    /// By script; `None` for one that has not ended, or not been started.
    results: Vec<Option<Verified>>,
}

impl Work {
    /// Runs all scripts, or as many as there is time for before somebody wants an end; that is the signal.
    fn go(
        &mut self,
        args: &Args,
        project: &Project,
        scripts: &[Script],
        directory: &Path,
        endings: &mut Endings,
        terminal: &mut Terminal,
    ) -> Result<Option<Signal>, Failure> {
        let mut waiting = scripts.iter().peekable();
        let mut ended_by = None;
        loop {
            for EndingSignal { signal, is_of_group } in
                endings.came().context("failed to read signals")?
            {
                if ended_by.replace(signal).is_some() {
                    // Who asks again does not want to wait.
                    self.running.iter().for_each(|it| kill_below(it.child.id()));
                } else if is_of_group {
                    self.running.iter_mut().for_each(Running::is_asked);
                } else {
                    self.ask_all(signal);
                }
            }
            while ended_by.is_none() && self.running.len() < usize::from(args.jobs) {
                let Some(script) = waiting.next() else { break };
                let name_file = directory.join(script.index.to_string());
                let child = start(args, &project.root, script, &name_file)?;
                terminal.verbose(|| format!("started `{}`", script.text));
                self.running.push(Running {
                    index: script.index,
                    child,
                    name_file,
                    started: Instant::now(),
                    timed_out: false,
                    ending: None,
                });
            }
            for (it, code) in self.poll(args.script_timeout)? {
                let result = result(&it, code, &scripts[it.index].text, project);
                terminal.status(&line(&result));
                self.results[it.index] = Some(result);
            }
            if self.running.is_empty() && (ended_by.is_some() || waiting.peek().is_none()) {
                return Ok(ended_by);
            }
            terminal.progress(|| format!("{} of {} run", self.running.len(), scripts.len()));
            thread::sleep(PAUSE);
        }
    }

    fn ask_all(&mut self, signal: Signal) {
        self.running.iter_mut().for_each(|it| it.ask(signal));
    }

    /// Takes out those that have ended, and ends those that take too long.
    fn poll(&mut self, limit: Option<Duration>) -> Result<Vec<(Running, Option<i32>)>, Failure> {
        let mut done = Vec::new();
        for index in (0..self.running.len()).rev() {
            let it = &mut self.running[index];
            match it.child.try_wait().context("failed to wait for a runner")? {
                Some(status) => done.push((self.running.remove(index), status.code())),
                None => it.hurry(limit),
            }
        }
        done.reverse();
        Ok(done)
    }
}

/// A command line to run.
struct Script {
    index: usize,
    text: String,
    words: Vec<OsString>,
}

fn scripts(args: &Args, declared: &[String]) -> Result<Vec<Script>, Failure> {
    if !args.command.is_empty() {
        let text = words::command(&args.command);
        return Ok(vec![Script { index: 0, text, words: args.command.clone() }]);
    }
    let lines = if args.script.is_empty() { declared } else { &args.script };
    if lines.is_empty() {
        return Err(Failure::usage("there is nothing to run").hint(
            "list commands in the policy (`[verify] commands = [\"python -m assistant --selftest\"]`), or name one: `gpupin verify -- PROGRAM`",
        ));
    }
    let script = |(index, line): (usize, &String)| {
        let words = if quote::needs_shell(line) {
            vec!["sh".into(), "-c".into(), line.into()]
        } else {
            quote::split(line).unwrap_or_default().into_iter().map(OsString::from).collect()
        };
        Script { index, text: one_line(line), words }
    };
    Ok(lines.iter().enumerate().map(script).collect())
}

/// Starts a runner for a script. What the script prints goes to standard error: standard output is for the results.
fn start(args: &Args, root: &Path, script: &Script, name_file: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().context("failed to find the program of gpupin")?;
    let mut command = Command::new(program);
    command.args(["run", "--quiet", "--name-evidence-in"]).arg(name_file);
    let Names { role, project } = args.names();
    let ProjectArgs { policy, no_policy, profile, lock } = &project;
    let mut option = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    };
    let working_directory =
        std::env::current_dir().context("failed to find the working directory")?;
    let path = |it: &Option<PathBuf>| it.as_ref().map(|it| working_directory.join(it).into());
    option("--policy", path(policy));
    option("--lock", path(lock));
    option("--profile", profile.as_ref().map(Into::into));
    option("--role", role.map(Into::into));
    let scene = args.machine.as_ref().map(|it| {
        let path = working_directory.join(it);
        // Not a path, but one of gpupin's own.
        if path.exists() { path.into() } else { it.clone() }
    });
    option("--machine", scene);
    if *no_policy {
        command.arg("--no-policy");
    }
    if args.isolate {
        command.arg("--isolate");
    }
    command.arg("--").args(&script.words);
    command.current_dir(root).stdin(Stdio::null()).stdout(std::io::stderr());
    let failed = || format!("failed to start a runner for `{}`", script.text);
    Ok(command.spawn().with_context(failed)?)
}

impl Running {
    /// Asks a runner to end its program; it passes that on.
    fn ask(&mut self, signal: Signal) {
        if self.ending.is_none() {
            // It is our child and not waited for, so that the number is still its own.
            let _ = kill_process(Pid::from_child(&self.child), signal);
            self.is_asked();
        }
    }

    /// Somebody asked it.
    fn is_asked(&mut self) {
        self.ending.get_or_insert((Instant::now() + GRACE, Harder::KillProgram));
    }

    /// Ends one whose time is over, in ways that become harder.
    fn hurry(&mut self, limit: Option<Duration>) {
        let is_over = limit.is_some_and(|it| self.started.elapsed() > it);
        if is_over && self.ending.is_none() {
            self.timed_out = true;
            self.ask(Signal::TERM);
        }
        let Some((at, how)) = self.ending else { return };
        if at > Instant::now() {
            return;
        }
        let next = match how {
            Harder::KillProgram => {
                kill_below(self.child.id());
                Harder::KillRunner
            }
            Harder::KillRunner => {
                kill_below(self.child.id());
                // It may have ended just now.
                drop(self.child.kill());
                Harder::Nothing
            }
            Harder::Nothing => Harder::Nothing,
        };
        self.ending = Some((Instant::now() + GRACE, next));
    }
}

fn result(it: &Running, code: Option<i32>, text: &str, project: &Project) -> Verified {
    let seconds = it.started.elapsed().as_secs_f64();
    let path = fs::read_to_string(&it.name_file).ok().map(PathBuf::from);
    let evidence: Option<Evidence> =
        path.as_deref().and_then(|it| evidence::read(it).ok()).map(|it| it.evidence);
    let pinned = evidence.iter().flat_map(|it| &it.gpus).filter(|it| it.pinned);
    Verified {
        command: text.to_owned(),
        gpus: pinned.map(|it| it.name.clone()).collect(),
        verdict: evidence.as_ref().map(|it| it.verdict),
        kind: evidence.as_ref().map(|it| it.kind),
        reasons: evidence
            .iter()
            .flat_map(|evidence| evidence.reasons.iter().map(|it| words::reason(it, evidence)))
            .collect(),
        code: evidence
            .as_ref()
            .and_then(|it| it.exit)
            .map_or(code, |it| code.and(Some(it.code().into()))),
        runner_code: code,
        timed_out: it.timed_out,
        seconds,
        evidence: path.map(|it| project.display(&it)),
    }
}

/// The worst of all.
fn judge(results: &[Verified], allow_unproved: bool) -> Exit {
    if results.iter().any(|it| it.verdict == Some(Verdict::Violated) || it.runner_code == Some(76))
    {
        return Exit::Violation;
    }
    let is_good = |it: &Verified| {
        let verdict = match it.verdict {
            Some(Verdict::Proved) => true,
            Some(Verdict::Unproved) => allow_unproved,
            Some(Verdict::Violated) | None => false,
        };
        verdict && it.runner_code == Some(0) && !it.timed_out
    };
    if results.iter().all(is_good) { Exit::Clean } else { Exit::Findings }
}

fn line(it: &Verified) -> String {
    let ended = how(it);
    format!("gpupin: `{}`: {}, {ended}", it.command, verdict(it))
}

fn how(it: &Verified) -> String {
    match it.code {
        _ if it.timed_out => "took too long".to_owned(),
        Some(code) => format!("code {code}"),
        None => "its runner was killed".to_owned(),
    }
}

fn verdict(it: &Verified) -> String {
    match (it.verdict, it.kind) {
        (None, _) => "no evidence".to_owned(),
        (Some(verdict), None | Some(Kind::Measured)) => verdict.to_string(),
        (Some(verdict), Some(kind)) => format!("{verdict} ({kind})"),
    }
}

fn table(results: &[Verified], colour: bool) -> String {
    let mut rows = vec![["script", "GPU", "verdict", "time", "ended"].map(str::to_owned)];
    rows.extend(results.iter().map(|it| {
        let time = words::time(Duration::from_secs_f64(it.seconds));
        let gpus = if it.gpus.is_empty() { "-".to_owned() } else { it.gpus.join(", ") };
        [it.command.clone(), gpus, verdict(it), time, how(it)]
    }));
    let widths: Vec<_> = (0..5)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = (0..5).map(|it| format!("{:width$}", row[it], width = widths[it]));
        let cells = cells.collect::<Vec<_>>().join("  ");
        let cells = cells.trim_end();
        let row =
            if index == 0 && colour { format!("{BOLD}{cells}{BOLD:#}") } else { cells.to_owned() };
        writeln!(text, "{row}").expect("a `String` takes everything");
        for reason in index.checked_sub(1).iter().flat_map(|it| &results[*it].reasons) {
            writeln!(text, "  {reason}").expect("a `String` takes everything");
        }
    }
    text
}

/// A directory of our own for as long as this runs.
struct Scratch {
    path: PathBuf,
}

fn tempdir() -> Result<Scratch, Failure> {
    let path = std::env::temp_dir().join(format!("gpupin-verify-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
    Ok(Scratch { path })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}
