//! Does `gpupin fix` leave real projects what they were?
//!
//! Copies of projects of the benchmark's corpus are fixed with every rule, unsafe fixes too, and looked at by Python
//! itself: `xtask/proof/project.py` says what must hold. `xtask/proof/outcomes.py` does the same for scikit-learn as it
//! is installed, and runs its tests before and after.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench,
    process::{cargo, loud, quiet, root},
};

/// Without their versions, which the corpus pins.
const PROJECTS: &[&str] = &["coqui-tts", "open-clip-torch", "timm", "deepspeed", "scikit-learn"];

/// The one whose tests are run.
const TESTED: &str = "scikit-learn";

/// Proves it for every project, or for those whose name contains one of `names`.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let chosen: Vec<_> = PROJECTS.iter().filter(|it| is_chosen(it, names)).collect();
    ensure!(
        !chosen.is_empty(),
        "no project is called {names:?}; there are {}",
        PROJECTS.join(", ")
    );
    quiet(&mut cargo(["build", "--release", "--package", "gpupin"]))?;
    let packages = bench::packages()?;
    let list = root().join("xtask/bench/corpus.txt");
    let list = std::fs::read_to_string(&list)
        .with_context(|| format!("failed to read `{}`", list.display()))?;
    let python = install(&list)?;
    let mut failed = Vec::new();
    for name in chosen {
        let package = package(&list, name)?;
        let mut project = script(&python, "project.py");
        project.arg(packages.join(&package)).arg(directory().join(&package));
        failed.extend(loud(&mut project).is_err().then(|| package.clone()));
        if *name == TESTED {
            let mut outcomes = script(&python, "outcomes.py");
            outcomes.arg(directory().join("installed"));
            failed.extend(loud(&mut outcomes).is_err().then(|| format!("tests of {package}")));
        }
    }
    if !failed.is_empty() {
        bail!("`gpupin fix` did not keep its promises in {}", failed.join(", "));
    }
    Ok(())
}

fn is_chosen(project: &str, names: &[&str]) -> bool {
    names.is_empty() || names.iter().any(|it| project.contains(it))
}

fn directory() -> PathBuf {
    root().join("target/proof")
}

/// Where the corpus has a project, from its line in the corpus's list.
fn package(list: &str, name: &str) -> Result<String> {
    let line = list.lines().find(|it| it.split_once("==").is_some_and(|it| it.0 == name));
    line.map(|it| it.replace("==", "-")).with_context(|| format!("the corpus has no `{name}`"))
}

/// Installs what the scripts need, and the tested project as its users have it.
fn install(list: &str) -> Result<PathBuf> {
    let venv = directory().join("venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        quiet(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    }
    let tested = list.lines().find(|it| it.starts_with(TESTED));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement"]);
    pip.arg(root().join("xtask/proof/requirements.txt"));
    quiet(pip.args(tested))?;
    Ok(python)
}

/// One of the scripts, with what all of them are given.
fn script(python: &Path, name: &str) -> Command {
    let mut script = Command::new(python);
    script.arg("-B").arg(root().join("xtask/proof").join(name));
    script.arg(root().join("target/release/gpupin")).arg(root().join("examples/assistant"));
    script
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{PROJECTS, TESTED, package};
    use crate::{process::root, tidy};

    #[test]
    fn the_corpus_has_every_project() {
        let list = tidy::read("xtask/bench/corpus.txt").unwrap();
        for name in PROJECTS {
            assert!(package(&list, name).unwrap().starts_with(&format!("{name}-")));
        }
        assert!(PROJECTS.contains(&TESTED));
        assert!(package(&list, "torch").is_err());
    }

    #[test]
    fn the_comparison_of_syntax_trees_passes_its_own_tests() {
        let mut python = Command::new("python3");
        let output =
            python.arg("-B").arg(root().join("xtask/proof/test_trees.py")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
