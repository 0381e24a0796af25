//! What a change is, and which findings it answers for: `--since` and `--staged`.
//!
//! The scan reads what it reads without the flags, so that programs are still ordered whole. Then a finding counts
//!
//! - if it stands in a file that the change touches, or
//! - if the tree before the change does not have it. A pin is lost where a program starts when the module that set it
//!   changes, and a new import in `main.py` makes the pin of another module too late.
//!
//! The tree before is scanned only when there are findings outside of the changed files. Findings are recognised as
//! those of a baseline are, and the policy before is the one they are judged by there.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_lint::{baseline::fingerprint, finding::Finding, unit::UnitId};

use crate::{
    failure::Failure,
    git::{Repository, Tree},
    overlay::Overlay,
    project::{LOCK, POLICY, PYPROJECT, Project, normal},
    scan::{Scan, may_matter},
};

/// Which change counts.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Changes")]
pub(crate) struct ChangeArgs {
    /// Show what changed since the branch left this revision
    ///
    /// As a pull request shows it: what was committed since, and what is not committed or not even tracked yet.
    /// Programs are still followed through all files. Shown are the findings in changed files, and those elsewhere
    /// that the changes made.
    #[arg(long, value_name = "REV", conflicts_with_all = ["staged", "order", "write_baseline"])]
    since: Option<String>,

    /// Scan what `git commit` would record, and show what that changes
    ///
    /// Files are read as they are in git's index, so that what is not staged neither helps nor harms. Which findings
    /// are shown is decided as for `--since`.
    #[arg(long, conflicts_with_all = ["order", "write_baseline"])]
    staged: bool,
}

/// A change to the project.
#[derive(Debug)]
pub(crate) struct Changes {
    /// What is judged, where it is not what lies on disk.
    pub(crate) after: Overlay,
    /// What there was before the change; nothing before the first commit.
    pub(crate) before: Option<Overlay>,
    /// Absolute. A submodule is one path.
    paths: BTreeSet<PathBuf>,
    /// "changed since `main`".
    words: String,
}

impl Changes {
    /// The change asked for, in the repository of the first path that is scanned.
    pub(crate) fn find(args: &ChangeArgs, start: Option<&Path>) -> Result<Option<Self>, Failure> {
        if args.since.is_none() && !args.staged {
            return Ok(None);
        }
        let here = env::current_dir().context("failed to find the working directory")?;
        let start = normal(&here.join(start.unwrap_or(Path::new(""))));
        let repository = Repository::find(&start)?;
        let changes = match &args.since {
            Some(revision) => Self::since(&repository, revision)?,
            None => Self::staged(&repository)?,
        };
        Ok(Some(changes))
    }

    fn since(repository: &Repository, revision: &str) -> Result<Self, Failure> {
        let fork = repository.fork(revision)?;
        let difference = repository.difference(&fork, is_wanted)?;
        Ok(Self {
            after: Overlay::default(),
            before: Some(difference.tree),
            paths: difference.paths,
            words: format!("changed since `{revision}`"),
        })
    }

    fn staged(repository: &Repository) -> Result<Self, Failure> {
        let before = match repository.head()? {
            Some(head) => Some(repository.difference(&head, is_wanted)?.tree),
            None => None,
        };
        Ok(Self {
            after: repository.difference(&Tree::Index, is_wanted)?.tree,
            before,
            paths: repository.staged()?,
            words: "staged".to_owned(),
        })
    }

    /// What the change touches of the files of a scan.
    pub(crate) fn of_scan(&self, project: &Project, scan: &Scan) -> Changed {
        let paths: BTreeSet<_> = self.paths.iter().map(|it| project.key(it)).collect();
        let is_changed = |it: &Path| it.to_str().is_some_and(|it| paths.contains(it));
        let keys = scan.keys.iter().filter(|it| Path::new(it).ancestors().any(is_changed));
        Changed { keys: keys.cloned().collect(), words: self.words.clone() }
    }
}

/// Whether the contents of a file can matter.
fn is_wanted(path: &Path) -> bool {
    let declares = [POLICY, PYPROJECT, LOCK].iter().any(|it| path.ends_with(it));
    declares || may_matter(path)
}

/// The files of a scan that a change touches.
#[derive(Debug)]
pub(crate) struct Changed {
    keys: BTreeSet<String>,
    words: String,
}

impl Changed {
    pub(crate) fn files(&self) -> usize {
        self.keys.len()
    }

    /// "changed since `main`".
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Leaves the findings that the change answers for. `before` scans the tree before the change, if that must be known.
    pub(crate) fn filter(
        &self,
        scan: &mut Scan,
        accepted: &mut Vec<Finding>,
        before: impl FnOnce() -> Option<Scan>,
    ) {
        let units = &scan.units;
        let touches = |unit: UnitId| self.contains(&units[unit.0 as usize].source.path);
        accepted.retain(|it| touches(it.unit));
        let analysis = &mut scan.analysis;
        analysis.suppressed.retain(|it| touches(it.unit));
        if analysis.findings.iter().all(|it| touches(it.unit)) {
            return;
        }
        let Some(before) = before() else { return };
        let old: BTreeSet<_> =
            before.analysis.findings.iter().map(|it| fingerprint(&before.units, it)).collect();
        analysis.findings.retain(|it| touches(it.unit) || !old.contains(&fingerprint(units, it)));
    }
}
