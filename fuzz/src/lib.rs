//! What must hold for every file, however broken.
//!
//! `src/bin` has one target per kind of input, `examples/corpus.rs` applies the same
//! checks to whole directories of real files. `cargo xtask fuzz` runs both.

use std::{fmt::Debug, sync::LazyLock};

use gpupin_lint::{
    Options, RULES, analyze, finding::Finding, selection::Selection, span::Span, unit::Unit,
};
use gpupin_policy::{LockFile, Policy, PolicyFile};

/// The policy and the machine of the golden files.
pub static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::parse(include_str!("../../wire/gpupin.toml"), PolicyFile::Gpupin, None)
        .expect("the golden policy is valid")
        .expect("the golden policy is not empty")
});
pub static LOCK: LazyLock<LockFile> = LazyLock::new(|| {
    LockFile::parse(include_str!("../../wire/gpupin.lock")).expect("the golden lock file is valid")
});

/// Reads a file and judges it with every rule. Whether it was a file that can matter.
pub fn check(path: &str, bytes: &[u8]) -> bool {
    let Some(unit) = gpupin_lint::read(path, bytes) else { return false };
    for event in &unit.events {
        inside(&unit, event.span, event);
    }
    for span in &unit.possible {
        inside(&unit, *span, "possible hit");
    }
    for (span, error) in &unit.syntax_errors {
        inside(&unit, *span, error);
    }

    let options = Options { selection: Selection::only(RULES), ..Options::default() };
    let units = [unit];
    let analysis = analyze(&units, &POLICY, &LOCK, &options);
    for finding in analysis.findings.iter().chain(&analysis.suppressed) {
        check_finding(&units[0], finding);
    }
    true
}

fn check_finding(unit: &Unit, finding: &Finding) {
    inside(unit, finding.span, finding);
    for related in &finding.related {
        inside(unit, related.span, related);
    }
    let Some(fix) = &finding.fix else { return };
    let mut end = 0;
    for edit in &fix.edits {
        inside(unit, edit.span, edit);
        assert!(end <= edit.span.start, "edits overlap: {fix:?}");
        end = edit.span.end;
    }
}

/// A range must be one of the decoded text, at the borders of characters.
#[track_caller]
fn inside(unit: &Unit, span: Span, what: impl Debug) {
    let source = &unit.source;
    assert!(
        source.text.get(span.range()).is_some(),
        "{span:?} is not in the {} bytes of `{}`: {what:?}",
        source.text.len(),
        source.path
    );
}
