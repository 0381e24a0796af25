//! `gpupin lsp` driven by a client library of others, which is downloaded once.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::process::{cargo, quiet, root};

const REQUIREMENTS: &str = "xtask/lsp/requirements.txt";

pub(crate) fn check() -> Result<()> {
    let python = install()?;
    quiet(&mut cargo(["build", "--package", "gpupin"]))?;
    let mut tests = Command::new(python);
    tests.current_dir(root()).arg("xtask/lsp/test_lsp.py");
    quiet(tests.env("GPUPIN", root().join("target/debug/gpupin")))
}

/// Installs the pinned versions unless they are there, and tells where their interpreter is.
fn install() -> Result<PathBuf> {
    let environment = root().join("target/lsp/venv");
    let (wanted, installed) = (root().join(REQUIREMENTS), environment.join("requirements.txt"));
    let text = fs::read(&wanted).with_context(|| format!("failed to read `{REQUIREMENTS}`"))?;
    let python = environment.join("bin/python");
    if fs::read(&installed).is_ok_and(|it| it == text) {
        return Ok(python);
    }
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(&python);
    quiet(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted))?;
    fs::write(installed, text)?;
    Ok(python)
}
