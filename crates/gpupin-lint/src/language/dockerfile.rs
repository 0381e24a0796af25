//! Dockerfiles: each stage is a container with its variables, what its build runs, and what it starts.

use std::collections::HashMap;

use super::{
    UnitBuilder,
    command::{self, Command, is_variable_name},
    container::{self, Variable},
    interpolate::interpolate,
    json,
    lines::{Continuation, Line, lines},
    shell, suppress,
};
use crate::{
    span::{Positions, Span},
    unit::{Block, ContainerGpus, Does, Step},
    value::{Spanned, Value},
};

mod heredoc;
#[cfg(test)]
mod tests;

use heredoc::Body;

/// Reads a Dockerfile.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let bodies = heredoc::bodies(text);
    let inside = |offset: usize| {
        let behind = bodies.partition_point(|it| it.whole.start <= offset);
        behind > 0 && bodies[behind - 1].whole.contains(&offset)
    };
    out.suppressions(suppress::scan(text, at, &["#"], inside));
    // Windows images name another mark: `# escape=` and a grave accent.
    let windows =
        text.lines().take(3).any(|it| it.replace(' ', "").eq_ignore_ascii_case("#escape=`"));
    let mark = if windows { '`' } else { '\\' };
    let how = Continuation { mark, skips_comments: true, kept: false };
    let file = out.source().path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut reader = Reader {
        text,
        at,
        file,
        stage: Stage::default(),
        stages: HashMap::new(),
        arguments: HashMap::new(),
        steps: Vec::new(),
    };
    let outer = out.enter_service(None);
    for line in lines(text, at, how) {
        if !inside(line.range.start) {
            reader.instruction(&line, &bodies, out);
        }
    }
    reader.finish_stage(out);
    out.enter_service(outer);
    Block(reader.steps)
}

/// How many settings a stage hands to those built on it, so that long chains of stages stay short work.
const HANDED_ON: usize = 500;

struct Reader<'a> {
    text: &'a str,
    at: &'a Positions,
    file: String,
    stage: Stage,
    /// What a stage hands to those that build on it, by its name.
    stages: HashMap<String, Stage>,
    /// Defaults of `ARG`.
    arguments: HashMap<String, Spanned>,
    steps: Vec<Step>,
}

#[derive(Default, Clone)]
struct Stage {
    name: Option<String>,
    /// Settings, as a stage built on this one has them too.
    settings: Vec<Step>,
    /// Settings and what the build runs, in order.
    steps: Vec<Step>,
    entry_point: Option<Run>,
    command: Option<Run>,
    directory: String,
}

/// `CMD` or `ENTRYPOINT`.
#[derive(Clone)]
enum Run {
    /// `["python", "x.py"]`
    Words(Vec<Spanned>),
    /// A line for a shell.
    Shell(String, Positions),
}

impl Reader<'_> {
    fn instruction(&mut self, line: &Line, bodies: &[Body], out: &mut UnitBuilder) {
        let body = line.text.trim_start();
        let (mut name, mut rest) = first_word(body);
        if name.eq_ignore_ascii_case("ONBUILD") {
            (name, rest) = first_word(rest);
        }
        match &*name.to_ascii_uppercase() {
            "FROM" => self.from(rest, out),
            "ARG" => self.argument(line, rest, out),
            "ENV" => self.variables(line, rest, out),
            "WORKDIR" => rest.trim().trim_end_matches('/').clone_into(&mut self.stage.directory),
            "RUN" => {
                let body =
                    bodies.get(bodies.partition_point(|it| it.whole.start <= line.range.start));
                let body = body.filter(|_| rest.contains("<<"));
                self.run(line, rest, body, out);
            }
            "CMD" => self.stage.command = Some(exec_or_shell(line, rest, out)),
            "ENTRYPOINT" => {
                self.stage.entry_point = Some(exec_or_shell(line, rest, out));
                // An entry point of its own makes the base's command void.
                self.stage.command = None;
            }
            _ => {}
        }
    }

    fn from(&mut self, rest: &str, out: &mut UnitBuilder) {
        self.finish_stage(out);
        let words: Vec<&str> = rest.split_whitespace().filter(|it| !it.starts_with("--")).collect();
        let name = match &*words {
            [_, keyword, name, ..] if keyword.eq_ignore_ascii_case("as") => {
                Some((*name).to_owned())
            }
            _ => None,
        };
        self.stage = words.first().and_then(|it| self.stages.get(*it)).cloned().unwrap_or_default();
        self.stage.steps = self.stage.settings.clone();
        self.stage.name.clone_from(&name);
        out.enter_service(Some(name.unwrap_or_else(|| self.file.clone())));
    }

    fn finish_stage(&mut self, out: &mut UnitBuilder) {
        let mut stage = std::mem::take(&mut self.stage);
        if let Some(name) = &stage.name {
            let kept = Stage { steps: Vec::new(), ..stage.clone() };
            self.stages.insert(name.clone(), kept);
        }
        let mut steps = std::mem::take(&mut stage.steps);
        match (stage.entry_point, stage.command) {
            (Some(Run::Words(mut words)), Some(Run::Words(more))) => {
                words.extend(more);
                steps.extend(start(words, &stage.directory, out));
            }
            (Some(run), _) | (None, Some(run)) => match run {
                Run::Words(words) => steps.extend(start(words, &stage.directory, out)),
                Run::Shell(text, positions) => {
                    steps.extend(shell::read(&text, &positions, out).0);
                }
            },
            (None, None) => {}
        }
        if !steps.is_empty() {
            self.steps.push(Step::Scope(Block(steps)));
        }
    }

    fn argument(&mut self, line: &Line, rest: &str, out: &UnitBuilder) {
        for variable in assignments(line, rest, out) {
            self.arguments.insert(variable.name, variable.value);
        }
    }

    fn variables(&mut self, line: &Line, rest: &str, out: &mut UnitBuilder) {
        for mut variable in assignments(line, rest, out) {
            variable.value = interpolate(variable.value, out);
            // `ENV X=$X` after `ARG X=0`: who builds the image may say otherwise.
            if let Value::Variable(name) = &variable.value.value
                && let Some(default) = self.arguments.get(name)
            {
                variable.value.value = Value::ByDefault(Box::new(default.clone()));
            }
            let mut found = Vec::new();
            if variable.name == "NVIDIA_VISIBLE_DEVICES"
                && let Some(request) = container::visible_devices(&variable.value, out)
            {
                let service = out.service().unwrap_or(&self.file).to_owned();
                let gpus =
                    ContainerGpus { service, request, only_inspects: false, built_from: None };
                found.push(out.event(variable.span, Does::ContainerGpus(gpus)));
            }
            found.push(container::set_in_container(variable, out));
            if self.stage.settings.len() < HANDED_ON {
                self.stage.settings.extend(found.iter().cloned());
            }
            self.stage.steps.extend(found);
        }
    }

    fn run(&mut self, line: &Line, rest: &str, body: Option<&Body>, out: &mut UnitBuilder) {
        let mut rest = rest;
        while rest.starts_with("--") {
            rest = first_word(rest).1;
        }
        let block = if let Some(body) = body {
            let text = &self.text[body.text.clone()];
            shell::read(text, &self.at.part(body.text.start), out)
        } else {
            match exec_or_shell(line, rest, out) {
                Run::Words(words) => Block(start(words, &self.stage.directory, out)),
                Run::Shell(text, positions) => shell::read(&text, &positions, out),
            }
        };
        if !block.0.is_empty() {
            self.stage.steps.push(Step::Scope(block));
        }
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find([' ', '\t', '\n', '\r']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn start(words: Vec<Spanned>, directory: &str, out: &mut UnitBuilder) -> Vec<Step> {
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return Vec::new() };
    let (from, to) = (first.span.start.min(last.span.start), first.span.end.max(last.span.end));
    let mut command = Command::new(Span { start: from, end: to }, words);
    directory.clone_into(&mut command.directory);
    command::run(command, out)
}

/// The exec form is JSON; whatever is not JSON is for the shell.
fn exec_or_shell(line: &Line, rest: &str, out: &UnitBuilder) -> Run {
    let start = rest.as_ptr() as usize - line.text.as_ptr() as usize;
    let positions = line.positions.part(start);
    if rest.starts_with('[')
        && let Some(words) = json::string_list(rest, &positions)
    {
        return Run::Words(words.into_iter().map(|it| interpolate(it, out)).collect());
    }
    Run::Shell(rest.to_owned(), positions)
}

/// `A=1 B="2 3"`, or the old form `A everything behind`.
fn assignments(line: &Line, rest: &str, out: &UnitBuilder) -> Vec<Variable> {
    let (name, value) = first_word(rest);
    if is_variable_name(name) && !value.is_empty() && !value.starts_with('=') {
        let value = value.trim_end();
        let plain = value.trim_matches('"').to_owned();
        return vec![Variable {
            span: line.span_of(rest.trim_end()),
            name: name.to_owned(),
            name_span: line.span_of(name),
            value: Spanned::new(Value::Str(plain), line.span_of(value)),
        }];
    }
    let start = rest.as_ptr() as usize - line.text.as_ptr() as usize;
    let words = command::split(rest, &line.positions.part(start));
    // `ARG X` names no value.
    let has_value = |it: &Spanned| command::text(it).is_some_and(|it| it.contains('='));
    words.iter().filter(|it| has_value(it)).filter_map(|it| Variable::in_word(it, out)).collect()
}
