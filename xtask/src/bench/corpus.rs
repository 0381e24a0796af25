//! The files that are scanned: real projects, fetched once as source packages.
//!
//! Their versions are pinned in `xtask/bench/corpus.txt`. Fetching runs no code of
//! theirs, which `pip download` would do to learn a source package's metadata.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::tree;
use crate::{
    process::{loud, quiet, root, stdout},
    tidy::has_extension,
};

/// Sets of growing size, at least one.
pub(super) struct Corpus {
    pub(super) sets: Vec<Set>,
}

/// A directory of Python files; in the corpus it holds nothing else.
pub(super) struct Set {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Set {
    fn of(name: &str, directory: PathBuf) -> Result<Self> {
        let mut set = Self { name: name.to_owned(), files: 0, bytes: 0, directory };
        let directory = set.directory.clone();
        set.count(&directory)
            .with_context(|| format!("failed to list `{}`", directory.display()))?;
        Ok(set)
    }

    fn count(&mut self, directory: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.count(&entry.path())?;
            } else if has_extension(&entry.file_name().to_string_lossy(), "py") {
                self.files += 1;
                self.bytes += entry.metadata()?.len();
            }
        }
        Ok(())
    }

    /// The same files a number of times, so that only their number differs.
    pub(super) fn times(&self, times: usize, into: &Path) -> Result<Self> {
        let name = format!("{times} × {}", self.name);
        let directory = into.join(times.to_string());
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        for copy in 1..=times {
            tree::link(&self.directory, &directory.join(copy.to_string()))?;
        }
        Self::of(&name, directory)
    }

    pub(super) fn describe(&self) -> String {
        format!("{}: {} Python files, {:.1} MB", self.name, self.files, self.bytes as f64 / 1e6)
    }
}

impl Corpus {
    /// Fetches and unpacks what is not there yet, with the Python that has the tools for it.
    pub(super) fn fetch(python: &Path) -> Result<Self> {
        let directory = root().join("target/corpus");
        let list = root().join("xtask/bench/corpus.txt");
        let script = root().join("xtask/bench/corpus.py");
        // What the directory was made from; written last.
        let stamp = directory.join("stamp");
        let made_from = fs::read_to_string(&list)? + &fs::read_to_string(&script)?;
        if fs::read_to_string(&stamp).ok().as_deref() != Some(&made_from) {
            println!("fetching the corpus, once, into `{}`", directory.display());
            let archives = directory.join("archives");
            fs::create_dir_all(&archives)?;
            let mut fetch = Command::new(python);
            // Versions are chosen as if for this Python, wherever the benchmark runs.
            fetch.args(["-m", "unearth", "--no-binary", "--python-version", "3.11"]);
            if let Some(url) = index_url(python)? {
                fetch.arg("--index-url").arg(url);
            }
            quiet(fetch.arg("--download").arg(&archives).arg("--requirements").arg(&list))?;
            loud(Command::new(python).arg(&script).arg(&list).arg(&directory))?;
            fs::write(&stamp, made_from)?;
        }
        let of = |name| Set::of(name, directory.join("sets").join(name));
        Ok(Self { sets: vec![of("1k")?, of("10k")?, of("30k")?] })
    }

    /// The examples of this repository, in place of a corpus.
    pub(super) fn of_examples() -> Result<Self> {
        Ok(Self { sets: vec![Set::of("examples", root().join("examples"))?] })
    }

    /// The set that all contenders scan.
    pub(super) fn main(&self) -> &Set {
        &self.sets[self.sets.len() / 2]
    }
}

/// The package index that pip is told to use here, if it is told any.
fn index_url(python: &Path) -> Result<Option<String>> {
    let mut pip = Command::new(python);
    let settings = stdout(pip.args(["-m", "pip", "config", "list"]))?;
    let url = settings.lines().find_map(|line| line.split_once(".index-url=")).map(|it| it.1);
    Ok(url.map(|url| url.trim_matches('\'').to_owned()))
}
