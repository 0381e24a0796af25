//! What became of fixing, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    fix::rounds::{Fixing, left},
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
        let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
        for ((_, code), number) in &fixing.fixed {
            *by_rule.entry(code).or_default() += number;
        }
        let done = if self.writes { "fixed" } else { "would fix" };
        if fixing.changed.is_empty() {
            terminal.status("nothing to fix");
        } else {
            let rules: Vec<_> = by_rule.iter().map(|it| format!("{} {}", it.0, it.1)).collect();
            terminal.status(&format!(
                "{done} {} in {}: {}",
                count(by_rule.values().sum(), "finding"),
                count(fixing.changed.len(), "file"),
                rules.join(", "),
            ));
            for it in &fixing.changed {
                let new = if it.old.is_none() { " (new)" } else { "" };
                let path = one_line(&project.shown(&it.key));
                terminal.status(&format!("  {path}{new}"));
            }
        }
        let left = left(&fixing.scan, self.unsafe_too);
        let total: usize = left.values().flat_map(|it| it.1.values()).sum();
        if total == 0 {
            return;
        }
        let are = if total == 1 { "is" } else { "are" };
        terminal.status(&format!("{} {are} left:", count(total, "finding")));
        for (code, (rule, reasons)) in left {
            for (why, number) in reasons {
                terminal.status(&format!("  {number:>4}  {code} {}: {why}", rule.name));
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
        let fixed = fixing.fixed.iter().map(|((path, code), findings)| JsonFixed {
            path: project.shown(path),
            code,
            findings: *findings,
        });
        let left =
            left(&fixing.scan, self.unsafe_too).into_iter().flat_map(|(code, (rule, reasons))| {
                reasons.into_iter().map(move |(why, findings)| JsonLeft {
                    code,
                    name: rule.name,
                    why,
                    findings,
                })
            });
        Document {
            version: 1,
            files: fixing.changed.iter().map(|it| project.shown(&it.key)).collect(),
            fixed: fixed.collect(),
            left: left.collect(),
            refused: refused
                .iter()
                .map(|it| JsonRefused { path: it.path.clone(), why: it.message.clone() })
                .collect(),
        }
    }
}

/// What was done and what is left, for programs.
#[derive(Serialize)]
pub(crate) struct Document {
    version: u32,
    files: Vec<String>,
    fixed: Vec<JsonFixed>,
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
}

#[derive(Serialize)]
struct JsonRefused {
    path: String,
    why: String,
}
