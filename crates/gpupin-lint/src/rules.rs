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
    needle::Needle,
    program::Program,
    project::Project,
    source::{Language, Source},
    span::Span,
    suppress::Used,
    unit::{Unit, UnitId},
};

mod accumulates_graph;
mod computed_mask;
mod conflicting_pins;
mod container_gpu_unpinned;
mod container_masked_twice;
mod flag_replaces_mask;
mod hidden_by_syntax_error;
mod hides_every_gpu;
mod index_used_as_ordinal;
mod invalid_allocator_setting;
mod invalid_mask;
mod missing_device_order;
mod missing_required_variable;
mod missing_verification;
mod ordinal_outside_pin;
mod pin_after_freeze;
mod pin_after_import;
mod pin_dropped_in_child;
mod pin_in_other_style;
mod pin_removed;
mod pinned_to_wrong_gpu;
mod silent_cpu_fallback;
mod spreads_over_gpus;
mod suppression_without_code;
mod unpinned_entry_point;
mod unused_suppression;
mod weak_verification;
mod wrong_device_order;

pub(crate) use ordinal_outside_pin::{names_gpus, ordinal_without_fix};

/// Every rule, ordered by code.
pub const RULES: &[Rule] = &[
    unused_suppression::RULE,
    suppression_without_code::RULE,
    hidden_by_syntax_error::RULE,
    unpinned_entry_point::RULE,
    pinned_to_wrong_gpu::RULE,
    missing_device_order::RULE,
    wrong_device_order::RULE,
    pin_after_freeze::RULE,
    pin_after_import::RULE,
    conflicting_pins::RULE,
    invalid_mask::RULE,
    pin_dropped_in_child::RULE,
    computed_mask::RULE,
    pin_removed::RULE,
    hides_every_gpu::RULE,
    pin_in_other_style::RULE,
    ordinal_outside_pin::RULE,
    index_used_as_ordinal::RULE,
    spreads_over_gpus::RULE,
    silent_cpu_fallback::RULE,
    flag_replaces_mask::RULE,
    missing_verification::RULE,
    weak_verification::RULE,
    invalid_allocator_setting::RULE,
    missing_required_variable::RULE,
    accumulates_graph::RULE,
    container_gpu_unpinned::RULE,
    container_masked_twice::RULE,
];

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
    /// A file without any of these cannot interest the rule; none if other rules' needles decide. A rule on
    /// files finds nothing in a file without one, whether files are filtered or not.
    pub needles: &'static [Needle],
    pub(crate) check: Check,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// One file's events, in whatever order they run.
    Unit(fn(&'static Rule, &Project<'_>, UnitId, &Unit, &mut Vec<Finding>)),
    /// One program's events in the order they run.
    Program(fn(&'static Rule, &Project<'_>, &Program, &mut Vec<Finding>)),
    /// All programs together, for findings that several of them share.
    Programs(fn(&'static Rule, &Project<'_>, &mut Vec<Finding>)),
    /// All files together, for one finding per cause where causes are shared.
    Project(fn(&'static Rule, &Project<'_>, &mut Vec<Finding>)),
    /// One suppression comment, after all other rules and with what it covered.
    Suppression(CheckSuppression),
}

/// The second last parameter tells whether a rule was looked for in the file of the comment.
pub(crate) type CheckSuppression =
    fn(&'static Rule, UnitId, &Used<'_>, &dyn Fn(&Rule) -> bool, &mut Vec<Finding>);

impl Rule {
    /// The first sentence of the documentation.
    pub fn summary(&self) -> &'static str {
        let body = self.docs.trim_start_matches(|c| c != '\n').trim_start();
        body.split_once("\n\n").map_or(body, |(first, _)| first).trim_end()
    }

    /// Whether its findings are about whole programs. Several programs that one cure helps are told together, so that such
    /// a finding may come to sit in another file although nothing is new.
    pub fn is_about_programs(&self) -> bool {
        matches!(self.check, Check::Project(_)) && self.needles.is_empty()
    }

    /// Whether a file has one of the needles.
    pub(crate) fn may_find_in(&self, source: &Source) -> bool {
        let python = matches!(source.language, Language::Python | Language::Notebook);
        let found = |it: &Needle| (it.in_python || !python) && it.is_in(&source.text);
        self.needles.is_empty() || self.needles.iter().any(found)
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
            unfixable: None,
            programs: Vec::new(),
            occurrence: 0,
        }
    }
}

/// The rule with this code or name.
pub fn find(code_or_name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|it| it.code.eq_ignore_ascii_case(code_or_name) || it.name == code_or_name)
}

/// The code or name nearest to a text that is neither, if one is near.
pub fn nearest(text: &str) -> Option<&'static str> {
    let words = RULES.iter().flat_map(|it| [it.code, it.name]).chain(["default", "strict", "all"]);
    let distance = |word: &str| strsim::osa_distance(&text.to_lowercase(), &word.to_lowercase());
    let near = words.map(|it| (distance(it), it)).filter(|it| it.0 <= it.1.len().div_ceil(3));
    near.min_by_key(|it| it.0).map(|it| it.1)
}
