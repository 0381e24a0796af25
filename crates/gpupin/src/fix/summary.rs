//! What became of fixing, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use gpupin_lint::{Rule, finding::Safety};

use crate::{
    fix::rounds::{Counts, Fixing},
    project::Project,
    scan::Problem,
    terminal::{Terminal, one_line},
};

/// How to speak of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    /// Files were changed, not only looked at.
    pub(crate) writes: bool,
    /// Unsafe fixes were wanted too.
    pub(crate) unsafe_too: bool,
}

impl Summary {
    /// Says what was done, and what is left and why.
    pub(crate) fn tell(self, project: &Project, fixing: &Fixing, terminal: &mut Terminal) {
        let count = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let brought: usize = fixing.brought.values().sum();
        let done = if self.writes { "fixed" } else { "would fix" };
        if fixing.changed.is_empty() {
            terminal.status("nothing to fix");
        } else {
            let mut status = format!(
                "{done} {} in {}: {}",
                count(fixing.fixed.values().sum(), "finding"),
                count(fixing.changed.len(), "file"),
                by_rule(&fixing.fixed),
            );
            if brought > 0 {
                let rules = by_rule(&fixing.brought);
                status = format!("{status}; and {brought} that fixes brought: {rules}");
            }
            terminal.status(&status);
            for it in &fixing.changed {
                let new = if it.old.is_none() { " (new)" } else { "" };
                let path = one_line(&project.shown(&it.key));
                terminal.status(&format!("  {path}{new}"));
            }
        }
        let left = left(project, fixing, self.unsafe_too);
        let total: usize = left.values().flat_map(|it| it.1.values()).map(Vec::len).sum();
        if total == 0 {
            return;
        }
        let are = if total == 1 { "is" } else { "are" };
        terminal.status(&format!("{} {are} left:", count(total, "finding")));
        for (code, (rule, reasons)) in left {
            for (why, places) in reasons {
                let why = one_line(&why);
                terminal.status(&format!("  {:>4}  {code} {}: {why}", places.len(), rule.name));
                let named = places.iter().take(NAMED).map(|it| one_line(&it.to_string()));
                let more = match places.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                terminal.status(&format!("        {}{more}", named.collect::<Vec<_>>().join(", ")));
            }
        }
        if self.writes && !fixing.changed.is_empty() {
            terminal.status("`gpupin undo` takes the changes back");
        }
    }

    /// The same for programs.
    pub(crate) fn document(
        self,
        project: &Project,
        fixing: &Fixing,
        refused: &[Problem],
    ) -> Document {
        let counted = |counts: &Counts| -> Vec<JsonFixed> {
            let each = counts.iter().map(|((path, code), findings)| JsonFixed {
                path: project.shown(path),
                code,
                findings: *findings,
            });
            each.collect()
        };
        let left = left(project, fixing, self.unsafe_too).into_iter();
        let left = left.flat_map(|(code, (rule, reasons))| {
            reasons.into_iter().map(move |(why, places)| JsonLeft {
                code,
                name: rule.name,
                why,
                findings: places.len(),
                places,
            })
        });
        Document {
            version: 1,
            files: fixing.changed.iter().map(|it| project.shown(&it.key)).collect(),
            fixed: counted(&fixing.fixed),
            brought: counted(&fixing.brought),
            left: left.collect(),
            refused: refused
                .iter()
                .map(|it| JsonRefused { path: it.path.clone(), why: it.message.clone() })
                .collect(),
        }
    }
}

/// `GP101 1, GP201 3`.
fn by_rule(counts: &Counts) -> String {
    let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, code), number) in counts {
        *by_rule.entry(code).or_default() += number;
    }
    by_rule.iter().map(|it| format!("{} {}", it.0, it.1)).collect::<Vec<_>>().join(", ")
}

/// How many places of what is left are named for people.
const NAMED: usize = 5;

/// Where a finding is.
#[derive(Debug, Serialize)]
struct Place {
    path: String,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// Why findings of a rule are left, and where.
type Left = (&'static Rule, BTreeMap<String, Vec<Place>>);

fn left(project: &Project, fixing: &Fixing, unsafe_too: bool) -> BTreeMap<&'static str, Left> {
    let mut left: BTreeMap<&'static str, Left> = BTreeMap::new();
    for (at, finding) in fixing.scan.analysis.findings.iter().enumerate() {
        let why = match (finding.fix.as_ref().map(|it| &it.safety), fixing.spoiling.get(&at)) {
            (None, _) => match &finding.unfixable {
                Some(why) => format!("no fix: {why}"),
                None => "no fix is known".to_owned(),
            },
            (Some(_), Some(why)) => format!("its fix was not made: {why}"),
            (Some(Safety::Unsafe(why)), _) if !unsafe_too => format!("unsafe: {why}"),
            (Some(_), _) => "its fix was not made".to_owned(),
        };
        let source = &fixing.scan.units[finding.unit.0 as usize].source;
        let line = source.place(finding.span.start).line as usize;
        let place = Place { path: project.shown(&source.path), line };
        let (_, reasons) = left.entry(finding.rule.code).or_insert((finding.rule, BTreeMap::new()));
        reasons.entry(why).or_default().push(place);
    }
    left
}

/// What was done and what is left, for programs.
#[derive(Serialize)]
pub(crate) struct Document {
    version: u32,
    files: Vec<String>,
    fixed: Vec<JsonFixed>,
    /// What one fix brought and another one mended: not among those that a scan shows before.
    brought: Vec<JsonFixed>,
    left: Vec<JsonLeft>,
    refused: Vec<JsonRefused>,
}

#[derive(Serialize)]
struct JsonFixed {
    path: String,
    code: &'static str,
    findings: usize,
}

#[derive(Serialize)]
struct JsonLeft {
    code: &'static str,
    name: &'static str,
    why: String,
    findings: usize,
    places: Vec<Place>,
}

#[derive(Serialize)]
struct JsonRefused {
    path: String,
    why: String,
}
