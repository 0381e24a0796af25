//! Taking statements out, with what they leave without a purpose.

use std::ops::Range;

use super::{Removable, Script};
use crate::{
    finding::Edit,
    fix::pin::{BEGIN, END},
    language::python::layout::{Import, Layout},
    project::Project,
    source::{Cell, Language},
    span::Span,
};

impl Script<'_> {
    /// Takes statements out. A block that would be empty goes too if nothing happens in it then; else `pass` remains. So
    /// does an import that nobody needs then. `others` are edits that are made beside.
    pub(in crate::fix) fn remove(
        &self,
        project: &Project<'_>,
        statements: &[Removable],
        others: &[Edit],
    ) -> Vec<Edit> {
        let mut gone: Vec<_> = statements.iter().map(|it| self.as_element(it)).collect();
        gone.sort_by_key(|it| it.lines.start);
        gone.dedup();
        let others: Vec<_> = others.iter().filter(|it| it.unit == self.unit).collect();
        let Some(layout) = &self.layout else {
            return runs(&gone).into_iter().map(|it| self.of_notebook(it, &others)).collect();
        };
        let stays = self.with_hollow(layout, &mut gone);
        gone.extend(self.idle_imports(project, layout, &gone, &others));
        gone.sort_by_key(|it| it.lines.start);
        let of_stay: Vec<_> =
            stays.iter().map(|it| self.edit(&it.statement.range, "pass")).collect();
        gone.retain(|it| !stays.contains(it));
        let lines = runs(&gone).into_iter().map(|Run { mut lines, comments }| {
            if comments.is_empty() {
                lines.end = self.without_double_blank(&lines);
            }
            self.edit(&lines, &comments)
        });
        of_stay.into_iter().chain(lines).collect()
    }

    fn edit(&self, range: &Range<usize>, text: &str) -> Edit {
        let span = Span::new(range.start, range.end);
        Edit { unit: self.unit, span, replacement: text.to_owned() }
    }

    /// Puts statements around emptied blocks in the place of what these held. What is to become `pass` is returned.
    fn with_hollow(&self, layout: &Layout, gone: &mut Vec<Removable>) -> Vec<Removable> {
        let mut stays: Vec<Removable> = Vec::new();
        loop {
            let is_emptied = |it: &&Removable| {
                let block = it.statement.block;
                let of_this = gone.iter().filter(|it| it.statement.block == block).count();
                it.statement.of_block == Some(of_this)
                    && stays.iter().all(|it| it.statement.block != block)
            };
            let Some(first) = gone.iter().find(is_emptied).cloned() else { return stays };
            let block = first.statement.block;
            let is_inside = |it: &&Removable| it.statement.block == block;
            let inside: Vec<_> = gone.iter().filter(is_inside).cloned().collect();
            let around = layout.hollow(block).and_then(|it| self.whole(it));
            match around.filter(|it| !self.keeps_comment(it, &inside)) {
                Some(around) => {
                    gone.retain(|it| it.statement.block != block);
                    gone.push(around);
                }
                None => stays.push(first),
            }
        }
    }

    /// Whether a statement has a comment that is not about what is taken out of it.
    fn keeps_comment(&self, around: &Removable, inside: &[Removable]) -> bool {
        let mut text = self.source.text[around.lines.clone()].to_owned();
        for it in inside.iter().rev() {
            let of_it = &it.lines;
            text.replace_range(
                of_it.start - around.lines.start..of_it.end - around.lines.start,
                "",
            );
        }
        text.contains('#') || inside.iter().any(|it| !it.comment.is_empty())
    }

    /// The imports that only what is taken out made use of.
    fn idle_imports(
        &self,
        project: &Project<'_>,
        layout: &Layout,
        gone: &[Removable],
        others: &[&Edit],
    ) -> Vec<Removable> {
        // A package gives its names to everybody.
        if self.source.path.ends_with("__init__.py") {
            return Vec::new();
        }
        let idle = |it: &&Import| self.is_idle(project, it, gone, others);
        let whole = layout.imports.iter().filter(idle).filter_map(|it| self.whole(&it.statement));
        // A comment may tell why it is there.
        let has_comment = |it: &Removable| self.source.text[it.lines.clone()].contains('#');
        whole.filter(|it| !has_comment(it)).collect()
    }

    fn is_idle(
        &self,
        project: &Project<'_>,
        import: &Import,
        gone: &[Removable],
        others: &[&Edit],
    ) -> bool {
        let text = &self.source.text;
        let name = &*import.name;
        let used = |text: &str| Layout::count(text, name);
        let in_gone: usize = gone.iter().map(|it| used(&text[it.lines.clone()])).sum();
        // A pin of gpupin's has an import of its own.
        let own = self.block(BEGIN, END).map_or(0, |it| used(&text[it]));
        let in_import = used(&text[import.statement.range.clone()]);
        let needs = |it: &&Edit| {
            used(&it.replacement) > 0
                && !it.replacement.contains(&format!("import {name}\n"))
                && !it.replacement.contains(&format!("import {name}\r\n"))
        };
        in_gone > 0
            && used(text) == in_gone + own + in_import
            && !others.iter().any(needs)
            && !is_taken_from(project, &self.source.path, name)
    }

    /// A statement that is the last one of a cell, with the quotes of its string.
    fn as_element(&self, it: &Removable) -> Removable {
        let text = &self.source.text;
        let Range { start, end } = it.lines;
        let is_last = self.layout.is_none()
            && !text[start..].starts_with('"')
            && text[end..].strip_prefix('"').is_some_and(|it| it.trim_start().starts_with(']'));
        let lines = if is_last { start - 1..end + 1 } else { start..end };
        Removable { lines, ..it.clone() }
    }

    /// Lines of a cell, in the list of its strings. The line that is the last one then has no line end, as Jupyter
    /// writes it.
    fn of_notebook(&self, run: Run, others: &[&Edit]) -> Edit {
        let text = &self.source.text;
        let Run { lines, comments } = run;
        let is_last = text[lines.end..].trim_start().starts_with(']');
        let cell = self.source.cells.iter().find(|it| it.span.range().contains(&lines.start));
        let Some(cell) = cell.filter(|_| is_last) else { return self.edit(&lines, &comments) };
        let whole = self.end_of_cell(cell, &lines);
        let is_free = |it: &&&Edit| {
            let other = it.span.range();
            other.end <= whole.start || other.start >= whole.end
        };
        if others.iter().filter(is_free).count() == others.len() {
            return self.edit(&whole, "");
        }
        // Another line goes in front: an empty string ends the list.
        let last = text[..lines.end].rfind('"').unwrap_or(lines.end);
        let first = lines.start + 1;
        self.edit(&(first..last.max(first)), "")
    }

    /// What is to be taken out of a list for its last strings to go.
    fn end_of_cell(&self, cell: &Cell, lines: &Range<usize>) -> Range<usize> {
        let text = &self.source.text;
        let list = cell.span.range();
        let mut start = lines.start;
        loop {
            let before = text[list.start..start].trim_end();
            let Some(before) = before.strip_suffix(',').map(str::trim_end) else {
                return list.start + 1..list.end - 1;
            };
            let close = list.start + before.len();
            // Blank lines do not end a cell.
            if before.ends_with("\"\\n\"") {
                start = close - "\"\\n\"".len();
                continue;
            }
            let escapes = before[..before.len() - 1]
                .strip_suffix('n')
                .map_or(0, |it| it.len() - it.trim_end_matches('\\').len());
            // The closing quote of the last string becomes that of this one.
            return if escapes % 2 == 1 { close - 3..lines.end - 1 } else { close..lines.end };
        }
    }
}

/// Lines that follow each other, and what is left of them.
struct Run {
    lines: Range<usize>,
    comments: String,
}

fn runs(gone: &[Removable]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for it in gone {
        match runs.last_mut() {
            Some(last) if last.lines.end == it.lines.start => {
                last.lines.end = it.lines.end;
                last.comments.push_str(&it.comment);
            }
            _ => runs.push(Run { lines: it.lines.clone(), comments: it.comment.clone() }),
        }
    }
    runs
}

/// Whether another file may take a name from a module: `from engine import os`, `engine.os`.
fn is_taken_from(project: &Project<'_>, path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let module = file.split('.').next().unwrap_or_default();
    let takes = |text: &str| {
        let mut imports = text.split("from ").skip(1).filter_map(|it| it.split_once(" import "));
        text.contains(&format!("{module}.{name}"))
            || imports.any(|(from, rest)| {
                let names = match rest.trim_start().strip_prefix('(') {
                    Some(rest) => rest.split(')').next(),
                    None => rest.lines().next(),
                };
                let names = names.unwrap_or_default();
                from.trim().rsplit('.').next() == Some(module)
                    && (names.contains('*') || Layout::count(names, name) > 0)
            })
    };
    let is_python = |it: Language| matches!(it, Language::Python | Language::Notebook);
    let mut sources = project.units.iter().map(|it| &it.source);
    sources.any(|it| is_python(it.language) && it.path != path && takes(&it.text))
}
