//! From paths to findings.
//!
//! 1. [`discover`] walks the paths and lists the files that may matter, sorted by path.
//! 2. [`read`] surveys them in parallel and reads those that can matter into [`Unit`]s.
//! 3. [`analyze`] judges all units together.
//!
//! The result does not depend on the number of threads. What cannot be read is a [`Problem`] and
//! never ends the scan; neither does a panic while one file is read.

use std::{num::NonZero, path::PathBuf, time::Instant};

use gpupin_lint::{Analysis, Options, analyze, survey::Surveyor, unit::Unit};

use self::read::Read;
use crate::{failure::Failure, project::Project, terminal::Terminal};

mod discover;
mod read;
mod workers;

/// What to scan, and how.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) paths: Vec<PathBuf>,
    /// Globs over the policy's, relative to the working directory.
    pub(crate) exclude: Vec<String>,
    pub(crate) respect_gitignore: bool,
    pub(crate) threads: NonZero<usize>,
    /// Parse only files that can matter.
    pub(crate) prefilter: bool,
    pub(crate) options: Options,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) units: Vec<Unit>,
    pub(crate) analysis: Analysis,
    /// How many Python files import a GPU library when they run, if that was looked at.
    pub(crate) gpu_files: Option<usize>,
    /// How many files were looked at.
    pub(crate) files: usize,
    /// What the linter knows the files by that the paths lead to, in their order.
    pub(crate) keys: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

/// A file or directory that could not be scanned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// As shown to people.
    pub(crate) path: String,
    pub(crate) message: String,
}

/// A file to scan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    /// Relative to the root of the project, `/`-separated: what the linter knows it by.
    pub(crate) key: String,
    /// What opens it.
    pub(crate) path: PathBuf,
}

/// Scans a project.
pub(crate) fn scan(
    project: &Project,
    request: &Request,
    terminal: &mut Terminal,
) -> Result<Scan, Failure> {
    let started = Instant::now();
    let found = discover::discover(project, request, terminal)?;
    let discovered = Instant::now();
    let mut problems = found.problems;

    let surveyor = request
        .prefilter
        .then(|| Surveyor::new(request.options.selection.rules(), &project.policy));
    let read = read::read(&found.files, surveyor.as_ref(), request.threads, project, terminal);
    problems.extend(read.problems);
    problems.sort();
    let was_read = Instant::now();

    let options = Options { other_files: read.unread, ..request.options.clone() };
    let analysis = analyze(&read.units, &project.policy, &project.lock, &options);
    terminal.verbose(|| {
        let milliseconds = |from: Instant, to: Instant| (to - from).as_millis();
        format!(
            "walked {} ms, surveyed {} ms, read {} ms, judged {} ms, with {} threads; parsed {} of {} files",
            milliseconds(started, discovered),
            milliseconds(discovered, read.surveyed),
            milliseconds(read.surveyed, was_read),
            was_read.elapsed().as_millis(),
            request.threads,
            read.units.len(),
            read.files,
        )
    });
    let Read { units, files, gpu_files, .. } = read;
    let keys = found.files.into_iter().map(|it| it.key).collect();
    Ok(Scan { units, analysis, gpu_files, files, keys, problems })
}
