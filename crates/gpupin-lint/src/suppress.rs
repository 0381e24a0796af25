//! `# gpupin: ignore[GP201] reason`: findings that a comment takes back.

use std::collections::BTreeSet;

use crate::{
    finding::Finding,
    rules::{self, Rule},
    source::Source,
    span::Span,
    unit::{Suppression, Unit, UnitId},
};

pub(crate) mod edit;

/// A suppression comment, and what became of each of its codes.
#[derive(Debug)]
pub(crate) struct Used<'a> {
    pub(crate) source: &'a Source,
    pub(crate) suppression: &'a Suppression,
    pub(crate) codes: Vec<UsedCode<'a>>,
    /// Rules with a finding where the comment looks, which nothing covers.
    pub(crate) uncovered: BTreeSet<&'static str>,
}

#[derive(Debug)]
pub(crate) struct UsedCode<'a> {
    /// As written: a code or a name.
    pub(crate) text: &'a str,
    pub(crate) span: Span,
    pub(crate) rule: Option<&'static Rule>,
    /// Covers a finding.
    pub(crate) covers: bool,
}

/// The findings no comment covers, the others, and the comments with their use.
pub(crate) fn suppress(
    units: &[Unit],
    findings: Vec<Finding>,
) -> (Vec<Finding>, Vec<Finding>, Vec<(UnitId, Used<'_>)>) {
    let mut used = Vec::new();
    for (id, unit) in (0..).map(UnitId).zip(units) {
        used.extend(unit.suppressions.iter().map(|it| (id, Used::new(&unit.source, it))));
    }
    let (mut suppressed, mut kept) = (Vec::new(), Vec::new());
    for finding in findings {
        let mut covered = false;
        let first = used.partition_point(|(id, _)| *id < finding.unit);
        // Every comment that covers the finding is in use, not only the first.
        for (_, comment) in used[first..].iter_mut().take_while(|(id, _)| *id == finding.unit) {
            covered |= comment.cover(&finding);
        }
        if !covered {
            for (_, comment) in used[first..].iter_mut().take_while(|(id, _)| *id == finding.unit) {
                if comment.looks_at(&finding) {
                    comment.uncovered.insert(finding.rule.code);
                }
            }
        }
        if covered { &mut suppressed } else { &mut kept }.push(finding);
    }
    (kept, suppressed, used)
}

impl<'a> Used<'a> {
    fn new(source: &'a Source, suppression: &'a Suppression) -> Self {
        let code = |(text, span): &'a (String, Span)| UsedCode {
            text,
            span: *span,
            rule: rules::find(text),
            covers: false,
        };
        let codes = suppression.codes.iter().map(code).collect();
        Self { source, suppression, codes, uncovered: BTreeSet::new() }
    }

    fn looks_at(&self, finding: &Finding) -> bool {
        let place = self.suppression.covers;
        // A finding may span many lines, such as a whole class; where it begins is where it shows.
        place.start <= finding.span.start && finding.span.start <= place.end
    }

    fn cover(&mut self, finding: &Finding) -> bool {
        if !self.looks_at(finding) {
            return false;
        }
        let mut covers = false;
        for code in &mut self.codes {
            if code.rule.is_some_and(|it| it.code == finding.rule.code) {
                code.covers = true;
                covers = true;
            }
        }
        covers
    }
}
