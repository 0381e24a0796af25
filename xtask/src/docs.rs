//! The reference documentation, written by the program it documents.
//!
//! `cargo xtask docs` writes every file under `docs/reference`; the gate compares. What the files are
//! stands in `crates/gpupin/src/reference.rs`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, cargo, stdout};

/// Writes every page.
pub(crate) fn write() -> Result<()> {
    let reference = reference();
    // A page that is no longer written must not stay.
    if reference.exists() {
        fs::remove_dir_all(&reference)
            .with_context(|| format!("failed to remove `{}`", reference.display()))?;
    }
    write_to(&reference)
}

/// Fails when a page differs from what the program writes today.
pub(crate) fn check() -> Result<()> {
    let written = process::root().join("target/reference");
    if written.exists() {
        fs::remove_dir_all(&written)?;
    }
    write_to(&written)?;
    let (new, old) = (files(&written)?, files(&reference())?);
    let read = |directory: &Path, file: &PathBuf| fs::read(directory.join(file)).ok();
    let is_stale = |file: &&PathBuf| read(&written, file) != read(&reference(), file);
    let stale: Vec<_> =
        new.union(&old).filter(is_stale).map(|it| it.display().to_string()).collect();
    ensure!(
        stale.is_empty(),
        "out of date in docs/reference: {}; run `cargo xtask docs` and commit the result",
        stale.join(", ")
    );
    Ok(())
}

fn reference() -> PathBuf {
    process::root().join("docs/reference")
}

/// Runs the dev build that the tests use too.
fn write_to(directory: &Path) -> Result<()> {
    let args = ["run", "--quiet", "--package", "gpupin", "--", "debug", "docs", "--dir"];
    stdout(cargo(args).arg(directory)).map(drop)
}

/// Every file below a directory, relative to it.
fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        let entries =
            fs::read_dir(&next).with_context(|| format!("failed to list `{}`", next.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.extend(path.strip_prefix(directory).map(Path::to_owned));
            }
        }
    }
    Ok(files)
}
