use std::{fmt, ops::Range};

/// Something wrong in a TOML document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the document.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub kind: ProblemKind,
}

/// What is wrong in a TOML document. Keys are dotted paths from the root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    #[error("{message}")]
    Syntax { message: String },
    #[error("unknown key `{key}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey { key: String, suggestion: Option<String> },
    #[error("missing key `{key}`")]
    MissingKey { key: String },
    #[error("`{key}` is {found}, expected {expected}")]
    WrongType { key: String, found: &'static str, expected: String },
    #[error("`{key}` cannot be `{value}`: {reason}")]
    InvalidValue { key: String, value: String, reason: String },
    #[error(
        "`{key}` cannot be `{value}`: expected {expected}{}",
        did_you_mean(suggestion.as_deref())
    )]
    UnknownChoice { key: String, value: String, expected: String, suggestion: Option<String> },
    /// Values that are fine by themselves do not fit together.
    #[error("`{key}` {reason}")]
    Conflict { key: String, reason: String },
    /// An entry of `forbid` leaves no GPU that the project may run on.
    #[error("`{key}` forbids every GPU that `{wanted}` wants")]
    ForbidsWanted { key: String, wanted: String },
}

impl Problem {
    pub(crate) fn new(text: &str, span: Range<usize>, kind: ProblemKind) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |it| it + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            kind,
        }
    }
}

impl fmt::Display for Problem {
    /// `3:1: unknown key …`; a caller that knows the file puts its path and a colon in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.kind)
    }
}

pub(crate) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |it| format!(", did you mean `{it}`?"))
}

/// The candidate that `text` is most likely a misspelling of.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let normal = |text: &str| text.to_lowercase().replace('_', "-");
    let text = normal(text);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&text, &normal(candidate));
    let tolerated = (text.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
