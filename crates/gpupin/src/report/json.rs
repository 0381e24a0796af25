//! The format of our own: one object.
//!
//! `docs/reference/scan.schema.json` describes it and a golden file in `wire/` keeps it. Adding a key
//! is allowed within a version, anything else is a new version.

use std::{collections::BTreeMap, io};

use gpupin_lint::finding::{Finding, Fix, Safety};
use serde::Serialize;

use crate::report::{Report, severity, url, write_json};

pub(super) const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    findings: Vec<JsonFinding<'a>>,
    summary: Summary,
}

#[derive(Serialize)]
pub(super) struct JsonFinding<'a> {
    code: &'a str,
    name: &'a str,
    severity: &'a str,
    path: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
    message: &'a str,
    url: Option<String>,
    fix: Option<JsonFix<'a>>,
    programs: Vec<&'a str>,
    cell: Option<JsonCell>,
}

#[derive(Serialize)]
struct JsonFix<'a> {
    safety: &'static str,
    why: Option<&'a str>,
    edits: Vec<JsonEdit<'a>>,
    new_files: Vec<JsonFile<'a>>,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    path: String,
    text: &'a str,
}

#[derive(Serialize)]
struct JsonEdit<'a> {
    path: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
    replacement: &'a str,
}

#[derive(Serialize)]
struct JsonCell {
    number: u32,
    line: u32,
    column: u32,
}

#[derive(Serialize)]
pub(super) struct Summary {
    files: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_files: Option<usize>,
    programs: usize,
    by_rule: BTreeMap<&'static str, usize>,
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let findings = report.findings().iter().map(|it| finding(report, it)).collect();
    write_json(&Document { version: VERSION, findings, summary: summary(report) }, out)
}

pub(super) fn summary(report: &Report<'_>) -> Summary {
    Summary {
        files: report.files(),
        changed_files: report.changed_files(),
        programs: report.programs(),
        by_rule: report.by_rule().into_iter().map(|(code, it)| (code, it.findings)).collect(),
    }
}

pub(super) fn finding<'a>(report: &'a Report<'_>, finding: &'a Finding) -> JsonFinding<'a> {
    let (start, end) = report.range(finding.unit, finding.span);
    let cell = report.cell(finding.unit, finding.span.start).map(|it| JsonCell {
        number: it.number,
        line: it.place.line,
        column: it.place.column,
    });
    JsonFinding {
        code: finding.rule.code,
        name: finding.rule.name,
        severity: severity(finding.severity),
        path: report.path(finding.unit),
        line: start.line,
        column: start.column,
        end_line: end.line,
        end_column: end.column,
        message: &finding.message,
        url: url(finding.rule),
        fix: finding.fix.as_ref().map(|it| fix(report, it)),
        programs: finding.programs.iter().map(|it| report.path(*it)).collect(),
        cell,
    }
}

fn fix<'a>(report: &'a Report<'_>, fix: &'a Fix) -> JsonFix<'a> {
    let (safety, why) = match &fix.safety {
        Safety::Safe => ("safe", None),
        Safety::Unsafe(why) => ("unsafe", Some(why.as_str())),
    };
    let edits = fix.edits.iter().map(|it| {
        let (start, end) = report.range(it.unit, it.span);
        JsonEdit {
            path: report.path(it.unit),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
            replacement: &it.replacement,
        }
    });
    let new_files =
        fix.new_files.iter().map(|it| JsonFile { path: report.new_path(&it.path), text: &it.text });
    JsonFix { safety, why, edits: edits.collect(), new_files: new_files.collect() }
}
