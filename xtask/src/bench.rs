//! How fast `gpupin scan` and `gpupin fix` are, next to what else could read the same files, and what a lease,
//! a start and the observation of `gpupin run` cost.
//!
//! Everything is measured warm, in one run, on one machine, the rows taking turns, so
//! that a busy moment hits all of them. Medians are shown with the fastest and the
//! slowest run. Slowness is no failure: the figures are for people to judge.

#![expect(clippy::cast_precision_loss, reason = "counts and bytes here are far below 2^52")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    corpus::{Corpus, Set},
    measure::{Contender, Measured},
    tools::Tools,
};
use crate::process::{cargo, quiet, root};

mod corpus;
mod fixing;
mod history;
mod launching;
mod leases;
mod measure;
mod observing;
mod simulation;
mod tools;
mod tree;

#[derive(Clone)]
struct Options {
    rounds: usize,
    /// Replaces the needles that `gpupin` reports.
    needles: Option<PathBuf>,
    /// Scans the examples instead of the corpus, and fetches nothing.
    smoke: bool,
    /// Measures this program instead of a release build.
    gpupin: Option<PathBuf>,
}

/// Runs `bench scan`.
pub(crate) fn scan(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    let (tools, corpus) = open(&options)?;
    let needles = match &options.needles {
        Some(path) => path.canonicalize().context("failed to find the needles")?,
        None => write_needles(&tools)?,
    };

    introduce(&tools, &options)?;
    let main = corpus.main();
    println!("\n{}", describe(main, &needles, &tools)?);
    println!("{}", findings(main, &tools)?);
    compare(main, &needles, &tools, options.rounds)?;
    println!("\ngrowth of `gpupin scan` on one thread");
    grow(&corpus, &needles, &tools, options.rounds)
}

/// Runs `bench fix`.
pub(crate) fn fix(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    ensure!(options.needles.is_none(), "`--needles` is for `bench scan`");
    let (tools, corpus) = open(&options)?;
    introduce(&tools, &options)?;
    println!();
    fixing::compare(corpus.main(), &tools, options.rounds)
}

/// Runs `bench run`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    ensure!(options.needles.is_none(), "`--needles` is for `bench scan`");
    let gpupin = if let Some(path) = &options.gpupin {
        path.canonicalize().context("failed to find gpupin")?
    } else {
        quiet(&mut cargo(["build", "--release", "--package", "gpupin"]))?;
        root().join("target/release/gpupin")
    };
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, {} rounds\n", options.rounds);
    leases::compare(&gpupin, options.rounds, options.smoke)?;
    launching::compare(&gpupin, options.rounds, options.smoke)?;
    observing::compare(&gpupin, options.rounds, options.smoke)
}

/// Runs `bench history`.
pub(crate) fn history(args: &[&str]) -> Result<()> {
    self::history::run(args)
}

/// Measures once, on few files: do the benchmarks themselves still work?
pub(crate) fn smoke() -> Result<()> {
    scan(&["--smoke", "--rounds", "1"])?;
    println!();
    fix(&["--smoke", "--rounds", "1"])?;
    println!();
    run(&["--smoke", "--rounds", "1"])?;
    println!();
    history(&["--smoke"])
}

/// Builds, installs and fetches what is not there.
fn open(options: &Options) -> Result<(Tools, Corpus)> {
    quiet(&mut cargo(["build", "--release", "--package", "gpupin"]))?;
    let tools = Tools::find()?;
    let corpus = if options.smoke {
        Corpus::of_examples()?
    } else {
        tools.install()?;
        Corpus::fetch(&tools.python())?
    };
    Ok((tools, corpus))
}

fn introduce(tools: &Tools, options: &Options) -> Result<()> {
    for version in tools.versions() {
        println!("{version}");
    }
    for program in tools.missing() {
        println!("note: {program} is not installed, so its rows are missing");
    }
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, median of {} rounds, in seconds (fastest to slowest)", options.rounds);
    Ok(())
}

/// Where the corpus lies with its files of all languages; fetched unless it is there.
pub(crate) fn packages() -> Result<PathBuf> {
    let tools = Tools::find()?;
    tools.install()?;
    Corpus::fetch(&tools.python())?;
    Ok(root().join("target/corpus/packages"))
}

fn parse(args: &[&str]) -> Result<Options> {
    let mut options = Options { rounds: 9, needles: None, smoke: false, gpupin: None };
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("`{arg}` needs a value"));
        match arg {
            "--rounds" => options.rounds = value()?.parse().context("`--rounds` needs a number")?,
            "--needles" => options.needles = Some(PathBuf::from(value()?)),
            "--smoke" => options.smoke = true,
            "--gpupin" => options.gpupin = Some(PathBuf::from(value()?)),
            _ => bail!("unknown option `{arg}`"),
        }
    }
    ensure!(options.rounds > 0, "`--rounds` must be at least 1");
    Ok(options)
}

/// Asks `gpupin` for its prefilter's literals, one a line.
fn write_needles(tools: &Tools) -> Result<PathBuf> {
    let literals = crate::process::stdout(tools.gpupin().args(["debug", "needles"]))?;
    ensure!(!literals.trim().is_empty(), "`gpupin debug needles` printed no needle");
    let path = root().join("target/bench/needles.txt");
    fs::create_dir_all(path.parent().expect("a file lies in a directory"))?;
    fs::write(&path, literals).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(path)
}

/// What `gpupin` found on a set.
fn findings(set: &Set, tools: &Tools) -> Result<String> {
    let output = tools.scan(&set.directory, 2, "json").output()?;
    judge(&String::from_utf8_lossy(&output.stdout), set.files as u64)
}

/// Fails when `gpupin` left out files, because then no figure would mean anything.
fn judge(report: &str, expected: u64) -> Result<String> {
    let report: serde_json::Value = serde_json::from_str(report)
        .context("`gpupin scan --output-format json` printed no JSON")?;
    let files = report["summary"]["files"].as_u64().context("the JSON has no `summary.files`")?;
    ensure!(files >= expected, "gpupin saw {files} of {expected} files");
    let found = report["findings"].as_array().context("the JSON has no `findings`")?;
    Ok(format!("gpupin: {} findings in {files} files", found.len()))
}

fn describe(set: &Set, needles: &Path, tools: &Tools) -> Result<String> {
    let Some(mut rg) = tools.rg(needles, 2) else { return Ok(set.describe()) };
    // Exit code 1: no file holds a needle.
    let output =
        rg.args(["--files-with-matches", "--glob", "*.py"]).arg(&set.directory).output()?;
    let hits = String::from_utf8_lossy(&output.stdout);
    let bytes: u64 = hits.lines().filter_map(|hit| fs::metadata(hit).ok()).map(|it| it.len()).sum();
    Ok(format!(
        "{}; needles in {} files, {:.1} % of the bytes",
        set.describe(),
        hits.lines().count(),
        100.0 * bytes as f64 / set.bytes as f64
    ))
}

/// Prints the table of all contenders on one set, for one and two threads.
fn compare(set: &Set, needles: &Path, tools: &Tools, rounds: usize) -> Result<()> {
    let mut contenders = Vec::new();
    for threads in [1, 2] {
        let mut add = |name: &str, command: Option<Command>| {
            if let Some(command) = command {
                contenders.push(Contender::looking(name, threads, command));
            }
        };
        let rg = |flag: &str| {
            tools.rg(needles, threads).map(|mut rg| {
                rg.arg(flag).arg(&set.directory);
                rg
            })
        };
        add(FLOOR, rg("--files-with-matches"));
        add("rg --count", rg("--count"));
        add(GPUPIN, Some(tools.scan(&set.directory, threads, "concise")));
        add(RUFF, tools.ruff(&set.directory, threads));
        if threads == 1 {
            add("Python, walk and 8 regexes", Some(Tools::naive(&set.directory)));
        }
    }
    let measured = measure::in_turns(&mut contenders, rounds)?;

    println!(
        "{:<28} {:>7} {:>8} {:>19} {:>7} {:>8} {:>9} {:>9}",
        "", "threads", "median", "", "CPU", "× rg -l", "ruff is ×", "peak RSS"
    );
    for row in &measured {
        let of = |name: &str| {
            measured
                .iter()
                .find(|it| it.name == name && it.threads == row.threads)
                .map(Measured::median)
        };
        println!(
            "{:<28} {:>7} {:>8.3} {:>19} {:>7.3} {:>8} {:>9} {:>6.0} MB",
            row.name,
            row.threads,
            row.median(),
            row.spread(),
            row.median_cpu(),
            ratio(Some(row.median()), of(FLOOR)),
            ratio(of(RUFF), Some(row.median())),
            row.peak_rss as f64 / 1e6,
        );
    }
    println!(
        "The floor, and the headline ratio, is `rg -l`: it may stop at a file's first needle."
    );
    Ok(())
}

const FLOOR: &str = "rg -l";
const GPUPIN: &str = "gpupin scan";
const RUFF: &str = "ruff W292, no cache";

fn ratio(numerator: Option<f64>, denominator: Option<f64>) -> String {
    match (numerator, denominator) {
        (Some(numerator), Some(denominator)) => format!("{:.2}", numerator / denominator),
        _ => "-".to_owned(),
    }
}

/// Prints what one file costs as the number of files grows: of projects as they are, which differ in how much
/// of them has to do with GPUs, and of the main set twice and three times.
fn grow(corpus: &Corpus, needles: &Path, tools: &Tools, rounds: usize) -> Result<()> {
    let copies = root().join("target/corpus/copies");
    let twice = corpus.main().times(2, &copies)?;
    let thrice = corpus.main().times(3, &copies)?;
    let sets: Vec<_> = corpus.sets.iter().chain([&twice, &thrice]).collect();
    let mut contenders: Vec<_> = sets
        .iter()
        .map(|set| Contender::looking(&set.name, 1, tools.scan(&set.directory, 1, "concise")))
        .collect();
    for (set, row) in sets.into_iter().zip(measure::in_turns(&mut contenders, rounds)?) {
        println!(
            "{}\n{:>8.3} s {:>19} {:>8.4} s per 1,000 files {:>8.4} s per 10 MB {:>6.0} MB peak RSS",
            describe(set, needles, tools)?,
            row.median(),
            row.spread(),
            row.median() * 1e3 / set.files as f64,
            row.median() * 1e7 / set.bytes as f64,
            row.peak_rss as f64 / 1e6,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{judge, parse};

    #[test]
    fn files_left_out_are_a_failure() {
        let report = r#"{"version":1,"findings":[{}],"summary":{"files":3}}"#;
        assert_eq!(judge(report, 3).unwrap(), "gpupin: 1 findings in 3 files");
        assert!(judge(report, 4).is_err());
        assert!(judge("", 0).is_err());
    }

    #[test]
    fn options_are_read() {
        let options = parse(&["--rounds", "3", "--smoke", "--needles", "n"]).unwrap();
        assert_eq!((options.rounds, options.smoke), (3, true));
        for wrong in [&["--rounds"][..], &["--rounds", "0"], &["--fast"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
