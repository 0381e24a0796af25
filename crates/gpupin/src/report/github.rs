//! Annotations of GitHub Actions: commands that a job prints.
//!
//! <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>

use std::io;

use crate::report::{Report, severity};

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    for finding in report.findings() {
        let (start, end) = report.range(finding.unit, finding.span);
        let (command, path) = (severity(finding.severity), property(report.path(finding.unit)));
        let (code, name) = (finding.rule.code, finding.rule.name);
        let cell = match report.cell(finding.unit, finding.span.start) {
            Some(cell) => format!("cell {}, line {}: ", cell.number, cell.place.line),
            None => String::new(),
        };
        write!(out, "::{command} title=gpupin {code} {name},file={path},line={}", start.line)?;
        // Columns of a span over several lines are refused.
        if start.line == end.line {
            write!(out, ",col={},endColumn={}", start.column, end.column)?;
        }
        writeln!(out, ",endLine={}::{}", end.line, data(&format!("{cell}{}", finding.message)))?;
    }
    Ok(())
}

/// Text behind the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::property;

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
    }
}
