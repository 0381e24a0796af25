//! The parser, and the only module that names its crates: they promise no stable interface.

use std::ops::Range;

pub(super) use ruff_python_ast::{
    self as ast, BoolOp, CmpOp, ExceptHandler, Expr, FStringPart, InterpolatedStringElement,
    IpyEscapeKind, Number, Operator, Stmt, UnaryOp,
    statement_visitor::{StatementVisitor, walk_stmt},
    visitor::{Visitor, walk_expr},
};
use ruff_python_ast::{ModModule, token::TokenKind};
use ruff_python_parser::{Mode, ParseOptions, Parsed};
pub(super) use ruff_text_size::Ranged;
use ruff_text_size::{TextRange, TextSize};

/// A parsed text: a tree in any case, and what was wrong with it.
pub(super) struct Tree {
    parsed: Parsed<ModModule>,
}

pub(super) fn parse(text: &str) -> Tree {
    let parsed = ruff_python_parser::parse_unchecked(text, ParseOptions::from(Mode::Module))
        .try_into_module()
        .expect("a module mode gives a module");
    Tree { parsed }
}

/// Parses parts of a text, each for itself, so that a broken one does not swallow the next. Parts are
/// in order and one `\n` apart.
pub(super) fn parse_parts(text: &str, parts: &[Range<usize>]) -> Tree {
    let parts = parts.iter().map(range);
    let options = ParseOptions::from(Mode::Ipython);
    Tree { parsed: ruff_python_parser::parse_cells_unchecked(text, parts, &options) }
}

impl Tree {
    pub(super) fn statements(&self) -> &[Stmt] {
        self.parsed.suite()
    }

    /// Where and what, in order.
    pub(super) fn errors(&self) -> impl Iterator<Item = (Range<usize>, String)> {
        self.parsed.errors().iter().map(|it| (usizes(it.location), it.error.to_string()))
    }

    pub(super) fn is_broken(&self) -> bool {
        !self.parsed.errors().is_empty()
    }

    /// Comments, in order.
    pub(super) fn comments(&self) -> impl Iterator<Item = Range<usize>> {
        let tokens = self.parsed.tokens().iter();
        tokens.filter(|it| it.kind() == TokenKind::Comment).map(|it| usizes(it.range()))
    }

    /// Texts that go over several lines, in order.
    pub(super) fn texts_of_several_lines(&self) -> impl Iterator<Item = Range<usize>> {
        let tokens = self.parsed.tokens().iter();
        let texts = [TokenKind::String, TokenKind::FStringMiddle];
        tokens.filter(move |it| texts.contains(&it.kind())).map(|it| usizes(it.range()))
    }

    /// Logical lines, in order: from a statement's first token to the end of the line it ends on.
    pub(super) fn logical_lines(&self) -> Vec<Range<usize>> {
        let mut lines = Vec::new();
        let mut start = None;
        for token in self.parsed.tokens() {
            match token.kind() {
                TokenKind::Newline => {
                    if let Some(start) = start.take() {
                        lines.push(start..usizes(token.range()).start);
                    }
                }
                TokenKind::Comment
                | TokenKind::NonLogicalNewline
                | TokenKind::Indent
                | TokenKind::Dedent
                | TokenKind::EndOfFile => {}
                _ => {
                    start.get_or_insert(usizes(token.range()).start);
                }
            }
        }
        lines
    }
}

/// The byte range of a node.
pub(super) fn range_of(node: &impl Ranged) -> Range<usize> {
    usizes(node.range())
}

fn usizes(range: TextRange) -> Range<usize> {
    range.start().to_usize()..range.end().to_usize()
}

fn range(range: &Range<usize>) -> TextRange {
    let size = |at: usize| TextSize::new(u32::try_from(at).unwrap_or(u32::MAX));
    TextRange::new(size(range.start), size(range.end))
}
