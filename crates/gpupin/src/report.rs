//! Findings in every output format.
//!
//! A format is one file with `fn write(&Report, out)`. [`Report`] answers what formats ask: where a
//! finding is, for people, and what it is called.

use std::{collections::BTreeMap, io};

use gpupin_lint::{
    Rule, baseline,
    finding::{Finding, Severity},
    source::{Place, Source},
    span::Span,
    unit::{Unit, UnitId},
};

use crate::{
    changes::Changed,
    project::Project,
    report::notebook::CellPlace,
    scan::{Problem, Scan},
};

mod concise;
mod full;
mod github;
mod gitlab;
mod json;
mod jsonl;
mod junit;
pub(crate) mod notebook;
mod sarif;
mod statistics;

/// How findings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// With source, related places, help and fix
    #[default]
    Full,
    /// One line each: `path:line:column: CODE message`
    Concise,
    /// One object, see `docs/reference/scan.schema.json`
    Json,
    /// One object per line
    Jsonl,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    /// A code quality report for GitLab
    Gitlab,
    /// JUnit XML
    Junit,
}

/// What the place where a report goes can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    /// In columns.
    pub(crate) width: usize,
}

impl Format {
    /// Made to be read, with a summary on standard error.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Full | Self::Concise)
    }
}

/// Findings, and what formats need to tell them.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    project: &'a Project,
    scan: &'a Scan,
    /// Findings that the baseline takes out.
    accepted: &'a [Finding],
    /// If only what a change answers for is reported.
    changed: Option<&'a Changed>,
    /// The units that findings speak of.
    places: BTreeMap<UnitId, Places>,
}

/// Where things are in one unit.
#[derive(Debug)]
struct Places {
    /// As shown to people.
    path: String,
    /// Offsets at which lines start.
    lines: Vec<u32>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(project: &'a Project, scan: &'a Scan, accepted: &'a [Finding]) -> Self {
        let mut places = BTreeMap::new();
        let analysis = &scan.analysis;
        for finding in analysis.findings.iter().chain(&analysis.suppressed).chain(accepted) {
            let related = finding.related.iter().map(|it| it.unit);
            let edited = finding.fix.iter().flat_map(|it| &it.edits).map(|it| it.unit);
            let units =
                related.chain(finding.programs.iter().copied()).chain(edited).chain([finding.unit]);
            for unit in units {
                let source = &scan.units[unit.0 as usize].source;
                places.entry(unit).or_insert_with(|| Places::new(source, project));
            }
        }
        Self { project, scan, accepted, changed: None, places }
    }

    /// Says that the findings are those that a change answers for.
    pub(crate) fn of_change(self, changed: Option<&'a Changed>) -> Self {
        Self { changed, ..self }
    }

    pub(crate) fn write(
        &self,
        format: Format,
        style: Style,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        match format {
            Format::Full => full::write(self, style, out),
            Format::Concise => concise::write(self, out),
            Format::Json => json::write(self, out),
            Format::Jsonl => jsonl::write(self, out),
            Format::Sarif => sarif::write(self, out),
            Format::Github => github::write(self, out),
            Format::Gitlab => gitlab::write(self, out),
            Format::Junit => junit::write(self, out),
        }
    }

    pub(crate) fn write_statistics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        statistics::write(self, out)
    }

    /// The findings that count, by path and place.
    pub(crate) fn findings(&self) -> &'a [Finding] {
        &self.scan.analysis.findings
    }

    /// Findings that a comment suppresses.
    fn suppressed(&self) -> &'a [Finding] {
        &self.scan.analysis.suppressed
    }

    /// Findings that the baseline takes out.
    fn accepted(&self) -> &'a [Finding] {
        self.accepted
    }

    /// Files that could not be read.
    fn problems(&self) -> &'a [Problem] {
        &self.scan.problems
    }

    /// How many files were scanned.
    pub(crate) fn files(&self) -> usize {
        self.scan.files
    }

    /// How many of them a change touches, if only that is reported.
    fn changed_files(&self) -> Option<usize> {
        self.changed.map(Changed::files)
    }

    /// How many programs were ordered.
    pub(crate) fn programs(&self) -> usize {
        self.scan.analysis.programs
    }

    pub(crate) fn files_with_findings(&self) -> usize {
        let mut units: Vec<_> = self.findings().iter().map(|it| it.unit).collect();
        units.dedup();
        units.len()
    }

    /// The rules that have findings, with how many, and in how many files.
    fn by_rule(&self) -> BTreeMap<&'static str, RuleCount> {
        let mut counts = BTreeMap::new();
        for finding in self.findings() {
            let count = counts.entry(finding.rule.code).or_insert(RuleCount {
                rule: finding.rule,
                findings: 0,
                files: 0,
                last: None,
            });
            count.findings += 1;
            // Findings come by file.
            if count.last.replace(finding.unit) != Some(finding.unit) {
                count.files += 1;
            }
        }
        counts
    }

    fn unit(&self, unit: UnitId) -> &'a Unit {
        &self.scan.units[unit.0 as usize]
    }

    /// The path of a file that is not there, as people would know it.
    fn new_path(&self, path: &str) -> String {
        self.project.shown(path)
    }

    /// A unit's path, as people know it.
    fn path(&self, unit: UnitId) -> &str {
        &self.places(unit).path
    }

    /// Where a span starts and ends. The end is the place behind the last character.
    fn range(&self, unit: UnitId, span: Span) -> (Place, Place) {
        let (places, source) = (self.places(unit), &self.unit(unit).source);
        (places.place(source, span.start), places.place(source, span.end))
    }

    /// Where a notebook's finding is for its author.
    fn cell(&self, unit: UnitId, offset: u32) -> Option<CellPlace> {
        notebook::place(&self.unit(unit).source, offset)
    }

    /// Recognises a finding after unrelated edits.
    fn fingerprint(&self, finding: &Finding) -> String {
        baseline::fingerprint(&self.scan.units, finding)
    }

    fn places(&self, unit: UnitId) -> &Places {
        self.places.get(&unit).expect("every unit that a finding speaks of was looked at")
    }
}

#[derive(Debug)]
struct RuleCount {
    rule: &'static Rule,
    findings: usize,
    files: usize,
    last: Option<UnitId>,
}

impl Places {
    fn new(source: &Source, project: &Project) -> Self {
        let breaks = source.text.bytes().enumerate().filter(|it| it.1 == b'\n');
        let starts = breaks.map(|it| it.0 + 1);
        let clamp = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        let lines = std::iter::once(0).chain(starts.map(clamp)).collect();
        Self { path: project.shown(&source.path), lines }
    }

    /// What [`Source::place`] says, without looking through the whole text each time.
    fn place(&self, source: &Source, offset: u32) -> Place {
        let mut offset = (offset as usize).min(source.text.len());
        while !source.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|it| *it as usize <= offset);
        let start = self.lines[line - 1] as usize;
        let column = source.text[start..offset].chars().count() + 1;
        let clamp = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Place { line: clamp(line), column: clamp(column) }
    }
}

/// The word for a severity, in every format of our own.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// The page of a rule on the web, if this build knows of a place for it.
pub(crate) fn url(rule: &Rule) -> Option<String> {
    let repository = env!("CARGO_PKG_REPOSITORY");
    let page = || format!("{repository}/blob/main/docs/reference/rules/{}.md", rule.name);
    (!repository.is_empty()).then(page)
}

/// Writes a document, indented for people who look at it.
pub(crate) fn write_json(
    document: &impl serde::Serialize,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}
