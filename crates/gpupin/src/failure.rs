//! How a command fails, as the user sees it.

use std::{fmt, process::ExitCode};

/// Exit codes. They are part of the interface, see `docs/reference/exit-codes.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Clean,
    Findings,
    Failed,
    NoGpu,
    Busy,
    Violation,
    /// What the program ended with that was run.
    Program(u8),
}

impl Exit {
    /// Every code with its meaning, for the reference.
    pub(crate) const ALL: &[(Self, &str)] = &[
        (Self::Clean, "Success: nothing was found, or everything asked for was done."),
        (
            Self::Findings,
            "Findings, or a check that does not hold. Also `gpupin lsp` that ends without the editor's `shutdown`.",
        ),
        (
            Self::Failed,
            "Usage or configuration error. Also a scan in which some files could not be read: it reports \
             what it found in the others.",
        ),
        (Self::NoGpu, "No GPU matches what was asked for."),
        (Self::Busy, "The lease was not had in time; trying again later may work."),
        (
            Self::Violation,
            "A program used a GPU that it must not use. Goes before every other code.",
        ),
    ];

    /// What follows the table in the reference.
    pub(crate) const OF_PROGRAMS: &str = "\
`gpupin run` otherwise ends with the code of the program that it ran: 126 if that could not be started, 127 if it was not found, 128+n if
signal n ended it. `gpupin verify` also ends with 128+n if signal n ended it.
";

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Failed => 2,
            Self::NoGpu => 3,
            Self::Busy => 75,
            Self::Violation => 76,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error, the exit code it leads to, and what the user can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new() }
    }

    /// A usage or configuration error that only this text describes.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, anyhow::anyhow!("{text}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The error, if it is of this kind.
    pub(crate) fn downcast<E: std::error::Error + Send + Sync + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// Text for the terminal: the error first, then its causes, then the hints.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (Part, String)> {
        let error = (Part::Error, self.error.to_string());
        let causes = self.error.chain().skip(1).map(|it| (Part::Cause, it.to_string()));
        let hints = self.hints.iter().map(|it| (Part::Hint, it.clone()));
        std::iter::once(error).chain(causes).chain(hints)
    }
}

/// What a line of a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Error,
    Cause,
    Hint,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn every_code_is_listed_once_in_order() {
        assert!(Exit::ALL.is_sorted_by(|a, b| a.0.code() < b.0.code()));
    }
}
