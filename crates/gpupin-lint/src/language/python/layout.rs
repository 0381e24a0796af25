//! Where statements stand in a file, for edits of whole lines.

use std::ops::Range;

use super::syntax::{self, Expr, Ranged as _, StatementVisitor, Stmt, range_of, walk_stmt};

/// The statements of a file that parses.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Where a line goes that is to run before anything else: behind the docstring and `__future__` imports; without
    /// these, behind the comment that the file begins with.
    /// None where other code stands on the same line.
    pub(crate) top: Option<usize>,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) range: Range<usize>,
    /// Which block it stands in.
    pub(crate) block: usize,
    /// How many statements that block has, which cannot be left empty. A module can: none.
    pub(crate) of_block: Option<usize>,
    /// It does one thing and gives nothing to anybody: `x[…] = …`, `f(…)`, `del x[…]`.
    pub(crate) is_plain: bool,
}

impl Layout {
    /// `None` for a text with a syntax error.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let tree = syntax::parse(text);
        if tree.is_broken() {
            return None;
        }
        let mut collect = Collect { statements: Vec::new(), blocks: 0, block: 0, of_block: None };
        for statement in tree.statements() {
            collect.visit_stmt(statement);
        }
        Some(Self { top: top(text, tree.statements()), statements: collect.statements })
    }

    /// The innermost statement around a range.
    pub(crate) fn around(&self, range: &Range<usize>) -> Option<&Statement> {
        let around = |it: &&Statement| it.range.start <= range.start && range.end <= it.range.end;
        self.statements.iter().filter(around).min_by_key(|it| it.range.len())
    }
}

fn top(text: &str, statements: &[Stmt]) -> Option<usize> {
    let is_docstring =
        |it: &Stmt| matches!(it, Stmt::Expr(it) if it.value.is_string_literal_expr());
    let is_future = |it: &Stmt| matches!(it, Stmt::ImportFrom(it) if it.module.as_ref().is_some_and(|it| it == "__future__"));
    let opening = statements
        .iter()
        .enumerate()
        .take_while(|(at, it)| (*at == 0 && is_docstring(it)) || is_future(it))
        .last();
    let mut end = opening.map_or(0, |(_, it)| it.end().to_usize());
    if end == 0 {
        for line in text.split_inclusive('\n') {
            if !line.starts_with('#') {
                break;
            }
            end += line.len();
        }
        return Some(end);
    }
    let next = text[end..].find('\n').map_or(text.len(), |it| end + it + 1);
    let rest = text[end..next].trim();
    (rest.is_empty() || rest.starts_with('#')).then_some(next)
}

struct Collect {
    statements: Vec<Statement>,
    /// How many blocks were begun.
    blocks: usize,
    block: usize,
    of_block: Option<usize>,
}

impl<'a> StatementVisitor<'a> for Collect {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.statements.push(Statement {
            range: range_of(statement),
            block: self.block,
            of_block: self.of_block,
            is_plain: is_plain(statement),
        });
        walk_stmt(self, statement);
    }

    fn visit_body(&mut self, body: &'a [Stmt]) {
        let around = (self.block, self.of_block);
        self.blocks += 1;
        (self.block, self.of_block) = (self.blocks, Some(body.len()));
        for statement in body {
            self.visit_stmt(statement);
        }
        (self.block, self.of_block) = around;
    }
}

fn is_plain(statement: &Stmt) -> bool {
    match statement {
        Stmt::Assign(it) => matches!(&*it.targets, [Expr::Subscript(_)]),
        Stmt::AugAssign(_) => true,
        Stmt::Expr(it) => it.value.is_call_expr(),
        Stmt::Delete(it) => it.targets.len() == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    /// `|` is where the top is.
    #[track_caller]
    fn check_top(marked: &str) {
        let text = marked.replacen('|', "", 1);
        assert_eq!(Layout::of(&text).unwrap().top, marked.find('|'), "{marked}");
    }

    #[test]
    fn the_top_is_behind_what_must_come_first() {
        check_top("|");
        check_top("|import torch\n");
        check_top("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n|\nimport torch\n");
        check_top("\"\"\"Doc.\n\nMore.\n\"\"\"  # end\n|import torch\n");
        check_top("# licence\n'doc'\nfrom __future__ import annotations\n|\nimport torch\n");
        check_top("from __future__ import (\n    annotations,\n)\n|x = 1\n");
        check_top("|import a\n'no docstring'\n");
        check_top("'doc'; import torch\n");
    }

    #[test]
    fn a_statement_is_found_by_a_place_in_it() {
        let text = "def f():\n    x['a'] = g('b')\ny = 1\ndel x['a'], z\n";
        let layout = Layout::of(text).unwrap();
        let found = |part: &str| {
            let at = text.find(part).unwrap();
            let it = layout.around(&(at..at + part.len())).unwrap();
            (&text[it.range.clone()], it.of_block, it.is_plain)
        };
        assert_eq!(found("'b'"), ("x['a'] = g('b')", Some(1), true));
        assert_eq!(found("y"), ("y = 1", None, false));
        assert_eq!(found("z"), ("del x['a'], z", None, false));
        assert!(Layout::of("def f(:\n").is_none());
    }
}
