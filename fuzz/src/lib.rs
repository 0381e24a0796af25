//! What must hold for every file, however broken.
//!
//! `src/bin` has one target per kind of input, `examples/corpus.rs` applies the same
//! checks to whole directories of real files. `cargo xtask fuzz` runs both.

use std::{collections::BTreeSet, fmt::Debug, sync::LazyLock};

use gpupin_lint::{
    Alone, Options, RULES, analyze,
    finding::Finding,
    fix::{Wanted, apply},
    language::encode,
    selection::Selection,
    span::Span,
    unit::{Unit, UnitId},
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
    let analysis = analyze(&units, &POLICY, &LOCK, &options, &Alone);
    for finding in analysis.findings.iter().chain(&analysis.suppressed) {
        check_finding(&units[0], finding);
    }
    check_fixes(path, units, &options);
    true
}

/// All fixes together leave a file that reads as well as before, and come to an end.
fn check_fixes(path: &str, mut units: [Unit; 1], options: &Options) {
    const ROUNDS: usize = 12;
    let errors = units[0].syntax_errors.len();
    for _ in 0..ROUNDS {
        let analysis = analyze(&units, &POLICY, &LOCK, options, &Alone);
        let findings: Vec<_> = analysis.findings.iter().collect();
        let fixed = apply(&units, &findings, Wanted::All, &BTreeSet::new());
        let Some(text) = fixed.texts.get(&UnitId(0)).filter(|it| **it != units[0].source.text)
        else {
            return;
        };
        // What its encoding cannot write is left alone.
        let Some(bytes) = encode(text, units[0].source.encoding) else { return };
        let Some(unit) = gpupin_lint::read(path, &bytes) else { return };
        assert!(
            errors > 0 || unit.syntax_errors.is_empty(),
            "a syntax error where none was: {:?} in\n{text}",
            unit.syntax_errors
        );
        units = [unit];
    }
    panic!("fixes do not come to an end in\n{}", units[0].source.text);
}

fn check_finding(unit: &Unit, finding: &Finding) {
    inside(unit, finding.span, finding);
    for related in &finding.related {
        inside(unit, related.span, related);
    }
    let Some(fix) = &finding.fix else { return };
    let mut end = 0;
    for edit in &fix.edits {
        assert_eq!(edit.unit, UnitId(0));
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
