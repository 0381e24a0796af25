//! `gpupin scan --order`: what happens in a program, in the order that was derived for it.
//!
//! Findings about order are only as good as the order. Here a user sees it, with what each step does
//! to the environment and whether that takes effect, and can tell where gpupin went another way than
//! the program does.

use gpupin_lint::{
    program::{Happening, Kind, Moment, Program, Write},
    project::Project as Linted,
    source::Place,
    span::Span,
    unit::{Does, EventId, UnitId},
};
use serde::Serialize;

use crate::{project::Project, report::notebook};

mod effect;
mod text;
mod words;

pub(crate) use text::write;

/// Variables whose value at CUDA's start is told even when the program never sets them.
const TOLD: [&str; 2] = ["CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"];

/// The order of every program that starts in one file.
#[derive(Debug, Serialize)]
pub(crate) struct Order {
    version: u32,
    programs: Vec<ProgramOrder>,
}

#[derive(Debug, Serialize)]
struct ProgramOrder {
    entry: String,
    /// How it is started: as a script, through a function, by pytest.
    kind: String,
    /// Places of the project that start it.
    started_by: Vec<Location>,
    steps: Vec<Step>,
    /// What the environment is when somebody reads it.
    reads: Vec<Reading>,
}

/// A place in a file; with a cell, in that code cell of a notebook.
#[derive(Debug, Serialize)]
struct Location {
    path: String,
    line: u32,
    column: u32,
    cell: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Step {
    number: usize,
    #[serde(flatten)]
    at: Location,
    /// The line of the entry point that leads here, where that is another file.
    through: Option<u32>,
    /// Only on some ways through the program.
    conditional: bool,
    /// What happens.
    does: String,
    /// It changes the environment, so that the effect is one of its own.
    #[serde(skip)]
    is_change: bool,
    /// What becomes of it; `null` where there is nothing to tell.
    effect: Option<Effect>,
}

#[derive(Debug, Serialize)]
struct Effect {
    /// `null` if it depends on something that is not known.
    takes_effect: Option<bool>,
    why: String,
}

#[derive(Debug, Serialize)]
struct Reading {
    /// The step in which CUDA starts or a program is started; `null` at the end of the program.
    step: Option<usize>,
    /// `cuda`, `child` or `end`.
    by: &'static str,
    variables: Vec<Variable>,
}

#[derive(Debug, Serialize)]
struct Variable {
    name: String,
    /// What it may be.
    values: Vec<Written>,
    /// It may also be what the program inherited.
    inherited: bool,
}

#[derive(Debug, Serialize)]
struct Written {
    /// As text for people.
    value: String,
    step: Option<usize>,
    #[serde(flatten)]
    at: Location,
}

/// The order of the programs that start in the unit with this key; `None` if there is none.
pub(crate) fn order(linted: &Linted<'_>, project: &Project, key: &str) -> Option<Order> {
    let entry = |it: &&Program| linted.unit(it.entry).source.path == key;
    let programs = linted.programs.iter().filter(entry);
    let programs: Vec<_> =
        programs.map(|program| Derived { linted, project, program }.order()).collect();
    (!programs.is_empty()).then_some(Order { version: 1, programs })
}

/// The entry points of programs in which the unit with this key runs.
pub(crate) fn entries_that_run(linted: &Linted<'_>, key: &str) -> Vec<String> {
    let runs = |it: &&Program| it.units.iter().any(|unit| linted.unit(*unit).source.path == key);
    let entries = linted.programs.iter().filter(runs).map(|it| it.entry);
    entries.map(|it| linted.unit(it).source.path.clone()).collect()
}

/// A program, and what is needed to tell of it.
struct Derived<'a> {
    linted: &'a Linted<'a>,
    project: &'a Project,
    program: &'a Program,
}

impl Derived<'_> {
    fn order(&self) -> ProgramOrder {
        let program = self.program;
        let kind = match &program.kind {
            Kind::Script => "started as a program".to_owned(),
            Kind::Function(name) => format!("started through its function `{name}`"),
            Kind::Tests => "run by pytest".to_owned(),
            Kind::Module => {
                "a module that no entry point reaches, as if it were started itself".to_owned()
            }
        };
        let mut started_by: Vec<(UnitId, EventId)> = program.starters.clone();
        started_by.dedup();
        ProgramOrder {
            entry: self.project.shown(&self.linted.unit(program.entry).source.path),
            kind,
            started_by: started_by
                .into_iter()
                .map(|(unit, event)| self.of_event(unit, event))
                .collect(),
            steps: program
                .trace
                .iter()
                .zip(1..)
                .map(|(it, number)| self.step(it, number))
                .collect(),
            reads: program.moments.iter().map(|it| self.reading(it)).collect(),
        }
    }

    fn step(&self, happening: &Happening, number: usize) -> Step {
        let event = self.linted.event(happening.unit, happening.event);
        let is_elsewhere = happening.unit != self.program.entry;
        let through = self.location(self.program.entry, happening.via).line;
        Step {
            number,
            at: self.location(happening.unit, event.span),
            through: is_elsewhere.then_some(through),
            conditional: happening.conditional,
            does: words::does(self.linted, happening, event),
            is_change: matches!(
                event.does,
                Does::SetVariable(_) | Does::RemoveVariable(_) | Does::ReplaceEnvironment { .. }
            ),
            effect: self.effect(happening, number, &event.does),
        }
    }

    /// What somebody who reads the environment finds there.
    fn effect_of_reading(&self, happening: &Happening, number: usize) -> Option<Effect> {
        let by = Some((happening.unit, happening.event));
        let is_first = self.number(happening.unit, happening.event) == Some(number);
        let moment = self.program.moments.iter().find(|it| it.by == by).filter(|_| is_first)?;
        let reading = self.reading(moment);
        let matters = |it: &&Variable| self.matters(&it.name);
        let found: Vec<_> = reading.variables.iter().filter(matters).map(Variable::text).collect();
        let who = if reading.by == "cuda" { "CUDA reads" } else { "the program gets" };
        Some(Effect { takes_effect: None, why: format!("{who} {}", found.join(", ")) })
    }

    fn reading(&self, moment: &Moment) -> Reading {
        let mut names: Vec<&str> = moment.variables.keys().map(String::as_str).collect();
        names.extend(TOLD);
        names.sort_unstable();
        names.dedup();
        let variable = |name: &str| {
            let setting = moment.setting(name);
            let values = setting.writes.iter().map(|it| self.written(*it)).collect();
            Variable { name: name.to_owned(), values, inherited: setting.inherited }
        };
        Reading {
            step: moment.by.and_then(|(unit, event)| self.number(unit, event)),
            by: self.reader(moment),
            variables: names.into_iter().map(variable).collect(),
        }
    }

    /// Whether a variable is worth a word where somebody reads the environment.
    fn matters(&self, name: &str) -> bool {
        let declared = self.project.policy.env.contains_key(name);
        declared || TOLD.contains(&name) || name.ends_with("_ALLOC_CONF")
    }

    fn reader(&self, moment: &Moment) -> &'static str {
        let Some((unit, event)) = moment.by else { return "end" };
        match self.linted.event(unit, event).does {
            Does::Start(_) => "child",
            _ => "cuda",
        }
    }

    fn written(&self, write: Write) -> Written {
        let value =
            self.linted.written(write).map(|it| words::value(self.linted, write.unit, it.1));
        Written {
            value: value.unwrap_or_else(|| words::UNKNOWN.to_owned()),
            step: self.number(write.unit, write.event),
            at: self.location(write.unit, self.linted.write_span(write)),
        }
    }

    /// The step of an event, or where it stands if that is before the program.
    fn named_step(&self, unit: UnitId, event: EventId) -> String {
        self.number(unit, event).map_or_else(
            || {
                let Location { path, line, .. } = self.of_event(unit, event);
                format!("in `{path}`, line {line}")
            },
            |number| format!("in step {number}"),
        )
    }

    fn number(&self, unit: UnitId, event: EventId) -> Option<usize> {
        let mut trace = self.program.trace.iter();
        trace.position(|it| (it.unit, it.event) == (unit, event)).map(|it| it + 1)
    }

    fn of_event(&self, unit: UnitId, event: EventId) -> Location {
        self.location(unit, self.linted.event(unit, event).span)
    }

    fn location(&self, unit: UnitId, span: Span) -> Location {
        let source = &self.linted.unit(unit).source;
        let (place, cell) = match notebook::place(source, span.start) {
            Some(it) => (it.place, Some(it.number)),
            None => (source.place(span.start), None),
        };
        let Place { line, column } = place;
        Location { path: self.project.shown(&source.path), line, column, cell }
    }
}

impl Variable {
    /// `CUDA_VISIBLE_DEVICES=1`, or what else can be said of it.
    fn text(&self) -> String {
        let mut values: Vec<_> = self.values.iter().map(|it| it.value.clone()).collect();
        values.dedup();
        if self.inherited && !values.is_empty() {
            values.push("whatever was set from outside".to_owned());
        }
        match (values.is_empty(), self.inherited) {
            (true, true) => format!("`{}` as it was set from outside, if at all", self.name),
            (true, false) => format!("no `{}`", self.name),
            (false, _) => format!("`{}` = {}", self.name, values.join(" or ")),
        }
    }
}
