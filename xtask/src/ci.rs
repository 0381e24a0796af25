//! The gate: what must hold before a change lands.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::{
    bench, clients, dashboard, docs, editor, fuzz, hooks, licenses,
    process::{cargo, loud, quiet},
    python, readme, tidy,
};

/// One thing that must hold.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// In the order of what fails soonest; all steps but the last share two builds, dev and release.
const STEPS: &[Step] = &[
    Step { name: "format", run: format },
    Step { name: "licenses", run: licenses::check },
    Step { name: "clippy", run: clippy },
    Step { name: "test", run: test },
    Step { name: "rustdoc", run: rustdoc },
    Step { name: "reference", run: docs::check },
    Step { name: "readme", run: readme },
    Step { name: "hooks", run: hooks::check },
    Step { name: "editor", run: editor::check },
    Step { name: "clients", run: clients::check },
    Step { name: "dashboard", run: dashboard::check },
    Step { name: "python", run: python::check },
    Step { name: "growth", run: growth },
    Step { name: "bench", run: bench::smoke },
    Step { name: "fuzz", run: fuzz::smoke },
];

/// Runs the steps asked for, all of them by default, and goes on after a failure so
/// that one run tells everything there is to mend.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let steps = choose(args)?;
    let mut results = Vec::new();
    for step in &steps {
        println!("==> {}", step.name);
        let start = Instant::now();
        let result = (step.run)();
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        results.push((step.name, result.is_ok(), start.elapsed()));
    }

    println!("==> summary");
    for (name, passed, time) in &results {
        println!("{name:<10} {} {:>7.1} s", verdict(*passed), time.as_secs_f64());
    }
    let total: Duration = results.iter().map(|(_, _, time)| *time).sum();
    println!("{:<10}      {:>7.1} s", "total", total.as_secs_f64());
    for (path, lines) in tidy::long_files()? {
        println!("note: `{path}` has {lines} lines: is there a second subject in it?");
    }

    let failed: Vec<_> = results.iter().filter(|it| !it.1).map(|it| it.0).collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn choose(args: &[&str]) -> Result<Vec<&'static Step>> {
    let (mut named, mut skipped) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        let (list, name) = match arg {
            "--skip" => (&mut skipped, args.next().copied().unwrap_or_default()),
            name => (&mut named, name),
        };
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("unknown step `{name}`; there are {}", names.join(", "));
        }
        list.push(name);
    }
    let chosen = |step: &&Step| {
        (named.is_empty() || named.contains(&step.name)) && !skipped.contains(&step.name)
    };
    Ok(STEPS.iter().filter(chosen).collect())
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok  " } else { "FAIL" }
}

/// No leaking shape passes, in simulated series of which the truth is known.
fn growth() -> Result<()> {
    quiet(&mut cargo([
        "run",
        "--quiet",
        "--package",
        "gpupin-run",
        "--example",
        "growth_rates",
        "--",
        "300",
    ]))
}

fn format() -> Result<()> {
    quiet(&mut cargo(["fmt", "--all", "--check"]))?;
    quiet(&mut cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

fn clippy() -> Result<()> {
    quiet(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn test() -> Result<()> {
    loud(&mut readme::command("cargo test")?)
}

fn rustdoc() -> Result<()> {
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    quiet(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The README's first command scans a project that is wrong on purpose, and prints what the README shows of it.
fn readme() -> Result<()> {
    let output = readme::command("cargo run")?.output()?;
    let (found, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() != Some(1) || !found.contains("GP1") {
        print!("{found}");
        eprint!("{told}");
        bail!("the README's first command must report findings, but: {}", output.status);
    }
    let printed: BTreeSet<&str> = found.lines().chain(told.lines()).collect();
    let excerpt = readme::excerpt()?;
    let stale: Vec<_> = excerpt.iter().filter(|it| !printed.contains(it.as_str())).collect();
    ensure!(stale.is_empty(), "the README shows what its first command does not print: {stale:#?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{STEPS, choose};

    fn check(args: &[&str], expected: &[&str]) {
        let names: Vec<_> = choose(args).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn every_step_runs_unless_told_otherwise() {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        check(&[], &names);
        check(&["test", "format"], &["format", "test"]);
        check(&["format", "test", "--skip", "format"], &["test"]);
    }

    #[test]
    fn a_misspelt_step_is_an_error() {
        assert!(choose(&["tests"]).is_err());
        assert!(choose(&["--skip"]).is_err());
    }
}
