//! `IPython`: `%env X=1`, `!command`, `%%bash`.

use std::ops::Range;

use super::{
    Reader,
    syntax::{self, IpyEscapeKind, ast, range_of},
};
use crate::{
    language::{UnitBuilder, shell},
    span::Positions,
    unit::{Block, Does, Reach, SetHow, SetVariable, Step},
    value::{Spanned, Value},
};

/// What a cell's first line makes of it.
enum Cell {
    Python,
    /// From this place on, a shell script.
    Shell(usize),
    /// Another language, or a file to write.
    Foreign,
}

pub(super) fn read_cells(
    text: &str,
    cells: &[Range<usize>],
    positions: &Positions,
    out: &mut UnitBuilder,
) -> Block {
    // Cells of other languages become blank, so that places stay and no parser trips over them.
    let mut python = String::with_capacity(text.len());
    let mut scripts = Vec::new();
    let mut end = 0;
    for cell in cells {
        python.push_str(&text[end..cell.start]);
        let source = &text[cell.clone()];
        match kind(source) {
            Cell::Python => python.push_str(&without_cell_magic(source)),
            other => {
                if let Cell::Shell(start) = other {
                    scripts.push(cell.start + start..cell.end);
                }
                python.extend(std::iter::repeat_n(' ', source.len()));
            }
        }
        end = cell.end;
    }
    python.push_str(&text[end..]);

    let tree = syntax::parse_parts(&python, cells);
    let mut body = super::read_tree(&tree, &python, positions, out);
    for script in scripts {
        let positions = positions.part(script.start);
        let block = shell::read(&text[script], &positions, out);
        body.0.push(Step::Scope(block));
    }
    body
}

fn kind(source: &str) -> Cell {
    let Some(magic) = source.trim_start().strip_prefix("%%") else { return Cell::Python };
    let name: &str =
        magic.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap_or("");
    let first_line = magic.lines().next().unwrap_or("");
    match name {
        "bash" | "sh" | "shell" | "system" | "sx" => {
            Cell::Shell(source.find('\n').map_or(source.len(), |it| it + 1))
        }
        "script" if first_line.contains("sh") => {
            Cell::Shell(source.find('\n').map_or(source.len(), |it| it + 1))
        }
        "time" | "timeit" | "capture" | "prun" | "python" | "python3" | "memit" | "mprun"
        | "wandb" => Cell::Python,
        _ => Cell::Foreign,
    }
}

/// `%%time` and its kin stand above Python: the line becomes blank.
fn without_cell_magic(source: &str) -> String {
    let lead = source.len() - source.trim_start().len();
    if !source[lead..].starts_with("%%") {
        return source.to_owned();
    }
    let end = source[lead..].find('\n').map_or(source.len(), |it| lead + it);
    let blank = " ".repeat(end);
    format!("{blank}{}", &source[end..])
}

impl<'a> Reader<'a, '_> {
    pub(super) fn magic_line(&mut self, it: &'a ast::StmtIpyEscapeCommand, steps: &mut Vec<Step>) {
        self.escape(it.kind, &it.value, range_of(it), steps);
    }

    /// `files = !ls`.
    pub(super) fn magic_value(&mut self, it: &'a ast::ExprIpyEscapeCommand, steps: &mut Vec<Step>) {
        self.escape(it.kind, &it.value, range_of(it), steps);
    }

    fn escape(
        &mut self,
        kind: IpyEscapeKind,
        command: &str,
        range: Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let start = self.slice(range.clone()).find(command).map(|it| range.start + it);
        match kind {
            IpyEscapeKind::Shell | IpyEscapeKind::ShCap => {
                let positions = match start {
                    Some(start) => self.positions.part(start),
                    None => Positions::fixed(self.span(range)),
                };
                let block = shell::read(command, &positions, self.out);
                if !block.0.is_empty() {
                    steps.push(Step::Scope(block));
                }
            }
            IpyEscapeKind::Magic => self.line_magic(command, start, range, steps),
            _ => {}
        }
    }

    /// `%env X=1`, `%env X 1`, `%set_env X 1`.
    fn line_magic(
        &mut self,
        command: &str,
        start: Option<usize>,
        range: Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let Some((magic, rest)) = command.split_once([' ', '\t']) else { return };
        if !matches!(magic, "env" | "set_env") {
            return;
        }
        let assigned = rest.split_once('=').or_else(|| rest.trim().split_once([' ', '\t']));
        let Some((name, value)) = assigned else { return };
        let (name, value) = (name.trim(), value.trim());
        let place = |part: &str| {
            let offset = part.as_ptr() as usize - command.as_ptr() as usize;
            match start {
                Some(start) => self.span(start + offset..start + offset + part.len()),
                None => self.span(range.clone()),
            }
        };
        let set = SetVariable {
            name: name.to_owned(),
            name_span: place(name),
            value: Spanned::new(Value::Str(value.to_owned()), place(value)),
            how: SetHow::Assign,
            reach: Reach::Process,
        };
        self.emit(steps, range, Does::SetVariable(set));
    }
}
