//! `gpupin lsp` driven by a client library of others, which is downloaded once.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::process::{cargo, quiet, root};

pub(crate) fn check() -> Result<()> {
    let python = install("lsp", &[])?;
    quiet(&mut cargo(["build", "--package", "gpupin"]))?;
    let mut tests = Command::new(python);
    tests.current_dir(root()).arg("xtask/lsp/test_lsp.py");
    quiet(tests.env("GPUPIN", root().join("target/debug/gpupin")))
}

/// Installs the pinned versions of `xtask/NAME/requirements.txt` unless they are there, and tells where their interpreter is.
pub(crate) fn install(name: &str, options: &[&str]) -> Result<PathBuf> {
    let environment = root().join("target").join(name).join("venv");
    let wanted = root().join("xtask").join(name).join("requirements.txt");
    let installed = environment.join("requirements.txt");
    let text =
        fs::read(&wanted).with_context(|| format!("failed to read `{}`", wanted.display()))?;
    let python = environment.join("bin/python");
    if fs::read(&installed).is_ok_and(|it| it == text) {
        return Ok(python);
    }
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(options).arg("--requirement");
    quiet(pip.arg(&wanted))?;
    fs::write(installed, text)?;
    Ok(python)
}
