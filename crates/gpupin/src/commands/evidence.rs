use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_policy::Bytes;
use gpupin_run::{
    evidence::{self, EvidenceError, LeaseRecord, Problem, Stored},
    observe::Verdict,
    supervise::Ended,
};

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    project::{self, Project, ProjectArgs},
    report::write_json,
    run::{self, words},
    terminal::{Terminal, one_line, shortened},
};

/// List, show and check what `gpupin run` has written down
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gpupin evidence ls
  gpupin evidence show                what the last run was
  gpupin evidence check               hash and judge all runs again

Exit codes: 0 in order, 1 a check does not hold, 2 usage or configuration";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the evidence of this project
    Ls(Common),
    /// Show one, the last without a name
    Show {
        /// The beginning of its name, or a file
        name: Option<String>,

        #[command(flatten)]
        common: Common,
    },
    /// Hash the evidence and its samples again, judge them again, and compare
    ///
    /// Shows damage and edits. It does not show who wrote it: evidence is not signed, and who hashes again after an edit of both can
    /// make up anything.
    ///
    /// Also tells when the policy is another one now. Without any evidence it warns that nothing was checked; where `--evidence-dir`
    /// names a directory that is an error.
    Check {
        /// Beginnings of names, or files; all without any
        names: Vec<String>,

        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    /// Where the evidence lies
    #[arg(long, value_name = "DIR")]
    evidence_dir: Option<PathBuf>,

    #[command(flatten)]
    project: ProjectArgs,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(common) => ls(common, terminal),
        Command::Show { name, common } => show(name.as_deref(), common, terminal),
        Command::Check { names, common } => check(names, common, terminal),
    }
}

impl Common {
    fn open(&self, terminal: &mut Terminal) -> Result<(Project, PathBuf), Failure> {
        let project = project::open_or_place(&self.project, terminal)?;
        let directory = match &self.evidence_dir {
            Some(directory) => {
                let path = project.working_directory.join(directory);
                if !path.is_dir() {
                    let shown = project.display(&path);
                    return Err(Failure::usage(format!("there is no directory `{shown}`")));
                }
                path
            }
            None => project.root.join(run::EVIDENCE),
        };
        Ok((project, directory))
    }
}

#[derive(serde::Serialize)]
struct Listing {
    version: u32,
    evidence: Vec<Shown>,
}

/// Evidence, and what is wrong with it.
#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    stored: Stored,
    /// None of evidence that checks, which is shown as it lies on disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl Shown {
    fn new(stored: Stored, problems: &[Problem]) -> Self {
        Self { stored, problems: problems.iter().map(ToString::to_string).collect() }
    }

    /// What it says of the run, unless that is not to be believed.
    fn verdict(&self) -> &'static str {
        if self.problems.is_empty() { self.stored.evidence.verdict.as_str() } else { "no check" }
    }

    fn warn(&self, what: &str, terminal: &mut Terminal) {
        for problem in &self.problems {
            terminal.warning(&format!("{what} does not check: {}", one_line(problem)));
        }
    }
}

fn ls(common: &Common, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (project, directory) = common.open(terminal)?;
    let mut all = Vec::new();
    let mut exit = Exit::Clean;
    for path in evidence::list(&directory).map_err(failed)? {
        match evidence::read(&path) {
            Ok(stored) => {
                let problems = evidence::contradictions(&path, &stored);
                let shown = Shown::new(stored, &problems);
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                shown.warn(&format!("`{}`", one_line(&name)), terminal);
                all.push(shown);
            }
            Err(error) => {
                exit = Exit::Failed;
                terminal.error(&error.to_string());
            }
        }
    }
    let is_whole = warn_of_vanished(&directory, terminal)?;
    if exit == Exit::Clean && !(is_whole && all.iter().all(|it| it.problems.is_empty())) {
        exit = Exit::Findings;
    }
    if let Format::Json = common.output_format {
        let listing = Listing { version: evidence::VERSION, evidence: all };
        write_json(&listing, terminal.out()).context("failed to write output")?;
        return Ok(exit);
    }
    if all.is_empty() {
        terminal.status(&format!("no evidence in `{}`", project.display(&directory)));
    }
    let mut text = String::new();
    for shown in &all {
        let it = &shown.stored.evidence;
        let exit = it.exit.map_or("-".to_owned(), ended);
        let gpus: Vec<_> = it.gpus.iter().filter(|it| it.pinned).map(|it| &*it.name).collect();
        let command = shortened(&words::command(&it.command), COMMAND);
        let kind = it.kind.to_string();
        let (id, verdict, gpus) = (&it.id, shown.verdict(), gpus.join(", "));
        writeln!(text, "{id:<18} {verdict:<9} {kind:<10} {exit:<9} {gpus:<14} {command}")
            .expect("a `String` takes everything");
    }
    terminal.out().write_all(text.as_bytes()).context("failed to write output")?;
    Ok(exit)
}

/// Says of which runs only samples are left, and returns whether there is none.
fn warn_of_vanished(directory: &Path, terminal: &mut Terminal) -> Result<bool, Failure> {
    let vanished = evidence::vanished(directory).map_err(failed)?;
    for id in &vanished {
        terminal.warning(&format!("`{}` does not check: {VANISHED}", one_line(id)));
    }
    Ok(vanished.is_empty())
}

const VANISHED: &str = "its samples are here, and the evidence is gone";

/// How many characters of a command a list shows.
const COMMAND: usize = 80;

fn ended(ended: Ended) -> String {
    match ended {
        Ended::Code(code) => format!("code {code}"),
        Ended::Signal(number) => format!("signal {number}"),
    }
}

fn show(name: Option<&str>, common: &Common, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (project, directory) = common.open(terminal)?;
    // Of several that are gone one may be the last.
    let is_whole = name.is_some() || warn_of_vanished(&directory, terminal)?;
    let path = match name {
        Some(name) => find(&directory, name, &project)?,
        None => evidence::list(&directory).map_err(failed)?.pop().ok_or_else(|| {
            Failure::usage(format!("no evidence in `{}`", project.display(&directory)))
        })?,
    };
    let stored = evidence::read(&path).map_err(failed)?;
    let problems = evidence::check(&path, &stored);
    let shown = Shown::new(stored, &problems);
    match common.output_format {
        Format::Json => write_json(&shown, terminal.out()),
        Format::Text => terminal.out().write_all(text(&shown).as_bytes()),
    }
    .context("failed to write output")?;
    shown.warn("it", terminal);
    let is_clean = is_whole && shown.problems.is_empty();
    Ok(if is_clean { Exit::Clean } else { Exit::Findings })
}

/// The evidence whose name begins so, or the file of that name.
fn find(directory: &Path, name: &str, project: &Project) -> Result<PathBuf, Failure> {
    let all = evidence::list(directory).map_err(failed)?;
    let stem = |it: &Path| it.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(path) = all.iter().find(|it| stem(it) == name) {
        return Ok(path.clone());
    }
    let mut beginning: Vec<_> = all.into_iter().filter(|it| stem(it).starts_with(name)).collect();
    match (beginning.len(), beginning.pop()) {
        (1, Some(path)) => Ok(path),
        (0, _) => {
            let path = project.working_directory.join(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Failure::usage(format!("no evidence is called `{name}`"))
                .hint("`gpupin evidence ls` lists them"))
        }
        (count, _) => {
            Err(Failure::usage(format!("{count} pieces of evidence begin with `{name}`"))
                .hint("`gpupin evidence ls` lists them"))
        }
    }
}

/// One piece of evidence for people.
fn text(shown: &Shown) -> String {
    let evidence = &shown.stored.evidence;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<10} {value}").expect("a `String` takes everything");
    };
    if !shown.problems.is_empty() {
        line("verdict", "does not check");
        for problem in &shown.problems {
            line("", &one_line(problem));
        }
        line("claims", &words::bare_verdict(evidence));
    } else if evidence.reasons.is_empty() {
        line("verdict", &words::verdict(evidence));
    } else {
        line("verdict", &words::bare_verdict(evidence));
    }
    for reason in &evidence.reasons {
        line("", &words::reason(reason, evidence));
    }
    line("command", &words::command(&evidence.command));
    line("exit", &evidence.exit.map_or("unknown".to_owned(), ended));
    let until = evidence.ended.as_deref().unwrap_or("unknown");
    line("time", &format!("{} to {until}", evidence.started));
    let driver = evidence.driver.as_deref().unwrap_or("unknown");
    line("machine", &format!("{}, driver {driver}, told by {}", evidence.host, evidence.source));
    for gpu in &evidence.gpus {
        let marks =
            [(gpu.pinned, "pinned"), (gpu.forbidden, "forbidden"), (gpu.isolated, "out of reach")];
        let marks: Vec<_> = marks.into_iter().filter(|it| it.0).map(|it| it.1).collect();
        let marks =
            if marks.is_empty() { String::new() } else { format!(": {}", marks.join(", ")) };
        line("GPU", &format!("{} ({}){marks}", gpu.name, gpu.uuid));
    }
    if let Some(mask) = &evidence.pin.kept {
        let mask = one_line(mask);
        line("kept", &format!("the launcher's CUDA_VISIBLE_DEVICES={mask}; gpupin pinned nothing"));
    }
    for (name, value) in &evidence.pin.variables {
        line("set", &format!("{name}={}", one_line(value)));
    }
    line(
        "lease",
        &match evidence.lease {
            LeaseRecord::None => "none".to_owned(),
            LeaseRecord::Outer => "of an outer run".to_owned(),
            LeaseRecord::Held { waited_ms } => {
                format!("held, after {}", words::time(std::time::Duration::from_millis(waited_ms)))
            }
        },
    );
    let isolation = &evidence.isolation;
    if isolation.requested {
        line("isolation", &isolation.achieved.join(", "));
    }
    for refused in &isolation.refused {
        line("", &format!("refused: {refused}"));
    }
    for it in &evidence.processes {
        let gpu = evidence.gpus.iter().find(|gpu| gpu.uuid == it.gpu);
        let gpu = gpu.map_or(it.gpu.as_str(), |it| &it.name);
        let memory = it
            .peak_memory
            .map_or("memory unknown".to_owned(), |it| format!("up to {}", Bytes::new(it)));
        let (first, last) = (seconds(it.first_ms), seconds(it.last_ms));
        let stranger = if it.tree { "" } else { ", not of this run" };
        let (pid, command) = (it.process, one_line(&it.command));
        line("seen", &format!("{pid} on {gpu}, {first} to {last}, {memory}{stranger}: {command}"));
    }
    if let Some(samples) = &evidence.samples {
        line(
            "samples",
            &format!("{} in {}, SHA-256 {}", samples.samples, samples.file, samples.sha256),
        );
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{:01} s", ms / 1000, ms % 1000 / 100)
}

#[derive(serde::Serialize)]
struct Checks {
    version: u32,
    checks: Vec<Checked>,
}

#[derive(serde::Serialize)]
struct Checked {
    id: String,
    verdict: Verdict,
    /// Whether it and its samples are what it says and give its verdict.
    holds: bool,
    problems: Vec<String>,
    /// Whether the policy is still the same; `null` if it had none.
    policy_unchanged: Option<bool>,
}

fn check(names: &[String], common: &Common, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (project, directory) = common.open(terminal)?;
    let paths = if names.is_empty() {
        evidence::list(&directory).map_err(failed)?
    } else {
        names.iter().map(|it| find(&directory, it, &project)).collect::<Result<_, _>>()?
    };
    let vanished = match names {
        [] => evidence::vanished(&directory).map_err(failed)?,
        _ => Vec::new(),
    };
    if paths.is_empty() && vanished.is_empty() {
        let nothing = format!(
            "nothing was checked: there is no evidence in `{}`",
            project.display(&directory)
        );
        // Who says where it lies expects some there, and must not take this for a check that holds.
        if common.evidence_dir.is_some() {
            return Err(Failure::usage(nothing));
        }
        terminal.warning(&nothing);
    }
    let mut checks: Vec<_> = paths.iter().map(|it| checked(it, &project)).collect();
    checks.extend(vanished.into_iter().map(|id| Checked {
        id,
        verdict: Verdict::Unproved,
        holds: false,
        problems: vec![VANISHED.to_owned()],
        policy_unchanged: None,
    }));
    let exit = if checks.iter().all(|it| it.holds) { Exit::Clean } else { Exit::Findings };
    if let Format::Json = common.output_format {
        write_json(&Checks { version: 1, checks }, terminal.out())
            .context("failed to write output")?;
        return Ok(exit);
    }
    let mut text = String::new();
    for it in &checks {
        let word = if it.holds { "ok" } else { "PROBLEM" };
        let note = match it.policy_unchanged {
            Some(false) => " (the policy has changed since)",
            _ => "",
        };
        let problems = it.problems.iter().map(|it| format!("\n  {}", one_line(it)));
        let problems: String = problems.collect();
        let id = one_line(&it.id);
        writeln!(text, "{word:<8} {id} {}{note}{problems}", it.verdict)
            .expect("a `String` takes everything");
    }
    terminal.out().write_all(text.as_bytes()).context("failed to write output")?;
    Ok(exit)
}

/// What cannot be read is one more problem, and no reason to leave out the others.
fn checked(path: &Path, project: &Project) -> Checked {
    let stored = match evidence::read(path) {
        Ok(stored) => stored,
        Err(error) => {
            let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let problems = vec![format!("{:#}", anyhow::Error::new(error))];
            let (verdict, policy_unchanged) = (Verdict::Unproved, None);
            return Checked { id, verdict, holds: false, problems, policy_unchanged };
        }
    };
    let problems = evidence::check(path, &stored);
    let evidence = stored.evidence;
    let policy = evidence.policy.path.as_ref().zip(evidence.policy.sha256.as_ref());
    let policy_unchanged = policy
        .map(|(path, hash)| run::sha256_of(&project.root.join(path)).is_ok_and(|it| it == *hash));
    Checked {
        id: evidence.id,
        verdict: evidence.verdict,
        holds: problems.is_empty(),
        problems: problems.iter().map(ToString::to_string).collect(),
        policy_unchanged,
    }
}

fn failed(error: EvidenceError) -> Failure {
    Failure::new(Exit::Failed, error)
}
