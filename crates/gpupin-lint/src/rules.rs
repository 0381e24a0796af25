//! The rules.
//!
//! A rule is two files with the same stem and one line in [`RULES`]:
//!
//! - `rules/<name>.rs` holds the [`Rule`], its check, and tests for the corners;
//! - `rules/<name>.md` explains it to users. Its examples are tests too.
//!
//! The name states the problem and reads well after "allow": `allow missing-device-order`. Codes are
//! never reused.

use crate::{
    finding::{Finding, Severity},
    program::Program,
    project::Project,
    span::Span,
    unit::{Unit, UnitId},
};

/// Every rule, ordered by code.
pub const RULES: &[Rule] = &[];

/// A rule: what it is called, how it is explained and how it is checked.
#[derive(Debug)]
pub struct Rule {
    /// Stable code, such as `GP103`.
    pub code: &'static str,
    /// Kebab-case name, equal to the file stem.
    pub name: &'static str,
    pub severity: Severity,
    /// On without being asked for. The others belong to `strict`.
    pub default: bool,
    /// Markdown shown by `gpupin rule` and in `docs/reference/rules`.
    pub docs: &'static str,
    pub(crate) check: Check,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// One file's events, in whatever order they run.
    Unit(fn(&'static Rule, &Project<'_>, UnitId, &Unit, &mut Vec<Finding>)),
    /// One program's events in the order they run.
    Program(fn(&'static Rule, &Project<'_>, &Program, &mut Vec<Finding>)),
}

impl Rule {
    /// The first sentence of the documentation.
    pub fn summary(&self) -> &'static str {
        let body = self.docs.trim_start_matches(|c| c != '\n').trim_start();
        body.split_once("\n\n").map_or(body, |(first, _)| first).trim_end()
    }

    pub(crate) fn finding(
        &'static self,
        unit: UnitId,
        span: Span,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            rule: self,
            severity: self.severity,
            unit,
            span,
            message: message.into(),
            related: Vec::new(),
            help: None,
            fix: None,
            programs: Vec::new(),
        }
    }
}

/// The rule with this code or name.
pub fn find(code_or_name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|it| it.code.eq_ignore_ascii_case(code_or_name) || it.name == code_or_name)
}
