use std::io;

use annotate_snippets::normalize_untrusted_str;

use crate::report::Report;

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    for finding in report.findings() {
        let path = normalize_untrusted_str(report.path(finding.unit));
        // A notebook's author knows cells and not the lines of the JSON around them.
        let (cell, place) = match report.cell(finding.unit, finding.span.start) {
            Some(cell) => (format!("cell {}:", cell.number), cell.place),
            None => (String::new(), report.range(finding.unit, finding.span).0),
        };
        let (line, column, code) = (place.line, place.column, finding.rule.code);
        let message = normalize_untrusted_str(&finding.message);
        writeln!(out, "{path}:{cell}{line}:{column}: {code} {message}")?;
    }
    Ok(())
}
