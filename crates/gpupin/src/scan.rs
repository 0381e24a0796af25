//! From paths to findings.
//!
//! 1. [`discover`] walks the paths and lists the files that may matter, sorted by path.
//! 2. [`read`] surveys them in parallel and reads those that can matter into [`Unit`]s.
//! 3. [`analyze`] judges all units together.
//!
//! The result does not depend on the number of threads. What cannot be read is a [`Problem`] and
//! never ends the scan; neither does a panic while one file is read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use gpupin_lint::{
    Analysis, Options, analyze,
    selection::{Overrides, Selection, SelectionError},
    survey::Surveyor,
    unit::Unit,
};

use self::{
    read::{Memory, Read},
    workers::Threads,
};
use crate::{failure::Failure, overlay::Overlay, project::Project, terminal::Terminal};

mod discover;
mod part;
mod read;
mod workers;

pub(crate) use discover::may_matter;
pub(crate) use part::{Contents, Part};

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

/// Scans a project as it is in a tree.
pub(crate) fn scan(
    tree: &Overlay,
    project: &Project,
    request: &Request,
    terminal: &mut Terminal,
) -> Result<Scan, Failure> {
    Ok(Session::open_in(tree, project, request, terminal)?.scan(project, request, terminal))
}

/// As many threads as there are cores.
pub(crate) fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// The rules to look for.
pub(crate) fn selection(overrides: &Overrides, project: &Project) -> Result<Selection, Failure> {
    Selection::new(&project.policy, overrides).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let failure = Failure::usage(lines.join("\n  "));
        if errors.iter().all(|it| matches!(it, SelectionError::Glob { .. })) {
            return failure;
        }
        failure.hint("`gpupin rules` lists all rules")
    })
}

/// Whether a scan of the directory `top` could come to this path, as far as its names tell.
pub(crate) fn may_find(top: &Path, path: &Path) -> bool {
    discover::may_find(top, path)
}

/// A scan that can be repeated with other contents of some files, without reading the others again.
#[derive(Debug)]
pub(crate) struct Session {
    files: Vec<File>,
    problems: Vec<Problem>,
    memory: Memory,
    walked: Duration,
}

impl Session {
    /// Finds the files.
    pub(crate) fn open(
        project: &Project,
        request: &Request,
        terminal: &mut Terminal,
    ) -> Result<Self, Failure> {
        Self::open_in(&Overlay::default(), project, request, terminal)
    }

    /// Finds the files of another tree than the working tree.
    pub(crate) fn open_in(
        tree: &Overlay,
        project: &Project,
        request: &Request,
        terminal: &mut Terminal,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        let tree = tree.by_key(project);
        let discover::Found { files, problems } =
            discover::discover(&tree, project, request, terminal)?;
        let walked = started.elapsed();
        let session = Self { files, problems, memory: Memory::default(), walked };
        let contents = tree.into_iter().filter_map(|(key, it)| Some((key, it?.to_owned())));
        Ok(session.with_contents(contents.collect()))
    }

    /// Remembers what the first scan finds, for [`Self::rescan`].
    pub(crate) fn repeatable(mut self) -> Self {
        self.memory.surveys = Some(HashMap::new());
        self
    }

    /// Reads these contents, by key, instead of the files. A file that the paths do not lead to is left out.
    pub(crate) fn with_contents(mut self, contents: BTreeMap<String, Vec<u8>>) -> Self {
        self.memory.contents = contents;
        self
    }

    /// Reads this too instead of its file.
    pub(crate) fn add_contents(&mut self, key: String, contents: Vec<u8>) {
        self.memory.contents.insert(key, contents);
    }

    /// The next scan need not read these again.
    pub(crate) fn knowing(mut self, units: Vec<Unit>) -> Self {
        self.memory.units = units.into_iter().map(|it| (it.source.path.clone(), it)).collect();
        self
    }

    /// The files that were found.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    pub(crate) fn scan(
        &mut self,
        project: &Project,
        request: &Request,
        terminal: &mut Terminal,
    ) -> Scan {
        let started = Instant::now();
        let mut problems = self.problems.clone();
        let surveyor = request
            .prefilter
            .then(|| Surveyor::new(request.options.selection.rules(), &project.policy));
        let read = read::read(
            &self.files,
            surveyor.as_ref(),
            request.threads,
            project,
            &mut self.memory,
            terminal,
        );
        problems.extend(read.problems);
        problems.sort();
        let was_read = Instant::now();

        let options = Options { other_files: read.unread, ..request.options.clone() };
        let analysis = analyze(
            &read.units,
            &project.policy,
            &project.lock,
            &options,
            &Threads(request.threads),
        );
        terminal.verbose(|| {
            let milliseconds = |from: Instant, to: Instant| (to - from).as_millis();
            format!(
                "walked {} ms, surveyed {} ms, read {} ms, judged {} ms, with {} threads; parsed {} of {} files",
                self.walked.as_millis(),
                milliseconds(started, read.surveyed),
                milliseconds(read.surveyed, was_read),
                was_read.elapsed().as_millis(),
                request.threads,
                read.units.len(),
                read.files,
            )
        });
        let Read { units, files, gpu_files, .. } = read;
        let keys = self.files.iter().map(|it| it.key.clone()).collect();
        Scan { units, analysis, gpu_files, files, keys, problems }
    }

    /// Scans again, with other contents of the files that `changed` names by key: new ones too, and none for those
    /// that are there no more.
    pub(crate) fn rescan(
        &mut self,
        project: &Project,
        request: &Request,
        units: Vec<Unit>,
        changed: Contents,
        terminal: &mut Terminal,
    ) -> Scan {
        let memory = &mut self.memory;
        memory.units = units.into_iter().map(|it| (it.source.path.clone(), it)).collect();
        for key in changed.keys() {
            memory.units.remove(key);
            if let Some(surveys) = &mut memory.surveys {
                surveys.remove(key);
            }
        }
        for (key, content) in changed {
            let at = self.files.binary_search_by(|it| it.key.cmp(&key));
            match (content, at) {
                (Some(content), at) => {
                    if let Err(at) = at {
                        let path = project.root.join(&key);
                        self.files.insert(at, File { key: key.clone(), path });
                    }
                    memory.contents.insert(key, content);
                }
                (None, at) => {
                    memory.contents.remove(&key);
                    if let Ok(at) = at {
                        self.files.remove(at);
                    }
                }
            }
        }
        self.scan(project, request, terminal)
    }

    /// Finds the files again, those too of which only the contents are known, and tells whether they are others now.
    pub(crate) fn find_again(
        &mut self,
        project: &Project,
        request: &Request,
        terminal: &mut Terminal,
    ) -> Result<bool, Failure> {
        let contents = self.memory.contents.iter();
        let tree = contents.map(|(key, it)| (key.clone(), Some(it.as_slice()))).collect();
        let discover::Found { files, problems } =
            discover::discover(&tree, project, request, terminal)?;
        let are_others = files != self.files;
        (self.files, self.problems) = (files, problems);
        Ok(are_others)
    }

    /// Forgets what is known of these files: the next scan reads them from disk.
    pub(crate) fn forget(&mut self, units: &mut Vec<Unit>, keys: &BTreeSet<String>) {
        units.retain(|it| !keys.contains(&it.source.path));
        for key in keys {
            self.memory.contents.remove(key);
            if let Some(surveys) = &mut self.memory.surveys {
                surveys.remove(key);
            }
        }
    }
}
