use std::io;

use crate::{report::Report, terminal::one_line};

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    for finding in report.findings() {
        let path = one_line(report.path(finding.unit));
        // A notebook's author knows cells and not the lines of the JSON around them.
        let (cell, place) = match report.cell(finding.unit, finding.span.start) {
            Some(cell) => (format!("cell {}:", cell.number), cell.place),
            None => (String::new(), report.range(finding.unit, finding.span).0),
        };
        let (line, column, code) = (place.line, place.column, finding.rule.code);
        let message = one_line(&finding.message);
        writeln!(out, "{path}:{cell}{line}:{column}: {code} {message}")?;
    }
    Ok(())
}
