//! A file's text.

use crate::span::Span;

/// A decoded file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the working directory, `/`-separated.
    pub path: String,
    pub language: Language,
    pub text: String,
    pub encoding: Encoding,
    /// Notebook code cells in order: the place in the file of each cell's `source`, for "cell 3, line 2".
    pub cells: Vec<Cell>,
}

/// A notebook's code cell.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Position among the code cells, from 1.
    pub number: u32,
    /// Place of the cell's `source` value in the file.
    pub span: Span,
    /// File offsets at which the cell's lines start.
    pub lines: Vec<u32>,
}

/// How bytes became text, so that edits can go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// A byte order mark was there and is not part of the text.
    pub byte_order_mark: bool,
    pub charset: Charset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    /// By an encoding comment or a byte order mark; the WHATWG name.
    Other(&'static str),
    /// UTF-8 by rule, but with bytes that are not: those became U+FFFD. Offsets differ from the file's.
    BrokenUtf8,
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    Python,
    Notebook,
    Shell,
    PowerShell,
    Batch,
    Dockerfile,
    Compose,
    Kubernetes,
    /// A GitHub or GitLab pipeline.
    Workflow,
    /// `.env` files.
    Dotenv,
    Systemd,
    Makefile,
    Ini,
    Toml,
    Json,
    Yaml,
}

/// A place for people: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Source {
    /// The place of a byte offset. An offset past the end is the end.
    pub fn place(&self, offset: u32) -> Place {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |it| it + 1);
        let line = before.bytes().filter(|it| *it == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let clamp = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Place { line: clamp(line), column: clamp(column) }
    }

    /// Where `text` stands in a span, if it does so once and as it is: not escaped, not put together.
    pub fn find_in(&self, span: Span, text: &str) -> Option<Span> {
        let mut hits = self.slice(span).match_indices(text).map(|it| it.0 + span.start as usize);
        let start = hits.next().filter(|_| !text.is_empty())?;
        hits.next().is_none().then(|| Span::new(start, start + text.len()))
    }

    /// The text of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }
}
