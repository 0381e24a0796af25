//! Runs the fuzz targets of `fuzz/`, or their checks on the corpus of the benchmark.
//!
//! libFuzzer only needs the compiler to put in coverage counters, which stable Rust
//! can do too. So neither a nightly toolchain nor `cargo fuzz` has to be installed;
//! a C++ compiler has, because libFuzzer is written in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench,
    process::{cargo, display, loud, quiet, root, stdout},
    tidy::files,
};

/// A program in `fuzz/src/bin`.
struct Target {
    name: &'static str,
    /// Files of this repository to start from.
    seeds: &'static str,
}

const TARGETS: &[Target] = &[
    Target { name: "compose", seeds: "compose.yaml" },
    Target { name: "notebook", seeds: ".ipynb" },
    Target { name: "python", seeds: ".py" },
    Target { name: "visibility", seeds: ".env" },
];

/// What `cargo fuzz` passes too, less the sanitizer: our code has no `unsafe`.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// Runs `fuzz`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (mut seconds, mut named) = (60, Vec::new());
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        match arg {
            "--corpus" => return check_corpus(),
            "--seconds" => {
                let value = args.next().context("`--seconds` needs a value")?;
                seconds = value.parse().context("`--seconds` needs a number")?;
            }
            name => named.push(name),
        }
    }
    if let Some(name) = named.iter().find(|name| TARGETS.iter().all(|it| it.name != **name)) {
        bail!("unknown fuzz target `{name}`");
    }
    fuzz(seconds, |target| named.is_empty() || named.contains(&target.name))
}

/// A few seconds each: do the targets still build, and survive their seeds?
pub(crate) fn smoke() -> Result<()> {
    fuzz(5, |_| true)
}

fn fuzz(seconds: u32, chosen: impl Fn(&Target) -> bool) -> Result<()> {
    let programs = build()?;
    let mut failed = Vec::new();
    for target in TARGETS.iter().filter(|target| chosen(target)) {
        if let Err(error) = run_target(target, &programs, seconds) {
            eprintln!("{error:#}");
            failed.push(target.name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Builds the targets and returns the directory they are in.
fn build() -> Result<PathBuf> {
    let version = stdout(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    make_lock_file()?;
    let mut build = cargo(["build", "--quiet", "--release", "--bins"]);
    // With `--target`, build scripts and procedural macros are compiled without the flags.
    build.args(["--manifest-path", "fuzz/Cargo.toml", "--target", host]);
    quiet(build.env("RUSTFLAGS", FLAGS))?;
    Ok(root().join("fuzz/target").join(host).join("release"))
}

/// Gives the fuzz workspace the versions of the main one; cargo adds what only the former has.
/// A lock file of its own in git would go stale with every dependency of the main workspace.
pub(crate) fn make_lock_file() -> Result<()> {
    let (main, own) = (root().join("Cargo.lock"), root().join("fuzz/Cargo.lock"));
    let modified = |path| fs::metadata(path).and_then(|it| it.modified());
    if modified(&own).ok() < modified(&main).ok() {
        fs::copy(&main, &own).with_context(|| format!("failed to write `{}`", own.display()))?;
    }
    Ok(())
}

fn run_target(target: &Target, programs: &Path, seconds: u32) -> Result<()> {
    let directory = |kind: &str| -> Result<PathBuf> {
        let path = root().join("fuzz").join(kind).join(target.name);
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to create `{}`", path.display()))?;
        Ok(path)
    };
    // What earlier runs found, and a fresh copy of what the repository has.
    let (found, artifacts) = (directory("corpus")?, directory("artifacts")?);
    let seeds = directory("target/seeds")?;
    for (number, file) in files()?.iter().filter(|it| it.ends_with(target.seeds)).enumerate() {
        fs::copy(root().join(file), seeds.join(number.to_string()))?;
    }

    let mut command = Command::new(programs.join(target.name));
    command.current_dir(root());
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let start = Instant::now();
    let output = command
        .arg(found)
        .arg(seeds)
        .output()
        .with_context(|| format!("failed to start `{}`", display(&command)))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{log}\nfuzz target `{}` failed: {}", target.name, output.status);
    }
    println!(
        "{:<10} {:>4.0} s {:>10} inputs, {} edges covered",
        target.name,
        start.elapsed().as_secs_f64(),
        after(&log, "stat::number_of_executed_units: "),
        after(&log, "cov: "),
    );
    Ok(())
}

/// The word behind the last `label` of libFuzzer's log.
fn after<'a>(log: &'a str, label: &str) -> &'a str {
    let word = log.rsplit_once(label).and_then(|(_, rest)| rest.split_whitespace().next());
    word.unwrap_or("?")
}

/// Every file of the benchmark's packages, of whatever language, and of this repository.
fn check_corpus() -> Result<()> {
    let packages = bench::packages()?;
    make_lock_file()?;
    let mut check = cargo(["run", "--quiet", "--release", "--example", "corpus"]);
    check.args(["--manifest-path", "fuzz/Cargo.toml", "--"]);
    loud(check.arg(packages).arg(root().join("examples")))
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, after};
    use crate::tidy::files;

    #[test]
    fn every_program_is_a_target_and_has_seeds() {
        let files = files().unwrap();
        let programs = files.iter().filter_map(|file| file.strip_prefix("fuzz/src/bin/"));
        let listed: Vec<_> = TARGETS.iter().map(|it| format!("{}.rs", it.name)).collect();
        assert_eq!(programs.collect::<Vec<_>>(), listed);
        for target in TARGETS {
            assert!(files.iter().any(|file| file.ends_with(target.seeds)), "{}", target.name);
        }
    }

    #[test]
    fn the_last_figure_of_the_log_counts() {
        let log = "#1 INITED cov: 7 ft: 8\n#9 DONE   cov: 31 ft: 9\n";
        assert_eq!(after(log, "cov: "), "31");
        assert_eq!(after(log, "missing: "), "?");
    }
}
