//! Where statements stand in a file, for edits of whole lines.

use std::ops::Range;

use super::syntax::{self, Expr, Ranged as _, StatementVisitor, Stmt, range_of, walk_stmt};

mod needless;

/// The statements of a file that parses.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Where a line goes that is to run before anything else: behind the docstring and `__future__` imports; without
    /// these, behind the comment that the file begins with.
    /// None where other code stands on the same line.
    pub(crate) top: Option<usize>,
    statements: Vec<Statement>,
    /// Of each block the statement around it, where that does nothing once the block is empty.
    hollow: Vec<Option<usize>>,
    /// Imports of one name at the top level that do nothing but bind it.
    pub(crate) imports: Vec<Import>,
}

/// `import os`, `from os import environ`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) statement: Statement,
    pub(crate) name: String,
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
        let mut collect = Collect {
            text,
            statements: Vec::new(),
            hollow: vec![None],
            block: 0,
            of_block: None,
            around: None,
        };
        for statement in tree.statements() {
            collect.visit_stmt(statement);
        }
        let Collect { statements, hollow, .. } = collect;
        let imports = tree.statements().iter().filter_map(|it| {
            let name = needless::imported(it)?;
            let statement = Statement::of(it, 0, None);
            Some(Import { statement, name })
        });
        Some(Self {
            top: top(text, tree.statements()),
            imports: imports.collect(),
            statements,
            hollow,
        })
    }

    /// How often a name stands in a text, also in its comments; an attribute of that name is none.
    pub(crate) fn count(text: &str, name: &str) -> usize {
        needless::count(text, name)
    }

    /// The statement around a block, if it does nothing once that is empty.
    pub(crate) fn hollow(&self, block: usize) -> Option<&Statement> {
        self.hollow.get(block)?.map(|it| &self.statements[it])
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

impl Statement {
    fn of(statement: &Stmt, block: usize, of_block: Option<usize>) -> Self {
        Self { range: range_of(statement), block, of_block, is_plain: is_plain(statement) }
    }
}

struct Collect<'a> {
    text: &'a str,
    statements: Vec<Statement>,
    /// Of the blocks that were begun.
    hollow: Vec<Option<usize>>,
    block: usize,
    of_block: Option<usize>,
    /// The statement that is walked, and where it stands among all.
    around: Option<(&'a Stmt, usize)>,
}

impl<'a> StatementVisitor<'a> for Collect<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        let around = self.around.replace((statement, self.statements.len()));
        self.statements.push(Statement::of(statement, self.block, self.of_block));
        walk_stmt(self, statement);
        self.around = around;
    }

    fn visit_body(&mut self, body: &'a [Stmt]) {
        let outside = (self.block, self.of_block);
        let hollow = self.around.filter(|it| needless::without(it.0, body, self.text));
        (self.block, self.of_block) = (self.hollow.len(), Some(body.len()));
        self.hollow.push(hollow.map(|it| it.1));
        for statement in body {
            self.visit_stmt(statement);
        }
        (self.block, self.of_block) = outside;
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

    /// What of a text does nothing once `gone()` is taken out.
    #[track_caller]
    fn check_hollow(text: &str, expected: Option<&str>) {
        let layout = Layout::of(text).unwrap();
        let at = text.find("gone()").unwrap();
        let block = layout.around(&(at..at + 1)).unwrap().block;
        let hollow = layout.hollow(block).map(|it| &text[it.range.clone()]);
        assert_eq!(hollow, expected, "{text}");
    }

    #[test]
    fn a_block_goes_with_what_it_held_where_nothing_else_happens() {
        for whole in [
            "if a > 1 and not b:\n    gone()",
            "if os.environ.get('A', '') in (None, '') or len(sys.argv) > 1:\n    gone()",
            "if a:\n    gone()\nelif b:\n    pass\nelse:\n    pass",
            "if a:\n    pass\nelse:\n    gone()",
            "try:\n    gone()\nexcept KeyError:\n    pass",
            "with suppress(KeyError):\n    gone()",
            "with contextlib.suppress(KeyError, ValueError):\n    gone()",
            "for it in ('a', 'b'):\n    gone()",
        ] {
            check_hollow(&format!("{whole}\nx = 1\n"), Some(whole));
        }
        check_hollow("def f():\n    if a:\n        gone()\n", Some("if a:\n        gone()"));
    }

    #[test]
    fn a_block_stays_where_something_else_happens() {
        for whole in [
            "if f():\n    gone()",
            "if a.b:\n    gone()",
            "if a[0]:\n    gone()",
            "if (a := b):\n    gone()",
            "if __name__ == '__main__':\n    gone()",
            "if a:\n    gone()\nelse:\n    x = 2",
            "if a:\n    gone()\nelif f():\n    pass",
            "if a:\n    x = 2\nelse:\n    gone()",
            "try:\n    gone()\nexcept KeyError:\n    x = 2",
            "try:\n    gone()\nfinally:\n    x = 2",
            "try:\n    x = 2\nexcept KeyError:\n    gone()",
            "with open('a'):\n    gone()",
            "with suppress(KeyError) as x:\n    gone()",
            "for it in f():\n    gone()",
            "for x in (1, 2):\n    gone()",
            "while a:\n    gone()",
            "def f():\n    gone()",
            "class A:\n    gone()",
            "gone()",
        ] {
            check_hollow(&format!("{whole}\nx = 1\n"), None);
        }
    }

    #[test]
    fn only_imports_that_bind_one_name_of_the_standard_library_are_told() {
        let text = "import os\nfrom os import environ as env\nimport os.path\nimport os, sys\nimport torch\nfrom os import *\nif a:\n    import os\n";
        let layout = Layout::of(text).unwrap();
        let names: Vec<_> = layout.imports.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["os", "env"]);
    }
}
