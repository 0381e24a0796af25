//! The page of `gpupin serve` in Chromium, which the system has to have, and its metrics in the parsers of Prometheus.
//!
//! Chromium is Debian's package `chromium`. If `promtool` of the package `prometheus` is there too, it is asked as well.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    editor,
    process::{cargo, quiet, root},
};

/// The names under which systems have it.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

pub(crate) fn check() -> Result<()> {
    let browser = browser()?;
    // Of the package that brings axe only the script is used, so that what it depends on stays away.
    let python = editor::install("dashboard", &["--no-deps"])?;
    quiet(&mut cargo(["build", "--package", "gpupin", "--package", "gpupin-sim"]))?;
    let pictures = root().join("target/dashboard/pictures");
    fs::create_dir_all(&pictures)?;
    let mut tests = Command::new(python);
    tests.current_dir(root()).args(["-B", "xtask/dashboard/test_dashboard.py"]);
    tests.env("GPUPIN", root().join("target/debug/gpupin")).env("CHROMIUM", browser);
    quiet(tests.env("DASHBOARD_PICTURES", pictures))
}

fn browser() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&path).collect();
    let places = BROWSERS.iter().flat_map(|name| directories.iter().map(move |it| it.join(name)));
    places.into_iter().find(|it| it.is_file()).with_context(|| {
        format!("there is none of {}: `apt-get install chromium`", BROWSERS.join(", "))
    })
}
