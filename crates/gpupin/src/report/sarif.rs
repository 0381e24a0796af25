//! SARIF 2.1.0, for code scanning of GitHub, Azure and editors.
//!
//! Paths are relative, because the file is read on another machine. Suppressed and accepted findings
//! stay in, marked, so that a platform closes them instead of taking them for fixed. Fingerprints
//! are those of the baseline and survive unrelated edits.

use std::{fmt::Write as _, io};

use gpupin_lint::{
    RULES, Rule,
    finding::{Edit, Finding, Fix, Safety, Severity},
    span::Span,
    unit::UnitId,
};
use serde_json::{Value, json};

use crate::report::{Report, url, write_json};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let suppressed = report.suppressed().iter().map(|it| {
        let mut result = result(report, it);
        result["suppressions"] = json!([{ "kind": "inSource" }]);
        result
    });
    let accepted = report.accepted().iter().map(|it| {
        let mut result = result(report, it);
        result["suppressions"] =
            json!([{ "kind": "external", "justification": "in the baseline" }]);
        result
    });
    let findings = report.findings().iter().map(|it| result(report, it));
    let results: Vec<_> = findings.chain(suppressed).chain(accepted).collect();
    let notifications: Vec<_> = report
        .problems()
        .iter()
        .map(|it| {
            json!({
                "level": "error",
                "message": { "text": it.message },
                "locations": [{ "physicalLocation": { "artifactLocation": artifact(&it.path) } }],
            })
        })
        .collect();
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver() },
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": notifications.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    });
    write_json(&document, out)
}

fn driver() -> Value {
    let mut driver = json!({
        "name": "gpupin",
        "semanticVersion": env!("CARGO_PKG_VERSION"),
        "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
    });
    let repository = env!("CARGO_PKG_REPOSITORY");
    if !repository.is_empty() {
        driver["informationUri"] = json!(repository);
    }
    driver
}

fn rule(rule: &'static Rule) -> Value {
    let mut descriptor = json!({
        "id": rule.code,
        "name": rule.name,
        "shortDescription": { "text": rule.summary() },
        "help": { "text": rule.docs, "markdown": rule.docs },
        "defaultConfiguration": { "level": level(rule.severity), "enabled": rule.default },
        "properties": { "tags": ["gpu"] },
    });
    if let Some(url) = url(rule) {
        descriptor["helpUri"] = json!(url);
    }
    descriptor
}

fn result(report: &Report<'_>, finding: &Finding) -> Value {
    let index = RULES.iter().position(|it| it.code == finding.rule.code);
    let programs: Vec<_> = finding.programs.iter().map(|it| report.path(*it)).collect();
    let mut result = json!({
        "ruleId": finding.rule.code,
        "ruleIndex": index.expect("a finding is of a registered rule"),
        "level": level(finding.severity),
        "message": { "text": finding.message },
        "locations": [{ "physicalLocation": location(report, finding.unit, finding.span) }],
        "partialFingerprints": { "gpupin/v1": report.fingerprint(finding) },
        "properties": { "programs": programs },
    });
    if !finding.related.is_empty() {
        let related = finding.related.iter().zip(1..).map(|(it, id)| {
            json!({
                "id": id,
                "message": { "text": it.message },
                "physicalLocation": location(report, it.unit, it.span),
            })
        });
        result["relatedLocations"] = related.collect();
    }
    if let Some(cell) = report.cell(finding.unit, finding.span.start) {
        result["properties"]["cell"] = json!({
            "number": cell.number,
            "line": cell.place.line,
            "column": cell.place.column,
        });
    }
    if let Some(it) = &finding.fix {
        result["fixes"] = json!([fix(report, it)]);
    }
    result
}

fn fix(report: &Report<'_>, fix: &Fix) -> Value {
    let text = match &fix.safety {
        Safety::Safe => fix.title.clone(),
        Safety::Unsafe(why) => format!("{} (unsafe: {why})", fix.title),
    };
    let replacement = |edit: &Edit| {
        json!({
            "deletedRegion": region(report, edit.unit, edit.span),
            "insertedContent": { "text": edit.replacement },
        })
    };
    let change = |edits: &[Edit]| {
        json!({
            "artifactLocation": artifact(report.path(edits[0].unit)),
            "replacements": edits.iter().map(replacement).collect::<Vec<_>>(),
        })
    };
    let made = fix.new_files.iter().map(|it| {
        let start = json!({ "startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1 });
        json!({
            "artifactLocation": artifact(&report.new_path(&it.path)),
            "replacements": [{ "deletedRegion": start, "insertedContent": { "text": it.text } }],
        })
    });
    let changes = fix.edits.chunk_by(|a, b| a.unit == b.unit).map(change).chain(made);
    json!({
        "description": { "text": text },
        "artifactChanges": changes.collect::<Vec<_>>(),
    })
}

fn location(report: &Report<'_>, unit: UnitId, span: Span) -> Value {
    json!({
        "artifactLocation": artifact(report.path(unit)),
        "region": region(report, unit, span),
    })
}

fn region(report: &Report<'_>, unit: UnitId, span: Span) -> Value {
    let (start, end) = report.range(unit, span);
    json!({
        "startLine": start.line,
        "startColumn": start.column,
        "endLine": end.line,
        "endColumn": end.column,
    })
}

fn artifact(path: &str) -> Value {
    if path.starts_with('/') {
        return json!({ "uri": format!("file://{}", encoded(path)) });
    }
    json!({ "uri": encoded(path), "uriBaseId": "%SRCROOT%" })
}

/// A path as part of a URI.
fn encoded(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a `String` takes everything");
        }
    }
    uri
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
