//! The programs that are measured, and how each is told to read the same files.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::process::{cargo, quiet, root};

/// ripgrep is built here from this version: distributions ship much older ones, and 13 took
/// 2.7 times as long as 15 over our needles.
const RIPGREP: &str = "15.2.0";

/// Where the programs are. What is missing is left out of the tables.
pub(super) struct Tools {
    gpupin: PathBuf,
    /// What was installed for the benchmark alone, so that nothing on the machine changes.
    own: PathBuf,
}

impl Tools {
    /// Looks for what is there already.
    pub(super) fn find() -> Result<Self> {
        ensure!(runs("python3"), "the benchmark needs `python3`");
        Ok(Self { gpupin: root().join("target/release/gpupin"), own: root().join("target/bench") })
    }

    /// Installs the pinned versions of what gpupin is compared with, unless they are there.
    pub(super) fn install(&self) -> Result<()> {
        let mut install = cargo(["install", "--locked", "--version", RIPGREP, "ripgrep"]);
        quiet(install.arg("--root").arg(&self.own))?;
        if !self.python().exists() {
            quiet(Command::new("python3").args(["-m", "venv"]).arg(self.own.join("venv")))?;
        }
        let requirements = root().join("xtask/bench/requirements.txt");
        let mut pip = Command::new(self.python());
        quiet(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))
    }

    /// The programs that the tables will lack.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let rows = [("ripgrep", self.rg_path()), ("ruff", self.ruff_path())];
        rows.into_iter().filter(|row| row.1.is_none()).map(|row| row.0).collect()
    }

    /// The interpreter of the environment; only there after [`Self::install`].
    pub(super) fn python(&self) -> PathBuf {
        self.own.join("venv/bin/python")
    }

    /// One line per program, for the record.
    pub(super) fn versions(&self) -> Vec<String> {
        let mut programs = vec![self.gpupin.clone(), "python3".into()];
        programs.extend(self.rg_path());
        programs.extend(self.ruff_path());
        programs.iter().filter_map(|program| version(program)).collect()
    }

    pub(super) fn gpupin(&self) -> Command {
        Command::new(&self.gpupin)
    }

    pub(super) fn scan(&self, directory: &Path, threads: usize, format: &str) -> Command {
        let mut scan = self.gpupin();
        // Run where the files are, so that no policy of ours is found.
        scan.current_dir(directory);
        scan.args(["scan", "--threads", &threads.to_string(), "--output-format", format, "."]);
        scan
    }

    pub(super) fn fix(&self, directory: &Path, threads: usize, format: &str) -> Command {
        let mut fix = self.gpupin();
        // The copies lie in a repository of which they are no part.
        fix.current_dir(directory).args(["fix", "--unsafe-fixes", "--allow-dirty", "--threads"]);
        fix.args([&threads.to_string(), "--output-format", format, "."]);
        fix
    }

    /// ripgrep without what it would do on top of reading and searching.
    pub(super) fn rg(&self, needles: &Path, threads: usize) -> Option<Command> {
        let mut rg = Command::new(self.rg_path()?);
        rg.args(["--no-config", "--no-ignore", "--fixed-strings", "--threads"]);
        rg.arg(threads.to_string()).arg("--file").arg(needles);
        Some(rg)
    }

    /// ruff with its cheapest kind of rule: the cost of reading and parsing.
    pub(super) fn ruff(&self, directory: &Path, threads: usize) -> Option<Command> {
        let mut ruff = Command::new(self.ruff_path()?);
        ruff.args(["check", "--isolated", "--no-cache", "--quiet", "--select", "W292"]);
        // By default it leaves out directories with names such as `build`.
        ruff.args(["--no-respect-gitignore", "--config", "exclude = []"]);
        ruff.arg(directory).env("RAYON_NUM_THREADS", threads.to_string());
        Some(ruff)
    }

    /// The same rule, with what it finds mended.
    pub(super) fn ruff_fix(&self, directory: &Path, threads: usize) -> Option<Command> {
        let mut ruff = self.ruff(directory, threads)?;
        ruff.arg("--fix");
        Some(ruff)
    }

    pub(super) fn naive(directory: &Path) -> Command {
        let mut python = Command::new("python3");
        python.arg(root().join("xtask/bench/naive_scan.py")).arg(directory);
        python
    }

    fn rg_path(&self) -> Option<PathBuf> {
        Some(self.own.join("bin/rg")).filter(|path| path.exists())
    }

    fn ruff_path(&self) -> Option<PathBuf> {
        Some(self.own.join("venv/bin/ruff")).filter(|path| path.exists())
    }
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}
