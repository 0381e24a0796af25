//! Code quality reports of GitLab.
//!
//! <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>

use std::io;

use gpupin_lint::{finding::Severity, source::Place};
use serde::Serialize;

use crate::report::{Report, write_json};

#[derive(Serialize)]
struct Issue<'a> {
    description: &'a str,
    check_name: String,
    fingerprint: String,
    severity: &'static str,
    location: Location<'a>,
}

#[derive(Serialize)]
struct Location<'a> {
    path: &'a str,
    positions: Positions,
}

#[derive(Serialize)]
struct Positions {
    begin: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: u32,
    column: u32,
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let issues = report.findings().iter().map(|it| {
        let (begin, end) = report.range(it.unit, it.span);
        Issue {
            description: &it.message,
            check_name: format!("{} {}", it.rule.code, it.rule.name),
            fingerprint: report.fingerprint(it),
            severity: match it.severity {
                Severity::Error => "major",
                Severity::Warning => "minor",
            },
            location: Location {
                path: report.path(it.unit),
                positions: Positions { begin: begin.into(), end: end.into() },
            },
        }
    });
    write_json(&issues.collect::<Vec<_>>(), out)
}

impl From<Place> for Position {
    fn from(place: Place) -> Self {
        Self { line: place.line, column: place.column }
    }
}
