//! Does the survey hide findings?
//!
//! A scan parses only what its survey cannot rule out, and must find what a scan of everything finds. Here both
//! are run over every project of the benchmark's corpus, with every rule, and their findings compared.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    bench,
    process::{self, cargo, quiet},
};

/// Compares the two on every project, or on those whose name contains one of `names`.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    quiet(&mut cargo(["build", "--release", "--package", "gpupin"]))?;
    let packages = bench::packages()?;
    let mut projects: Vec<_> = fs::read_dir(&packages)
        .with_context(|| format!("failed to list `{}`", packages.display()))?
        .map(|it| it.map(|it| it.path()))
        .collect::<Result<_, _>>()?;
    projects.sort();
    let mut all = Difference::default();
    for project in projects {
        let name = project.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !names.is_empty() && names.iter().all(|it| !name.contains(it)) {
            continue;
        }
        let found = compare(&scan(&project, &[])?, &scan(&project, &["--no-prefilter"])?)?;
        println!("{name}: {} findings, {}", found.same, found.describe());
        for line in found.hidden.iter().map(|it| format!("  hidden: {it}")) {
            println!("{line}");
        }
        for line in found.invented.iter().map(|it| format!("  invented: {it}")) {
            println!("{line}");
        }
        all.same += found.same;
        all.hidden.extend(found.hidden.iter().map(|it| format!("{name}/{it}")));
        all.invented.extend(found.invented.iter().map(|it| format!("{name}/{it}")));
    }
    ensure!(all.same > 0, "nothing was found anywhere, so nothing was compared");
    println!("together: {} findings, {}", all.same, all.describe());
    ensure!(all.hidden.is_empty() && all.invented.is_empty(), "the survey changes the findings");
    Ok(())
}

/// The JSON of a scan with every rule. Like the benchmark's, it is run where no policy of ours is found.
fn scan(project: &Path, args: &[&str]) -> Result<String> {
    let mut scan = std::process::Command::new(process::root().join("target/release/gpupin"));
    scan.current_dir(project).args(["scan", "--select", "all", "--exit-zero", "--quiet"]);
    process::stdout(scan.args(["--output-format", "json", "."]).args(args))
}

/// Findings that only one of the two scans has, as one line each.
#[derive(Debug, Default)]
struct Difference {
    same: usize,
    hidden: BTreeSet<String>,
    invented: BTreeSet<String>,
}

impl Difference {
    fn describe(&self) -> String {
        format!("{} hidden, {} invented", self.hidden.len(), self.invented.len())
    }
}

fn compare(filtered: &str, unfiltered: &str) -> Result<Difference> {
    let (filtered, unfiltered) = (findings(filtered)?, findings(unfiltered)?);
    let only = |mine: &BTreeSet<String>, other| mine.difference(other).cloned().collect();
    Ok(Difference {
        same: filtered.intersection(&unfiltered).count(),
        hidden: only(&unfiltered, &filtered),
        invented: only(&filtered, &unfiltered),
    })
}

fn findings(report: &str) -> Result<BTreeSet<String>> {
    let report: Value = serde_json::from_str(report).context("the scan printed no JSON")?;
    let found = report["findings"].as_array().context("the JSON has no `findings`")?;
    let line = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let (path, code, message) = (text("path"), text("code"), text("message"));
        format!("{path}:{}:{}: {code} {message}", it["line"], it["column"])
    };
    Ok(found.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::compare;

    fn report(lines: &[u32]) -> String {
        let finding = |line| {
            format!(r#"{{"path":"a.py","line":{line},"column":1,"code":"GP201","message":"m"}}"#)
        };
        let findings: Vec<_> = lines.iter().map(finding).collect();
        format!(r#"{{"version":1,"findings":[{}]}}"#, findings.join(","))
    }

    #[test]
    fn what_only_one_scan_finds_is_told() {
        let found = compare(&report(&[1, 2]), &report(&[2, 3])).unwrap();
        assert_eq!(found.same, 1);
        assert!(found.hidden.contains("a.py:3:1: GP201 m") && found.hidden.len() == 1);
        assert!(found.invented.contains("a.py:1:1: GP201 m") && found.invented.len() == 1);
    }

    #[test]
    fn a_scan_that_printed_no_findings_is_an_error() {
        assert!(compare("", &report(&[1])).is_err());
        assert!(compare(&report(&[1]), "{}").is_err());
    }
}
