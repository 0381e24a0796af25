use std::io;

use serde::Serialize;

use crate::report::{
    Report,
    json::{self, JsonFinding, Summary, VERSION},
};

/// A line: a finding, or at the end the summary.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Finding {
        version: u32,
        #[serde(flatten)]
        finding: Box<JsonFinding<'a>>,
    },
    Summary {
        version: u32,
        summary: Summary,
    },
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let findings = report
        .findings()
        .iter()
        .map(|it| Line::Finding { version: VERSION, finding: Box::new(json::finding(report, it)) });
    let summary = Line::Summary { version: VERSION, summary: json::summary(report) };
    for line in findings.chain([summary]) {
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    Ok(())
}
