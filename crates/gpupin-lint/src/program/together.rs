//! Which files have to be judged together, so that some can be judged without the rest of a project.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    program::{Kind, Program, suite},
    project::Project,
    unit::UnitId,
};

/// Files that are judged together, sorted: all that run in a program, and those that start it. Test files that one
/// `conftest.py` would pin are one group.
pub(crate) fn groups(project: &Project<'_>) -> Vec<Vec<UnitId>> {
    let mut suites: BTreeMap<&str, Vec<UnitId>> = BTreeMap::new();
    let mut groups = Vec::new();
    let starters = Starters::of(&project.programs);
    for program in &project.programs {
        let mut group = starters.above(program.entry);
        group.extend(&program.units);
        group.extend(program.containers.iter().map(|it| it.container.0));
        match program.kind {
            Kind::Tests => {
                let directory = suite::directory(project, program.entry);
                suites.entry(directory).or_default().extend(group);
            }
            _ => groups.push(group),
        }
    }
    groups.extend(suites.into_values());
    for group in &mut groups {
        group.sort_unstable();
        group.dedup();
    }
    groups
}

/// The files that start each entry point.
struct Starters(BTreeMap<UnitId, BTreeSet<UnitId>>);

impl Starters {
    fn of(programs: &[Program]) -> Self {
        let mut starters: BTreeMap<UnitId, BTreeSet<UnitId>> = BTreeMap::new();
        for program in programs {
            let direct = program.starters.iter().map(|it| it.0);
            starters.entry(program.entry).or_default().extend(direct);
        }
        Self(starters)
    }

    /// An entry point with all that start it, however far away.
    fn above(&self, entry: UnitId) -> Vec<UnitId> {
        let mut found = vec![entry];
        let mut next = 0;
        while let Some(at) = found.get(next) {
            let more = self.0.get(at).into_iter().flatten();
            let more: Vec<_> = more.copied().filter(|it| !found.contains(it)).collect();
            found.extend(more);
            next += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use gpupin_policy::{LockFile, Policy};

    use crate::{Alone, Options, analyze, read};

    /// The groups that the project's files are judged in, each as the paths of its files.
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
        let read = |(path, text): &(&str, &str)| read(path, text.as_bytes()).unwrap();
        let units: Vec<_> = files.iter().map(read).collect();
        let (policy, lock) = (Policy::default(), LockFile::default());
        let analysis = analyze(&units, &policy, &lock, &Options::default(), &Alone);
        let mut groups: Vec<Vec<&str>> = analysis
            .groups
            .iter()
            .map(|it| it.iter().map(|it| units[it.0 as usize].source.path.as_str()).collect())
            .collect();
        groups.sort();
        assert_eq!(groups, expected);
    }

    const PROGRAM: &str = "import torch\nimport app.model\nif __name__ == '__main__':\n    pass\n";

    #[test]
    fn what_a_program_runs_and_what_starts_it_are_judged_together() {
        check(
            &[
                ("app/__init__.py", ""),
                ("app/model.py", "import torch\n"),
                ("other.py", "import torch\nif __name__ == '__main__':\n    pass\n"),
                ("outer.sh", "CUDA_VISIBLE_DEVICES=1 sh run.sh\n"),
                ("run.sh", "python3 start.py\n"),
                ("start.py", PROGRAM),
            ],
            &[
                &["app/__init__.py", "app/model.py", "outer.sh", "run.sh", "start.py"],
                &["other.py"],
                &["outer.sh"],
                &["outer.sh", "run.sh"],
            ],
        );
    }

    #[test]
    fn test_files_that_one_conftest_would_pin_are_judged_together() {
        let test = "import torch\ndef test_it():\n    pass\n";
        check(
            &[
                ("a/tests/test_a.py", test),
                ("a/tests/test_b.py", test),
                ("b/tests/test_c.py", test),
            ],
            &[&["a/tests/test_a.py", "a/tests/test_b.py"], &["b/tests/test_c.py"]],
        );
    }
}
