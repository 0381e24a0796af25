use std::{
    fs, io,
    num::NonZero,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_lint::{
    Options,
    baseline::Baseline,
    finding::Severity,
    selection::{Overrides, Selection},
    source::Place,
    unit::Unread,
};

use crate::{
    changes::{ChangeArgs, Changed, Changes},
    failure::{Exit, Failure},
    order,
    overlay::Overlay,
    project::{self, Project, ProjectArgs},
    report::{Format, Report, Style, write_json},
    scan::{self, Request, Scan},
    terminal::{Terminal, one_line},
};

/// The baseline that is written when no name is given.
pub(super) const BASELINE: &str = "gpupin-baseline.json";

/// Find the places that could put work on another GPU than the one the project declares
///
/// Reads Python, notebooks, shell, PowerShell, batch, Dockerfiles, compose, Kubernetes, pipelines,
/// systemd units, Makefiles, `.env` and settings files. No GPU is needed and nothing is run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files and directories to scan; without any, the working directory
    paths: Vec<PathBuf>,

    /// Print the order that was derived for the program that starts in this file, and why what it
    /// sets takes effect or not, instead of findings
    ///
    /// Without paths, everything below the policy of the file is read.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["statistics", "baseline", "write_baseline"])]
    order: Option<PathBuf>,

    #[command(flatten)]
    rules: RuleArgs,

    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    project: ProjectArgs,

    #[command(flatten)]
    changes: ChangeArgs,

    #[command(flatten)]
    baseline: BaselineArgs,

    #[command(flatten)]
    output: OutputArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin scan                                     this directory
  gpupin scan app/ start.sh --select strict       everything gpupin knows
  gpupin scan --ignore GP204 --statistics         how much of what
  gpupin scan --write-baseline                    accept what is there today …
  gpupin scan --baseline gpupin-baseline.json     … and see only what is new
  gpupin scan --since origin/main                 what this branch made worse
  gpupin scan --staged                            what the next commit would
  gpupin scan --order main.py                     what happens in a program, and when
  gpupin scan --output-format sarif --output-file gpupin.sarif

Exit codes: 0 nothing found, 1 findings, 2 usage error or a file could not be read";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleArgs {
    /// Look for these rules only: codes, names, `default`, `strict`, or a prefix such as `GP2`
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    select: Option<Vec<String>>,

    /// Look for these rules too
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    extend_select: Vec<String>,

    /// Do not look for these rules
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    ignore: Option<Vec<String>>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileArgs {
    /// Leave out files that match, also when they are named
    ///
    /// Adds to `lint.exclude` of the policy. A glob without a slash matches files and directories of
    /// that name anywhere.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Scan files that `.gitignore` and `.ignore` leave out
    #[arg(long)]
    no_respect_gitignore: bool,

    /// Parse every file, also those in which nothing can be found
    ///
    /// Finds the same, slowly. For checking that it does.
    #[arg(long)]
    no_prefilter: bool,

    /// Read with this many threads instead of one per core
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Baseline")]
struct BaselineArgs {
    /// Leave out the findings that this file accepts
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Accept all findings of today: write them to a baseline
    ///
    /// Without a name, the file given with `--baseline`, or `gpupin-baseline.json` beside the policy.
    /// What the file accepts already, of rules or below paths that are not scanned now, stays accepted.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "how clap tells a flag without its value")]
    write_baseline: Option<Option<PathBuf>>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// How to print findings
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    /// Write the findings to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Print how many findings each rule has, and not the findings
    #[arg(long)]
    statistics: bool,

    /// Exit with 0 although there are findings
    #[arg(long)]
    exit_zero: bool,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    if args.output.statistics && !args.output.output_format.is_for_people() {
        return Err(Failure::usage("`--statistics` is for the formats `full` and `concise`")
            .hint("`--output-format json` has the same counts in `summary.by_rule`"));
    }
    if args.baseline.write_baseline == Some(None)
        && let [.., name] = &*args.paths
        && !name.exists()
    {
        let name = name.display();
        return Err(Failure::usage(format!("`{name}` does not exist"))
            .hint(format!("a name for the baseline follows `=`: `--write-baseline={name}`")));
    }
    let start = args.paths.first().or(args.order.as_ref());
    let start = start.map(PathBuf::as_path);
    let changes = Changes::find(&args.changes, start)?;
    let on_disk = Overlay::default();
    let tree = changes.as_ref().map_or(&on_disk, |it| &it.after);
    let project = project::open_in(tree, &args.project, start, terminal)?;
    let baseline = read_baseline(&args.baseline)?;
    let (request, mut scan) = scan_in(tree, &project, args, terminal)?;
    let changed = changes.as_ref().map(|it| it.of_scan(&project, &scan));
    let of_order = args.order.as_deref().map(|it| project.key(it));
    // An order reads all files, whether they can matter or not, and is about one.
    let concerns = |key: &str| {
        of_order.as_ref().is_none_or(|it| it == key)
            && changed.as_ref().is_none_or(|it| it.contains(key))
    };
    project.tell_simulated(terminal);
    tell_missing_entry_points(&project, terminal);
    tell_unread(&project, &scan, concerns, terminal);
    tell_syntax_errors(&project, &scan, terminal);
    for problem in &scan.problems {
        let path = one_line(&problem.path);
        terminal.error(&format!("failed to read `{path}`: {}", problem.message));
    }
    let clean = if scan.problems.is_empty() { Exit::Clean } else { Exit::Failed };

    if let Some(file) = &args.order {
        print_order(args, file, &project, &scan, terminal)?;
        return Ok(clean);
    }

    if let Some(path) = &args.baseline.write_baseline {
        let path = baseline_path(path.as_deref(), args.baseline.baseline.as_deref(), &project);
        write_baseline(&path, &request, &project, &scan, terminal)?;
        return Ok(clean);
    }

    let mut accepted = Vec::new();
    if let Some(baseline) = &baseline {
        let filtered = baseline.filter(&scan.units, &mut scan.analysis);
        terminal.verbose(|| {
            let (accepted, gone) = (filtered.accepted.len(), filtered.gone.len());
            format!("the baseline accepts {accepted} findings, and {gone} that are not there")
        });
        accepted = filtered.accepted;
    }
    if let (Some(changes), Some(changed)) = (&changes, &changed) {
        changed.filter(&mut scan, &mut accepted, || {
            scan_before(changes, &project, start, args, terminal)
        });
    }
    let report = Report::new(&project, &scan, &accepted).of_change(changed.as_ref());
    print(&args.output, &report, terminal)?;
    if args.output.output_format.is_for_people() {
        terminal.status(&summary(&report, changed.as_ref()));
        tell_that_nothing_starts(&scan, terminal);
    }
    let is_clean = scan.analysis.findings.is_empty() || args.output.exit_zero;
    Ok(if clean == Exit::Clean && !is_clean { Exit::Findings } else { clean })
}

/// Scans a project as it is in a tree.
fn scan_in(
    tree: &Overlay,
    project: &Project,
    args: &Args,
    terminal: &mut Terminal,
) -> Result<(Request, Scan), Failure> {
    let request = request(args, project)?;
    let scan = scan::scan(tree, project, &request, terminal)?;
    Ok((request, scan))
}

/// Scans what there was before a change. A policy that could not be read then says nothing.
fn scan_before(
    changes: &Changes,
    project: &Project,
    start: Option<&Path>,
    args: &Args,
    terminal: &mut Terminal,
) -> Option<Scan> {
    let tree = changes.before.as_ref()?;
    terminal.verbose(|| "scanning what there was before".to_owned());
    let before = project::open_in(tree, &args.project, start, terminal).ok()?;
    // Findings are recognised by paths as seen from the root, which a new policy moves.
    let before = Project { root: project.root.clone(), ..before };
    scan_in(tree, &before, args, terminal).ok().map(|it| it.1)
}

impl FileArgs {
    /// A scan of these paths for what is selected.
    pub(super) fn request(&self, paths: Vec<PathBuf>, selection: Selection) -> Request {
        Request {
            paths,
            exclude: self.exclude.clone(),
            respect_gitignore: !self.no_respect_gitignore,
            threads: self.threads.unwrap_or_else(scan::cores),
            prefilter: !self.no_prefilter,
            options: Options { selection, ..Options::default() },
        }
    }
}

fn request(args: &Args, project: &Project) -> Result<Request, Failure> {
    let paths = match (args.paths.as_slice(), &args.order) {
        ([], None) => vec![PathBuf::from(".")],
        ([], Some(_)) => vec![project.root.clone()],
        (paths, _) => paths.to_owned(),
    };
    let mut request = args.files.request(paths, selection(&args.rules, project)?);
    // An order is to be seen whole, also where no rule has anything to say.
    request.prefilter &= args.order.is_none();
    Ok(request)
}

fn print_order(
    args: &Args,
    file: &Path,
    project: &Project,
    scan: &Scan,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let key = project.key(file);
    let shown = project.shown(&key);
    if !scan.units.iter().any(|it| it.source.path == key) {
        return Err(Failure::usage(format!("`{shown}` is not among the files that were read"))
            .hint("it must exist, be of a language gpupin reads, lie below the paths and not be excluded"));
    }
    let linted = gpupin_lint::order(
        &scan.units,
        &project.policy,
        &project.lock,
        &Options { whole_order: true, ..Options::default() },
        &gpupin_lint::Alone,
    );
    let Some(order) = order::order(&linted, project, &key) else {
        let failure = Failure::usage(format!("no program starts in `{shown}`"));
        let entries: Vec<_> = order::entries_that_run(&linted, &key)
            .iter()
            .map(|it| format!("`{}`", project.shown(it)))
            .collect();
        if entries.is_empty() {
            return Err(failure);
        }
        return Err(failure.hint(format!("it runs in {}", entries.join(", "))));
    };
    let colour = terminal.has_colour();
    match args.output.output_format {
        Format::Full | Format::Concise => order::write(&order, colour, terminal.out()),
        Format::Json => write_json(&order, terminal.out()),
        _ => return Err(Failure::usage("`--order` is printed as `full` or `json`")),
    }
    .context("failed to write output")?;
    Ok(())
}

pub(super) fn selection(args: &RuleArgs, project: &Project) -> Result<Selection, Failure> {
    let overrides = Overrides {
        select: args.select.clone(),
        extend_select: args.extend_select.clone(),
        ignore: args.ignore.clone(),
    };
    scan::selection(&overrides, project)
}

/// Tells which entry points of the policy are no files: without them a role holds for nothing.
pub(super) fn tell_missing_entry_points(project: &Project, terminal: &mut Terminal) {
    let of_lint = project.policy.lint.entry_points.iter().map(|it| ("lint".to_owned(), it));
    let of_roles = project.policy.roles.iter().flat_map(|(name, role)| {
        role.entry_points.iter().map(move |it| (format!("roles.{name}"), it))
    });
    for (table, entry) in of_lint.chain(of_roles) {
        let is_glob = entry.contains(['*', '?', '[', '{']);
        if !is_glob && !project.root.join(entry).exists() {
            terminal.warning(&format!(
                "`entry-points` of `[{table}]` names `{entry}`, and beside the policy there is no such file"
            ));
        }
    }
}

/// Without a program no pin is looked for, which must not look like a good one.
fn tell_that_nothing_starts(scan: &Scan, terminal: &mut Terminal) {
    let Some(files @ 1..) = scan.gpu_files.filter(|_| scan.analysis.programs == 0) else { return };
    let import = if files == 1 { "file imports" } else { "files import" };
    terminal.status(&format!(
        "{files} {import} a GPU library, and none was seen to be started, so no pin was asked for: name what you start in `lint.entry-points`"
    ));
}

/// Tells which files of data do not parse: findings in them are missing, and no rule says so.
pub(super) fn tell_unread(
    project: &Project,
    scan: &Scan,
    concerns: impl Fn(&str) -> bool,
    terminal: &mut Terminal,
) {
    const TOLD: usize = 5;
    let unread = scan.units.iter().filter_map(|unit| Some((unit, unit.unread?)));
    let unread: Vec<_> = unread.filter(|it| concerns(&it.0.source.path)).collect();
    let told = if terminal.is_verbose() { unread.len() } else { unread.len().min(TOLD) };
    for (unit, how_much) in &unread[..told] {
        let Some((span, why)) = unit.syntax_errors.first() else { continue };
        let Place { line, column } = unit.source.place(span.start);
        let path = one_line(&project.shown(&unit.source.path));
        let why = one_line(why);
        let missing = match how_much {
            Unread::Everything => "nothing in it was checked",
            Unread::Part => "not all of it was checked",
        };
        terminal.warning(&format!("could not parse `{path}`: {line}:{column}: {why}; {missing}"));
    }
    match unread.len() - told {
        0 => {}
        1 => terminal.warning("could not parse 1 more file, `--verbose` names it"),
        more => {
            terminal.warning(&format!("could not parse {more} more files, `--verbose` names them"));
        }
    }
}

fn tell_syntax_errors(project: &Project, scan: &Scan, terminal: &mut Terminal) {
    // A file that is no source at all has an error at every other byte.
    const TOLD: usize = 3;
    for unit in &scan.units {
        // Why a file is unread was told.
        let errors = &unit.syntax_errors[usize::from(unit.unread.is_some())..];
        for (span, message) in errors.iter().take(TOLD) {
            terminal.verbose(|| {
                let place = unit.source.place(span.start);
                let path = one_line(&project.shown(&unit.source.path));
                let message = one_line(message);
                format!("{path}:{}:{}: {message}", place.line, place.column)
            });
        }
        if errors.len() > TOLD {
            terminal.verbose(|| {
                let path = one_line(&project.shown(&unit.source.path));
                format!("{path}: {} more syntax errors", errors.len() - TOLD)
            });
        }
    }
}

fn read_baseline(args: &BaselineArgs) -> Result<Option<Baseline>, Failure> {
    // One that is about to be written need not exist.
    let Some(path) = args.baseline.as_deref().filter(|_| args.write_baseline.is_none()) else {
        return Ok(None);
    };
    let read = read_baseline_file(path);
    Ok(Some(read.map_err(|error| error.hint("`gpupin scan --write-baseline` writes a baseline"))?))
}

fn read_baseline_file(path: &Path) -> Result<Baseline, Failure> {
    let context = || format!("failed to read `{}`", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    Ok(Baseline::parse(&text).with_context(context)?)
}

fn baseline_path(given: Option<&Path>, read: Option<&Path>, project: &Project) -> PathBuf {
    match given.or(read) {
        Some(path) => path.to_owned(),
        None => PathBuf::from(project.display(&project.root.join(BASELINE))),
    }
}

fn write_baseline(
    path: &Path,
    request: &Request,
    project: &Project,
    scan: &Scan,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let mut baseline = Baseline::of(&scan.units, &scan.analysis.findings);
    let accepted = baseline.len();
    if path.exists() {
        let older = read_baseline_file(path)
            .map_err(|error| error.hint("remove the file to write it anew"))?;
        let was_scanned = |path: &str| {
            scan.keys.binary_search_by(|it| it.as_str().cmp(path)).is_ok()
                || !project.root.join(path).exists()
        };
        baseline.keep(older, |it| {
            request.options.selection.rules().any(|rule| rule.code == it.code)
                && was_scanned(&it.path)
        });
    }
    let shown = project.display(&project.working_directory.join(path));
    fs::write(path, baseline.render()).with_context(|| format!("failed to write `{shown}`"))?;
    let many = if accepted == 1 { "" } else { "s" };
    let kept = match baseline.len() - accepted {
        0 => String::new(),
        kept => format!(", beside {kept} that it accepts of what was not scanned"),
    };
    terminal.status(&format!("accepted {accepted} finding{many} in `{shown}`{kept}"));
    Ok(())
}

fn print(args: &OutputArgs, report: &Report<'_>, terminal: &mut Terminal) -> Result<(), Failure> {
    let style = Style { colour: terminal.has_colour(), width: terminal.width() };
    let write = |out: &mut dyn io::Write, style| {
        if args.statistics {
            report.write_statistics(out)
        } else {
            report.write(args.output_format, style, out)
        }
    };
    let Some(path) = &args.output_file else {
        return Ok(write(terminal.out(), style).context("failed to write output")?);
    };
    let context = || format!("failed to write `{}`", path.display());
    let mut text = Vec::new();
    write(&mut text, Style { colour: false, ..style }).with_context(context)?;
    Ok(fs::write(path, text).with_context(context)?)
}

/// The last line: how many findings, of what, in how much.
fn summary(report: &Report<'_>, changed: Option<&Changed>) -> String {
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let scanned = format!(
        "{} scanned{}, {} ordered",
        count(report.files(), "file"),
        changed.map_or_else(String::new, |it| format!(", {} {}", it.files(), it.words())),
        count(report.programs(), "program")
    );
    let findings = report.findings();
    let errors = findings.iter().filter(|it| it.severity == Severity::Error).count();
    let found = match (errors, findings.len() - errors) {
        (0, 0) => return format!("found nothing ({scanned})"),
        (errors, 0) => count(errors, "error"),
        (0, warnings) => count(warnings, "warning"),
        (errors, warnings) => {
            format!("{} and {}", count(errors, "error"), count(warnings, "warning"))
        }
    };
    let files = count(report.files_with_findings(), "file");
    let fixes = match findings.iter().filter(|it| it.fix.is_some()).count() {
        0 => String::new(),
        fixes => format!(", {fixes} with a fix"),
    };
    format!("found {found} in {files}{fixes} ({scanned})")
}
