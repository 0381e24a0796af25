//! Some files of a scan, judged again and again without the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use gpupin_lint::{
    Options, analyze,
    unit::{Unit, UnitId},
};

use crate::{
    project::Project,
    scan::{
        File, Request, Scan, Session,
        read::{Outcome, look},
        workers::{self, Threads},
    },
    terminal::Terminal,
};

/// New contents of files, by key. None for those that are there no more.
pub(crate) type Contents = BTreeMap<String, Option<Vec<u8>>>;

/// What was set aside of a scan while a part of it is judged.
#[derive(Debug)]
pub(crate) struct Part {
    others: Vec<Unit>,
    /// What became of the part's files.
    changed: Contents,
}

impl Part {
    /// Takes a part out of a scan.
    pub(crate) fn of(units: Vec<Unit>, part: &BTreeSet<UnitId>) -> (Self, Vec<Unit>) {
        let mut others = Vec::new();
        let mut inside = Vec::new();
        for (id, unit) in (0..).map(UnitId).zip(units) {
            if part.contains(&id) { inside.push(unit) } else { others.push(unit) }
        }
        (Self { others, changed: Contents::new() }, inside)
    }

    /// Whether a file was read and is none of the part's.
    pub(crate) fn leaves_out(&self, key: &str) -> bool {
        self.others.iter().any(|it| it.source.path == key)
    }

    /// Everything again, for [`Session::rescan`].
    pub(crate) fn whole(self, mut units: Vec<Unit>) -> (Vec<Unit>, Contents) {
        units.extend(self.others);
        (units, self.changed)
    }
}

impl Session {
    /// Like [`Self::rescan`], of the units of a part alone. The other files are known by their names.
    pub(crate) fn rescan_part(
        &self,
        part: &mut Part,
        (project, request): (&Project, &Request),
        mut units: Vec<Unit>,
        changed: Contents,
        terminal: &mut Terminal,
    ) -> Scan {
        let started = Instant::now();
        units.retain(|it| !changed.contains_key(&it.source.path));
        let contents: BTreeMap<String, Vec<u8>> =
            changed.iter().filter_map(|it| Some((it.0.clone(), it.1.clone()?))).collect();
        let file = |key: &String| File { key: key.clone(), path: project.root.join(key) };
        let files: Vec<File> = contents.keys().map(file).collect();
        let read = |file: &File| look(file, &contents, None);
        for outcome in workers::map(&files, request.threads, |_| {}, read) {
            // What cannot be read is missed, and told by the scan of everything.
            if let Ok(Outcome::Read(_, unit)) = outcome {
                units.push(*unit);
            }
        }
        units.sort_by(|a, b| a.source.path.cmp(&b.source.path));
        part.changed.extend(changed);

        let inside: BTreeSet<&str> = units.iter().map(|it| it.source.path.as_str()).collect();
        let others = self.files.iter().map(|it| it.key.as_str());
        let others = others.filter(|it| !inside.contains(it));
        let options =
            Options { other_files: others.map(str::to_owned).collect(), ..request.options.clone() };
        let workers = Threads(request.threads);
        let analysis = analyze(&units, &project.policy, &project.lock, &options, &workers);
        terminal.verbose(|| {
            format!("judged {} files again in {} ms", units.len(), started.elapsed().as_millis())
        });
        Scan {
            files: units.len(),
            units,
            analysis,
            gpu_files: None,
            keys: Vec::new(),
            problems: Vec::new(),
        }
    }
}
