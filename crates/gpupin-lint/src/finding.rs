//! What rules report.

use crate::{rules::Rule, span::Span, unit::UnitId};

/// How bad a finding is. Rules have a severity; a finding can be milder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Error,
}

/// A place that could put work on another GPU than the policy's.
#[derive(Debug, Clone)]
pub struct Finding {
    pub rule: &'static Rule,
    pub severity: Severity,
    pub unit: UnitId,
    pub span: Span,
    /// One line, lower case, user's values in backticks.
    pub message: String,
    /// Other places that explain it, each with a short text.
    pub related: Vec<Related>,
    /// What else to know; shown by the full format.
    pub help: Option<String>,
    pub fix: Option<Fix>,
    /// Why there is no fix, where others of the rule have one.
    pub unfixable: Option<String>,
    /// The entry points a finding about order depends on.
    pub programs: Vec<UnitId>,
    /// Position among the findings with the same rule, file and statement text; see [`crate::baseline`].
    pub occurrence: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    pub unit: UnitId,
    pub span: Span,
    pub message: String,
}

/// A proposed change: all of its edits or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Imperative, without a period: "Set `CUDA_DEVICE_ORDER` first".
    pub title: String,
    pub safety: Safety,
    /// Sorted by file and place, not overlapping. Most change the file of the finding only; a pin that comes too late in
    /// a module is set in the programs that import it.
    pub edits: Vec<Edit>,
    /// Files that do not exist yet: a `conftest.py` that pins the tests below it.
    pub new_files: Vec<NewFile>,
    /// Entry points of programs that must be pinned for the fix to be right, and are not yet.
    pub rests_on: Vec<UnitId>,
}

/// A file to be made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewFile {
    /// As [`crate::source::Source::path`].
    pub path: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Safety {
    /// On every recorded machine the program then reaches exactly the policy's GPU, and nothing else changes.
    Safe,
    /// Why it is not.
    Unsafe(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub unit: UnitId,
    pub span: Span,
    pub replacement: String,
}

/// One finding for a place that several programs run, with all of them.
pub(crate) fn once_per_place(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|it| (it.unit, it.span));
    let mut once: Vec<Finding> = Vec::new();
    for finding in found {
        match once.last_mut() {
            Some(last) if (last.unit, last.span) == (finding.unit, finding.span) => {
                last.programs.extend(finding.programs);
                last.programs.sort_unstable();
                last.programs.dedup();
            }
            _ => once.push(finding),
        }
    }
    once
}

impl Finding {
    #[must_use]
    pub fn with_fix(
        mut self,
        title: impl Into<String>,
        safety: Safety,
        mut edits: Vec<Edit>,
    ) -> Self {
        edits.sort_by_key(|it| (it.unit, it.span));
        let title = title.into();
        let (new_files, rests_on) = (Vec::new(), Vec::new());
        self.fix = Some(Fix { title, safety, edits, new_files, rests_on });
        self
    }

    #[must_use]
    pub(crate) fn without_fix(mut self, why: impl Into<String>) -> Self {
        self.unfixable = Some(why.into());
        self
    }

    /// The fix also makes a file.
    #[must_use]
    pub fn creating(mut self, file: NewFile) -> Self {
        if let Some(fix) = &mut self.fix {
            fix.new_files.push(file);
        }
        self
    }

    /// The fix is right only once these programs are pinned.
    #[must_use]
    pub(crate) fn resting_on(mut self, programs: Vec<UnitId>) -> Self {
        if let Some(fix) = &mut self.fix {
            fix.rests_on = programs;
        }
        self
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn with_related(mut self, unit: UnitId, span: Span, message: impl Into<String>) -> Self {
        self.related.push(Related { unit, span, message: message.into() });
        self
    }

    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}
