//! GitHub workflows and GitLab pipelines: jobs, their steps, and the scripts in them.

use super::{
    UnitBuilder, batch, command, compose,
    container::{self, Variable},
    lines::Joined,
    powershell, shell,
    yaml::{Id, Tree},
};
use crate::{
    span::Positions,
    unit::{Block, ContainerGpus, Does, Step},
    value::{Spanned, Value},
};

mod gitlab;
#[cfg(test)]
mod tests;

/// Reads a pipeline.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let tree = Tree::parse(text, at, out);
    let mut steps = Vec::new();
    for document in &tree.documents {
        if tree.get(*document, "jobs").is_some() || tree.get(*document, "runs").is_some() {
            github(&tree, *document, out, &mut steps);
        } else {
            gitlab::read(&tree, *document, out, &mut steps);
        }
    }
    Block(steps)
}

/// Which program reads a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Posix,
    Windows,
    Batch,
    /// Python or a program of its own: not read.
    Other,
}

impl Shell {
    fn named(name: &str) -> Self {
        match command::program_name(name.split_whitespace().next().unwrap_or_default()).as_str() {
            "bash" | "sh" | "zsh" => Self::Posix,
            "pwsh" | "powershell" => Self::Windows,
            "cmd" => Self::Batch,
            _ => Self::Other,
        }
    }

    fn read(self, text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
        match self {
            Self::Posix => shell::read(text, at, out),
            Self::Windows => powershell::read(text, at, out),
            Self::Batch => batch::read(text, at, out),
            Self::Other => Block::default(),
        }
    }
}

fn github(tree: &Tree<'_>, document: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    set(tree, document, "env", out, steps);
    let default = |id: Id| {
        tree.at_path(id, &["defaults", "run", "shell"])
            .and_then(|it| tree.text(it))
            .map(Shell::named)
    };
    let outer_shell = default(document);
    // A composite action is one job without a name.
    if let Some(runs) = tree.get(document, "runs") {
        github_steps(tree, runs, Shell::Posix, out, steps);
    }
    for (key, job) in tree.get(document, "jobs").map(|it| tree.entries(it)).unwrap_or_default() {
        let Some(name) = tree.text(key).map(str::to_owned) else { continue };
        let outer = out.enter_service(Some(name));
        let mut inner = Vec::new();
        container_gpus(tree, job, out, &mut inner);
        set(tree, job, "env", out, &mut inner);
        if let Some(container) = tree.get(job, "container") {
            set(tree, container, "env", out, &mut inner);
        }
        let runner = tree.get(job, "runs-on");
        let labels = runner.map(|it| {
            std::iter::once(&it)
                .chain(tree.items(it))
                .filter_map(|it| tree.text(*it))
                .any(|it| it.starts_with("windows"))
        });
        let native = if labels == Some(true) { Shell::Windows } else { Shell::Posix };
        let shell = default(job).or(outer_shell).unwrap_or(native);
        github_steps(tree, job, shell, out, &mut inner);
        out.enter_service(outer);
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
    }
}

fn github_steps(
    tree: &Tree<'_>,
    job: Id,
    shell: Shell,
    out: &mut UnitBuilder,
    steps: &mut Vec<Step>,
) {
    for step in tree.get(job, "steps").map(|it| tree.items(it)).unwrap_or_default() {
        let mut inner = Vec::new();
        set(tree, *step, "env", out, &mut inner);
        let named = tree.get(*step, "shell").and_then(|it| tree.text(it)).map(Shell::named);
        let mut later = Vec::new();
        if let Some(run) = tree.get(*step, "run") {
            let (text, at) = script(tree, &[run]);
            let body = named.unwrap_or(shell).read(&text, &at, out);
            inner.extend(body.0);
            later = persisted(&text, &at, out);
        }
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
        steps.append(&mut later);
    }
}

/// Sets the variables of a mapping for a job or step.
fn set(tree: &Tree<'_>, owner: Id, key: &str, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    let Some(environment) = tree.get(owner, key) else { return };
    for variable in compose::variables(tree, environment, out) {
        steps.push(container::set_in_container(variable, out));
    }
}

/// `container: {options: --gpus all}` and the same of `services`.
fn container_gpus(tree: &Tree<'_>, job: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    let mut containers = Vec::from_iter(tree.get(job, "container"));
    let services = tree.get(job, "services").map(|it| tree.entries(it)).unwrap_or_default();
    containers.extend(services.into_iter().map(|it| it.1));
    for container in containers {
        let Some(options) = tree.get(container, "options") else { continue };
        let words = compose::words(tree, options, out);
        let span = tree.span(options);
        if let Some(request) = container::requested(&words, out) {
            let service = out.service().unwrap_or_default().to_owned();
            let gpus = ContainerGpus { service, request, only_inspects: false, built_from: None };
            steps.push(out.event(span, Does::ContainerGpus(gpus)));
        }
    }
}

/// Scripts joined into one, one after the other, with expressions of the pipeline made something that shells read.
fn script(tree: &Tree<'_>, parts: &[Id]) -> (String, Positions) {
    let mut joined = Joined::default();
    for part in parts {
        let Some(text) = tree.text(*part) else { continue };
        let positions = tree.positions(*part);
        let mut offset = 0;
        while let Some(found) = text[offset..].find("${{") {
            let start = offset + found;
            let end = text[start..].find("}}").map_or(text.len(), |it| start + it + 2);
            joined.push(text, offset..start, &positions);
            // A variable of this name has no known value.
            joined.replace("${_}", start..end, &positions);
            offset = end;
        }
        joined.push(text, offset..text.len(), &positions);
        if !joined.text.ends_with('\n') {
            let end = text.len();
            joined.replace("\n", end..end, &positions);
        }
    }
    let positions = joined.positions();
    (joined.text, positions)
}

/// `echo "X=1" >> $GITHUB_ENV`: later steps have the variable.
fn persisted(text: &str, at: &Positions, out: &mut UnitBuilder) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let line_start = offset;
        offset += line.len();
        let Some((command, target)) = line.split_once(">>") else { continue };
        let written = command.trim().strip_prefix("echo").map(str::trim);
        let (Some(written), true) = (written, target.contains("GITHUB_ENV")) else { continue };
        let assignment = written.trim_matches(['"', '\'']);
        let Some((name, value)) = assignment.split_once('=') else { continue };
        if !command::is_variable_name(name) {
            continue;
        }
        let place = |part: &str| {
            let start = line_start + (part.as_ptr() as usize - line.as_ptr() as usize);
            at.span(start..start + part.len())
        };
        let known = if value.contains('$') { Value::Unknown } else { Value::Str(value.to_owned()) };
        let variable = Variable {
            span: place(assignment),
            name: name.to_owned(),
            name_span: place(name),
            value: Spanned::new(known, place(value)),
        };
        steps.push(container::set_in_container(variable, out));
    }
    steps
}
