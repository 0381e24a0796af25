//! JUnit XML: a suite per file, a failed test per finding.
//!
//! There is no standard. The form is what Jenkins, GitLab and Azure read, and what `junit-10.xsd` of
//! the Jenkins plugin allows. A clean scan has one test that passed, because some readers take a
//! report without any for a broken one.

use std::{borrow::Cow, io};

use crate::report::{Report, severity};

pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let findings = report.findings();
    let problems = report.problems();
    let clean = usize::from(findings.is_empty() && problems.is_empty());
    let (failures, errors) = (findings.len(), problems.len());
    let tests = failures + errors + clean;
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        out,
        r#"<testsuites name="gpupin" tests="{tests}" failures="{failures}" errors="{errors}">"#
    )?;
    for file in findings.chunk_by(|a, b| a.unit == b.unit) {
        let path = report.path(file[0].unit);
        open_suite(out, path, file.len(), file.len(), 0)?;
        for finding in file {
            let place = report.range(finding.unit, finding.span).0;
            let cell = match report.cell(finding.unit, finding.span.start) {
                Some(cell) => format!("cell {}, line {}: ", cell.number, cell.place.line),
                None => String::new(),
            };
            let (code, message) = (finding.rule.code, escaped(&finding.message).into_owned());
            let (path, severity) = (escaped(path), severity(finding.severity));
            let (line, column) = (place.line, place.column);
            writeln!(
                out,
                r#"    <testcase classname="{path}" name="{code} at {line}:{column}">
      <failure type="{severity}" message="{message}">{path}:{line}:{column}: {cell}{code} {message}</failure>
    </testcase>"#
            )?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    for problem in problems {
        open_suite(out, &problem.path, 1, 0, 1)?;
        let (path, message) = (escaped(&problem.path), escaped(&problem.message));
        writeln!(
            out,
            r#"    <testcase classname="{path}" name="read">
      <error type="unreadable" message="{message}"/>
    </testcase>
  </testsuite>"#
        )?;
    }
    if clean == 1 {
        open_suite(out, "gpupin", 1, 0, 0)?;
        writeln!(out, r#"    <testcase classname="gpupin" name="scan"/>"#)?;
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn open_suite(
    out: &mut dyn io::Write,
    name: &str,
    tests: usize,
    failures: usize,
    errors: usize,
) -> io::Result<()> {
    let name = escaped(name);
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" errors="{errors}">"#
    )
}

/// Text for an attribute or an element. Characters XML cannot hold in any way become U+FFFD.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |it: char| {
        !matches!(it, '&' | '<' | '>' | '"' | '\'' | '\u{fffe}' | '\u{ffff}') && !it.is_control()
    };
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let escape = |mut escaped: String, it: char| {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // As they are, an attribute would have blanks instead.
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            it if is_plain(it) => escaped.push(it),
            _ => escaped.push(char::REPLACEMENT_CHARACTER),
        }
        escaped
    };
    Cow::Owned(text.chars().fold(String::new(), escape))
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn every_text_can_stand_in_xml() {
        for (text, expected) in [
            ("plain ü", "plain ü"),
            (r#"<a b="c" & 'd'>"#, "&lt;a b=&quot;c&quot; &amp; &apos;d&apos;&gt;"),
            ("a\nb\0\u{1b}\u{ffff}", "a&#10;b\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}
