//! Findings that were accepted when gpupin was introduced, so that only new ones count.
//!
//! A finding is recognised by its [`fingerprint`]: rule, path, the text of its statement with blanks
//! made equal, and its position among the findings with the same three. Lines that move, and edits
//! elsewhere, change nothing. SARIF and GitLab reports carry the same fingerprint.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::{Deserialize, Serialize};

use crate::{Analysis, finding::Finding, source::Source, span::Span, unit::Unit};

/// The version this program reads and writes.
pub const BASELINE_VERSION: u32 = 1;

/// Accepted findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    /// By fingerprint.
    accepted: BTreeMap<String, Accepted>,
}

/// What a reviewer of the file sees of an accepted finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub code: String,
    pub path: String,
    /// The statement, with blanks made equal.
    pub text: String,
}

/// Why a baseline could not be read. Without its path, which only the caller knows.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("not a baseline of gpupin")]
    Format(#[source] serde_json::Error),
    #[error(
        "version {version} of the baseline is unknown, this program reads version {BASELINE_VERSION}"
    )]
    Version { version: u32 },
}

/// Recognises a finding of [`analyze`](crate::analyze) after unrelated edits: 32 hexadecimal digits.
pub fn fingerprint(units: &[Unit], finding: &Finding) -> String {
    let source = &units[finding.unit.0 as usize].source;
    let mut hash = Fnv::new();
    hash.part(finding.rule.code);
    hash.part(&source.path);
    hash.part(&statement(source, finding.span));
    hash.part(&finding.occurrence.to_string());
    format!("{:032x}", hash.0)
}

impl Baseline {
    /// Accepts findings of [`analyze`](crate::analyze).
    pub fn of<'a>(units: &[Unit], findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        let accept = |it: &Finding| {
            let source = &units[it.unit.0 as usize].source;
            let accepted = Accepted {
                code: it.rule.code.to_owned(),
                path: source.path.clone(),
                text: statement(source, it.span),
            };
            (fingerprint(units, it), accepted)
        };
        Self { accepted: findings.into_iter().map(accept).collect() }
    }

    /// Reads the text of a baseline file.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        // The version first: another version may have other keys.
        let Version { version } = serde_json::from_str(text).map_err(BaselineError::Format)?;
        if version != BASELINE_VERSION {
            return Err(BaselineError::Version { version });
        }
        let document: Document = serde_json::from_str(text).map_err(BaselineError::Format)?;
        let accept =
            |it: Entry| (it.fingerprint, Accepted { code: it.code, path: it.path, text: it.text });
        Ok(Self { accepted: document.findings.into_iter().map(accept).collect() })
    }

    /// The text of the file. Its order is stable: by path, code and text.
    #[expect(clippy::missing_panics_doc, reason = "texts and numbers are always JSON")]
    pub fn render(&self) -> String {
        let mut findings: Vec<_> = self
            .accepted
            .iter()
            .map(|(fingerprint, it)| Entry {
                path: it.path.clone(),
                code: it.code.clone(),
                text: it.text.clone(),
                fingerprint: fingerprint.clone(),
            })
            .collect();
        findings.sort();
        let document = Document { version: BASELINE_VERSION, findings };
        let mut text = serde_json::to_string_pretty(&document).expect("texts and numbers are JSON");
        text.push('\n');
        text
    }

    /// Adds what an older baseline accepts, as far as this scan did not look for it.
    pub fn keep(&mut self, older: Self, was_looked_for: impl Fn(&Accepted) -> bool) {
        let kept = older.accepted.into_iter().filter(|it| !was_looked_for(&it.1));
        self.accepted.extend(kept);
    }

    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    /// Takes the accepted findings out of `analysis`.
    pub fn filter(&self, units: &[Unit], analysis: &mut Analysis) -> Filtered<'_> {
        let mut seen = BTreeSet::new();
        let (accepted, findings) =
            std::mem::take(&mut analysis.findings).into_iter().partition(|it| {
                let fingerprint = fingerprint(units, it);
                self.accepted.contains_key(&fingerprint) && seen.insert(fingerprint)
            });
        analysis.findings = findings;
        let gone = self.accepted.iter().filter(|it| !seen.contains(it.0)).map(|it| it.1).collect();
        Filtered { accepted, gone }
    }
}

/// What [`Baseline::filter`] took out, and what it did not find.
#[derive(Debug)]
pub struct Filtered<'a> {
    pub accepted: Vec<Finding>,
    /// No longer found: mended, or not looked for this time.
    pub gone: Vec<&'a Accepted>,
}

/// The lines of a span, with blanks made equal.
pub(crate) fn statement(source: &Source, span: Span) -> String {
    let (start, end) = (span.start as usize, span.end as usize);
    let before = source.text.get(..start).unwrap_or_default();
    let after = source.text.get(end..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |it| it + 1);
    // A span that ends with its line's break must not take the next line in.
    let ends_line = source.text.get(..end).is_some_and(|it| it.ends_with('\n'));
    let end = if ends_line { end } else { end + after.find('\n').unwrap_or(after.len()) };
    let lines = source.text.get(start..end.min(source.text.len())).unwrap_or_default();
    let mut text = String::new();
    for word in lines.split_whitespace() {
        let separator = if text.is_empty() { "" } else { " " };
        write!(text, "{separator}{word}").expect("a `String` takes everything");
    }
    text
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    findings: Vec<Entry>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    code: String,
    text: String,
    fingerprint: String,
}

/// FNV-1a with 128 bits. Fingerprints are stored, so the hash is part of the format and must not
/// change with a library.
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn part(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Baseline, BaselineError, fingerprint};
    use crate::{Analysis, rules::find, selection::Selection, tests::Case};

    const BEFORE: &str = "
//- run.sh
export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512
python train.py
export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512
export PYTORCH_CUDA_ALLOC_CONF=backend:foo
";

    fn analyze(fixture: &str) -> (Case, Analysis) {
        let case = Case::parse(fixture, "main.py");
        let analysis = case.analyze(&Selection::only(find("GP401")));
        (case, analysis)
    }

    /// How many findings of `after` are new, and how many accepted ones are gone.
    #[track_caller]
    fn check(after: &str, new: usize, gone: usize) {
        let (case, analysis) = analyze(BEFORE);
        assert_eq!(analysis.findings.len(), 3);
        let baseline = Baseline::of(&case.units, &analysis.findings);
        let read = Baseline::parse(&baseline.render()).unwrap();
        assert_eq!(read, baseline);
        let (case, mut analysis) = analyze(after);
        let filtered = read.filter(&case.units, &mut analysis);
        assert_eq!((analysis.findings.len(), filtered.gone.len()), (new, gone));
    }

    #[test]
    fn nothing_is_new_in_the_same_text() {
        check(BEFORE, 0, 0);
    }

    #[test]
    fn lines_may_move_and_be_indented() {
        check(
            "
//- run.sh
# a comment

if true; then
    export   PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512
fi
export PYTORCH_CUDA_ALLOC_CONF=backend:foo
export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512
",
            0,
            0,
        );
    }

    #[test]
    fn one_more_of_the_same_is_new() {
        check(&format!("{BEFORE}export PYTORCH_CUDA_ALLOC_CONF=backend:foo\n"), 1, 0);
    }

    #[test]
    fn what_was_mended_is_told() {
        check("\n//- run.sh\nexport PYTORCH_CUDA_ALLOC_CONF=backend:foo\n", 0, 2);
    }

    #[test]
    fn another_file_is_another_finding() {
        check(&BEFORE.replace("run.sh", "run2.sh"), 3, 3);
    }

    #[test]
    fn a_suppression_renumbers_nothing() {
        let (case, analysis) = analyze(BEFORE);
        let last = |case: &Case, analysis: &Analysis| {
            let mut same = analysis.findings.iter().filter(|it| it.message.contains("split"));
            fingerprint(&case.units, same.next_back().unwrap())
        };
        let before = last(&case, &analysis);
        // On a line of its own it covers the next one, the first of the two equal statements.
        let marked = BEFORE.replacen("export", "# gpupin: ignore[GP401] x\nexport", 1);
        let (case, analysis) = analyze(&marked);
        assert_eq!(analysis.suppressed.len(), 1);
        assert_eq!(before, last(&case, &analysis));
    }

    #[test]
    fn the_format_is_the_golden_file() {
        let golden = include_str!("../../../wire/baseline.json");
        let (case, analysis) = analyze(BEFORE);
        assert_eq!(Baseline::of(&case.units, &analysis.findings).render(), golden);
        assert_eq!(Baseline::parse(golden).unwrap().len(), 3);
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        let version = Baseline::parse("{\"version\": 2, \"results\": []}").unwrap_err();
        assert!(matches!(version, BaselineError::Version { version: 2 }));
        for text in
            ["", "{}", "[]", "{\"version\": 1}", "{\"version\": 1, \"findings\": [], \"x\": 1}"]
        {
            assert!(matches!(Baseline::parse(text), Err(BaselineError::Format(_))), "{text}");
        }
    }
}
