//! The reference documentation, written by the program it documents.
//!
//! `cargo xtask docs` writes every file under `docs/reference`; the gate compares.
//! To document something else, let a command of `gpupin` print it, or a function of a library
//! return it, and add a line to [`PAGES`], such as
//!
//! ```text
//! Page { path: "docs/reference/rules.md", text: || gpupin(&["rules", "--markdown"]) },
//! ```

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, cargo, stdout};

/// A generated file.
struct Page {
    path: &'static str,
    text: fn() -> Result<String>,
}

const PAGES: &[Page] = &[
    Page {
        path: "docs/reference/gpupin.schema.json",
        text: || Ok(gpupin_policy::policy_schema_text()),
    },
    Page { path: "docs/reference/gpupin.toml.md", text: || Ok(gpupin_policy::policy_reference()) },
];

/// Writes every page.
pub(crate) fn write() -> Result<()> {
    for page in PAGES {
        let path = process::root().join(page.path);
        let parent = path.parent().expect("a page lies in a directory");
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to create `{}`", parent.display()))?;
        fs::write(&path, (page.text)()?)
            .with_context(|| format!("failed to write `{}`", page.path))?;
    }
    Ok(())
}

/// Fails when a page differs from what the program prints today.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for page in PAGES {
        if fs::read_to_string(process::root().join(page.path)).ok() != Some((page.text)()?) {
            stale.push(page.path);
        }
    }
    ensure!(
        stale.is_empty(),
        "out of date: {}; run `cargo xtask docs` and commit the result",
        stale.join(", ")
    );
    Ok(())
}

/// What `gpupin` prints, from the dev build that the tests use too.
#[expect(dead_code, reason = "no command prints documentation yet")]
fn gpupin(args: &[&str]) -> Result<String> {
    stdout(cargo(["run", "--quiet", "--package", "gpupin", "--"]).args(args))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PAGES;
    use crate::tidy::files;

    #[test]
    fn every_reference_file_is_a_page() {
        let listed: BTreeSet<_> = PAGES.iter().map(|page| page.path.to_owned()).collect();
        let files = files().unwrap();
        let actual = files.into_iter().filter(|file| file.starts_with("docs/reference/"));
        assert_eq!(actual.collect::<BTreeSet<_>>(), listed);
    }
}
