//! How fast `gpupin fix` is.
//!
//! Its peer is ruff fixing one rule, W292, a newline that is missing at the end of a file. To give both the same to
//! write, the newline is cut from the very files that gpupin changes. Every run that changes files gets a fresh copy;
//! making it is not timed, and leaves it in the page cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    corpus::Set,
    measure::{self, Contender, Measured},
    ratio,
    tools::Tools,
    tree::{self, Tree},
};
use crate::process::{self, root};

/// `gpupin fix` also ends with 2, when it leaves a file alone.
const FIXED: &[i32] = &[0, 1, 2];

const SCAN: &str = "gpupin scan";
const SCAN_FIXED: &str = "gpupin scan of what is fixed";
const FIX: &str = "gpupin fix";
const AGAIN: &str = "gpupin fix, a second time";
const RUFF: &str = "ruff fix W292";

/// The directories that the programs work on.
struct Copies {
    /// What everything starts from.
    original: PathBuf,
    /// Made anew for each run that changes files.
    fresh: PathBuf,
    /// What gpupin has fixed.
    fixed: PathBuf,
}

/// Prints what is changed, and how long that takes.
pub(super) fn compare(set: &Set, tools: &Tools, rounds: usize) -> Result<()> {
    let directory = root().join("target/bench-fix");
    let copies = Copies {
        original: directory.join("original"),
        fresh: directory.join("fresh"),
        fixed: directory.join("fixed"),
    };
    tree::copy(&set.directory, &copies.original)?;
    for file in ["gpupin.toml", "gpupin.lock"] {
        let policy = root().join("examples/assistant").join(file);
        fs::copy(&policy, copies.original.join(file))
            .with_context(|| format!("failed to copy `{}`", policy.display()))?;
    }
    println!("{}; the policy and the lock file of `examples/assistant`", set.describe());
    let second = rehearse(&copies, tools)?;
    let mut contenders = contenders(&copies, tools);
    let measured = measure::in_turns(&mut contenders, rounds)?;
    print(&measured);
    ensure!(
        second.is_empty(),
        "`gpupin fix` a second time changed {} files, the first is `{}`",
        second.len(),
        second[0].display()
    );
    Ok(())
}

/// Runs everything once, says what each changes, and returns what a second `gpupin fix` changes.
fn rehearse(copies: &Copies, tools: &Tools) -> Result<Vec<PathBuf>> {
    let Copies { original, fresh, fixed } = copies;
    tree::copy(original, fixed)?;
    let count = run_fix(tools, fixed, 2)?.0;
    let changed = Tree::read(original)?.differences(&Tree::read(fixed)?);
    ensure!(count > 0 && !changed.is_empty(), "`gpupin fix` changed nothing");
    // Files that are new there are not here.
    let is_python = |it: &&PathBuf| it.extension().is_some_and(|it| it == "py");
    let cut = changed.iter().filter(is_python).filter(|it| original.join(it).exists());
    for file in cut {
        cut_last_newline(&original.join(file))?;
    }

    let before = Tree::read(original)?;
    tree::copy(original, fixed)?;
    let (files, refused) = run_fix(tools, fixed, 1)?;
    let after = Tree::read(fixed)?;
    println!(
        "{FIX} --unsafe-fixes: {} of {files} files it names differ afterwards, {refused} it leaves alone",
        before.differences(&after).len(),
    );
    tree::copy(original, fresh)?;
    run_fix(tools, fresh, 2)?;
    let with_threads = after.differences(&Tree::read(fresh)?);
    ensure!(with_threads.is_empty(), "on two threads it fixes otherwise: {with_threads:?}");
    run_fix(tools, fixed, 1)?;
    let second = after.differences(&Tree::read(fixed)?);
    println!("{AGAIN}: {} files differ", second.len());
    if let Some(mut ruff) = tools.ruff_fix(fresh, 1) {
        tree::copy(original, fresh)?;
        process::quiet(&mut ruff)?;
        let differ = before.differences(&Tree::read(fresh)?).len();
        ensure!(differ > 0, "ruff changed nothing");
        println!("{RUFF}: {differ} files differ");
    }
    Ok(second)
}

/// How many files `gpupin fix` says that it changed, and how many that it left alone.
fn run_fix(tools: &Tools, directory: &Path, threads: usize) -> Result<(usize, usize)> {
    let output = tools.fix(directory, threads, "json").output()?;
    counts(&String::from_utf8_lossy(&output.stdout)).with_context(|| {
        let told = String::from_utf8_lossy(&output.stderr);
        format!("`gpupin fix` failed in `{}`: {told}", directory.display())
    })
}

fn counts(report: &str) -> Result<(usize, usize)> {
    let report: Value = serde_json::from_str(report).context("it printed no JSON")?;
    let number = |key: &str| {
        let list = report[key].as_array().with_context(|| format!("its JSON has no `{key}`"))?;
        Ok::<_, anyhow::Error>(list.len())
    };
    Ok((number("files")?, number("refused")?))
}

/// Gives ruff something to fix.
fn cut_last_newline(path: &Path) -> Result<()> {
    let text = fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    fs::write(path, text.trim_ascii_end())
        .with_context(|| format!("failed to write `{}`", path.display()))
}

fn contenders(copies: &Copies, tools: &Tools) -> Vec<Contender> {
    let Copies { original, fresh, fixed } = copies;
    let mut contenders = Vec::new();
    for threads in [1, 2] {
        let mut add = |name: &str, command: Option<Command>, is_fresh: bool| {
            let Some(command) = command else { return };
            let (from, to) = (original.clone(), fresh.clone());
            let prepare = move || {
                tree::copy(&from, &to)?;
                // Or the disk would still be writing the copy while the fix is timed.
                process::quiet(&mut Command::new("sync"))
            };
            contenders.push(Contender {
                name: name.to_owned(),
                threads,
                command,
                codes: FIXED,
                prepare: is_fresh.then(|| Box::new(prepare) as _),
            });
        };
        add(SCAN, Some(tools.scan(original, threads, "concise")), false);
        // A scan reads more of programs that have a pin, and so does the end of a fix.
        add(SCAN_FIXED, Some(tools.scan(fixed, threads, "concise")), false);
        add(FIX, Some(tools.fix(fresh, threads, "full")), true);
        add(AGAIN, Some(tools.fix(fixed, threads, "full")), false);
        add(RUFF, tools.ruff_fix(fresh, threads), true);
    }
    contenders
}

fn print(measured: &[Measured]) {
    println!(
        "\n{:<29} {:>7} {:>8} {:>19} {:>7} {:>9}",
        "", "threads", "median", "", "CPU", "peak RSS"
    );
    for row in measured {
        println!(
            "{:<28} {:>7} {:>8.3} {:>19} {:>7.3} {:>6.0} MB",
            row.name,
            row.threads,
            row.median(),
            row.spread(),
            row.median_cpu(),
            row.peak_rss as f64 / 1e6,
        );
    }
    for threads in [1, 2] {
        let of = |name: &str| {
            measured
                .iter()
                .find(|it| it.name == name && it.threads == threads)
                .map(Measured::median)
        };
        println!(
            "threads {threads}: {FIX} / {RUFF} {} (goal: at most 1.5), {FIX} / {SCAN} {}",
            ratio(of(FIX), of(RUFF)),
            ratio(of(FIX), of(SCAN)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn changed_files_and_those_left_alone_are_counted() {
        let report = r#"{"version":1,"files":["a.py","b.py"],"refused":[{"path":"c.py"}]}"#;
        assert_eq!(counts(report).unwrap(), (2, 1));
        for wrong in ["", "{}", r#"{"files":[]}"#] {
            assert!(counts(wrong).is_err(), "{wrong}");
        }
    }
}
