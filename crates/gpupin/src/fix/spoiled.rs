//! What fixes made worse, and which of them are to blame.

use std::collections::{BTreeMap, BTreeSet};

use gpupin_lint::{finding::Finding, unit::UnitId};

use crate::{
    fix::{rounds::FirstLines, trial::Id},
    scan::Scan,
};

/// What was there before anything was fixed, to tell what fixing brought.
pub(super) struct Before {
    syntax_errors: BTreeMap<String, usize>,
    findings: BTreeMap<(&'static str, String), usize>,
    /// The programs that findings about programs are about, by code.
    programs: BTreeSet<(&'static str, String)>,
    pub(super) ids: BTreeSet<Id>,
}

impl Before {
    pub(super) fn of(scan: &Scan) -> Self {
        let errors = scan.units.iter().map(|it| (it.source.path.clone(), it.syntax_errors.len()));
        let about = scan.analysis.findings.iter().filter(|it| it.rule.is_about_programs());
        let programs = about.flat_map(|it| programs(scan, it).map(|path| (it.rule.code, path)));
        let lines = FirstLines::default();
        Self {
            syntax_errors: errors.collect(),
            findings: counted(scan),
            programs: programs.collect(),
            ids: scan.analysis.findings.iter().map(|it| lines.id(&scan.units, it)).collect(),
        }
    }

    pub(super) fn spoiled(
        &self,
        scan: &Scan,
        changed: &BTreeMap<String, (String, Vec<u8>)>,
        on_trial: &BTreeSet<String>,
    ) -> Spoiled {
        let mut spoiled = Spoiled::default();
        let bad = &mut spoiled.blamed;
        for unit in &scan.units {
            let key = &unit.source.path;
            let before = self.syntax_errors.get(key).copied().unwrap_or_default();
            if changed.contains_key(key) && unit.syntax_errors.len() > before {
                bad.insert(key.clone(), "it would leave a syntax error".to_owned());
            }
        }
        let path = |id: UnitId| &scan.units[id.0 as usize].source.path;
        let now = counted(scan);
        let worse = now.iter().filter(|it| self.findings.get(it.0).is_none_or(|was| was < it.1));
        for ((code, key), _) in worse {
            let of_kind = |it: &&Finding| it.rule.code == *code && path(it.unit) == key;
            let is_new = |it: &&Finding| {
                let was_found = |path| self.programs.contains(&(it.rule.code, path));
                let is_about = it.rule.is_about_programs() && !it.programs.is_empty();
                !(is_about && programs(scan, it).all(was_found))
            };
            for finding in scan.analysis.findings.iter().filter(of_kind).filter(is_new) {
                // Its line is of a text that nobody sees.
                let source = &scan.units[finding.unit.0 as usize].source;
                let statement = source.slice(finding.span).lines().next().unwrap_or_default();
                let why = format!(
                    "it would bring {code} to `{}` in `{key}`: {}",
                    statement.trim(),
                    finding.message
                );
                let others = finding.related.iter().map(|it| it.unit);
                let others = others.chain(finding.programs.iter().copied()).map(path);
                let involved: BTreeSet<_> = others.filter(|it| changed.contains_key(*it)).collect();
                let blamed: Vec<&String> = if changed.contains_key(path(finding.unit)) {
                    vec![path(finding.unit)]
                } else if involved.is_empty() {
                    // Something brought it, and nothing says what.
                    let changed: Vec<_> = changed.keys().collect();
                    suspects(key, &changed, on_trial)
                } else {
                    involved.into_iter().collect()
                };
                bad.extend(blamed.into_iter().map(|it| (it.clone(), why.clone())));
                spoiled.places.insert(key.clone());
            }
        }
        spoiled
    }
}

/// What changes made worse.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spoiled {
    /// Files that did it, and how.
    pub(super) blamed: BTreeMap<String, String>,
    /// Files in which something is found that was not there.
    pub(super) places: BTreeSet<String>,
}

/// Who may have brought a finding to a file: those on trial, for without them nothing was spoiled, and of these or of all that changed
/// the nearest, in the innermost directory around the file that has any. Should others be to blame, they come when these are no more.
fn suspects<'a>(
    path: &str,
    changed: &[&'a String],
    on_trial: &BTreeSet<String>,
) -> Vec<&'a String> {
    let tried: Vec<_> = changed.iter().copied().filter(|it| on_trial.contains(*it)).collect();
    let all = if tried.is_empty() { changed } else { &tried };
    let directories = path.rmatch_indices('/').map(|it| &path[..=it.0]).chain([""]);
    directories
        .map(|it| all.iter().copied().filter(|path| path.starts_with(it)).collect::<Vec<_>>())
        .find(|it| !it.is_empty())
        .unwrap_or_default()
}

/// The files in which the programs start that a finding is about.
pub(super) fn programs<'a>(
    scan: &'a Scan,
    finding: &'a Finding,
) -> impl Iterator<Item = String> + 'a {
    finding.programs.iter().map(|it| scan.units[it.0 as usize].source.path.clone())
}

/// How many findings of each rule each file has.
fn counted(scan: &Scan) -> BTreeMap<(&'static str, String), usize> {
    let mut counted = BTreeMap::new();
    for finding in &scan.analysis.findings {
        let path = scan.units[finding.unit.0 as usize].source.path.clone();
        *counted.entry((finding.rule.code, path)).or_default() += 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::suspects;

    #[test]
    fn the_nearest_are_suspected_first_and_those_on_trial_before_all_others() {
        let changed = ["a/b/one.py", "a/two.py", "c/three.py"].map(str::to_owned);
        let changed: Vec<_> = changed.iter().collect();
        let check = |path, tried: &[&str], expected: &[&str]| {
            let tried: BTreeSet<_> = tried.iter().map(ToString::to_string).collect();
            assert_eq!(suspects(path, &changed, &tried), expected, "{path}");
        };
        check("a/b/x.py", &[], &["a/b/one.py"]);
        check("a/x.py", &[], &["a/b/one.py", "a/two.py"]);
        check("d/x.py", &[], &["a/b/one.py", "a/two.py", "c/three.py"]);
        check("a/b/x.py", &["c/three.py", "a/two.py"], &["a/two.py"]);
        check("a/b/x.py", &["gone.py"], &["a/b/one.py"]);
    }
}
