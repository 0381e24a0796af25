use std::io;

use crate::report::Report;

/// How many findings each rule has, the most first.
pub(super) fn write(report: &Report<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let mut counts: Vec<_> = report.by_rule().into_values().collect();
    counts.sort_by_key(|it| (std::cmp::Reverse(it.findings), it.rule.code));
    let digits = counts.iter().map(|it| it.findings.to_string().len()).max().unwrap_or_default();
    let width = counts.iter().map(|it| it.rule.name.len()).max().unwrap_or_default();
    for count in counts {
        let (findings, files) = (count.findings, count.files);
        let (code, name) = (count.rule.code, count.rule.name);
        let many = if files == 1 { "" } else { "s" };
        writeln!(out, "{findings:digits$} × {code} {name:width$} in {files} file{many}")?;
    }
    Ok(())
}
