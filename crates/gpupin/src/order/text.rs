use std::io;

use annotate_snippets::renderer::{AnsiColor, Style};

use crate::{
    order::{Location, Order, ProgramOrder, Step},
    terminal::{BOLD, DIM, ERROR, WARNING, one_line},
};

const GOOD: Style = AnsiColor::Green.on_default();

/// Tells the order to people.
pub(crate) fn write(order: &Order, colour: bool, out: &mut dyn io::Write) -> io::Result<()> {
    for (index, program) in order.programs.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_program(program, colour, out)?;
    }
    Ok(())
}

fn write_program(program: &ProgramOrder, colour: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let style = |it| if colour { it } else { Style::new() };
    let (bold, dim) = (style(BOLD), style(DIM));
    let entry = one_line(&program.entry);
    writeln!(out, "{bold}{entry}{bold:#}, {}", program.kind)?;
    if !program.started_by.is_empty() {
        let places: Vec<_> = program.started_by.iter().map(place).collect();
        writeln!(out, "started by {}", places.join(", "))?;
    }
    writeln!(out)?;
    let digits = program.steps.len().to_string().len();
    let indent = " ".repeat(digits + 2);
    for step in &program.steps {
        let through = match step.through {
            Some(line) => format!(", through line {line} of the program"),
            None => String::new(),
        };
        let sometimes = if step.conditional { ", on some ways only" } else { "" };
        writeln!(
            out,
            "{:digits$}. {bold}{}{bold:#} {dim}({}{through}{sometimes}){dim:#}",
            step.number,
            one_line(&step.does),
            place(&step.at),
        )?;
        if let Some(effect) = &step.effect {
            let (mark, sign) = mark(step);
            let mark = style(mark);
            let why = one_line(&effect.why);
            writeln!(out, "{indent}{mark}{sign}{mark:#} {why}")?;
        }
    }
    if program.steps.is_empty() {
        writeln!(out, "nothing in it has to do with a GPU")?;
    }
    let started = program.reads.iter().any(|it| it.by == "cuda");
    if let Some(end) = program.reads.iter().rfind(|it| it.by == "end").filter(|_| !started) {
        let set = end.variables.iter().filter(|it| !it.values.is_empty());
        let set: Vec<_> = set.map(super::Variable::text).collect();
        if !set.is_empty() {
            writeln!(out, "\nat the end {}; nothing was seen that starts CUDA", set.join(", "))?;
        }
    }
    Ok(())
}

/// A sign and its colour; the sign alone tells.
fn mark(step: &Step) -> (Style, &'static str) {
    match step.effect.as_ref().map(|it| it.takes_effect) {
        Some(Some(true)) => (GOOD, "takes effect:"),
        Some(Some(false)) => (ERROR, "does nothing:"),
        Some(None) if step.is_change => (WARNING, "perhaps:"),
        _ => (Style::new(), "->"),
    }
}

fn place(location: &Location) -> String {
    let Location { path, line, column, cell } = location;
    let cell = cell.map_or_else(String::new, |it| format!("cell {it}:"));
    format!("{}:{cell}{line}:{column}", one_line(path))
}
