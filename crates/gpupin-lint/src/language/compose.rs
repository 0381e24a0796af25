//! Compose files: each service is a program of its own, with the GPUs, variables and command it gets.

use std::collections::HashMap;

use super::{
    UnitBuilder,
    command::{self, Command, split},
    container::{self, Variable},
    interpolate::interpolate,
    yaml::{Id, Tree},
};
use crate::{
    project::modules::{join, normal},
    span::{Positions, Span},
    unit::{Block, ChildEnvironment, ContainerGpus, Does, GpuRequest, Runs, Step},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a compose file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let tree = Tree::parse(text, at, out);
    let mut steps = Vec::new();
    for services in tree.documents.iter().filter_map(|it| tree.get(*it, "services")) {
        let entries = tree.entries(services);
        let by_name: HashMap<&str, Id> =
            entries.iter().filter_map(|it| Some((tree.text(it.0)?, it.1))).collect();
        for (key, body) in entries {
            let Some(name) = tree.text(key).map(str::to_owned) else { continue };
            let outer = out.enter_service(Some(name.clone()));
            let service = Service { tree: &tree, bodies: with_bases(&tree, &by_name, body), name };
            let inner = service.read(tree.entry_span(key, key), out);
            out.enter_service(outer);
            if !inner.is_empty() {
                steps.push(Step::Scope(Block(inner)));
            }
        }
    }
    Block(steps)
}

/// A service's body and those it extends in the same file, nearest first.
fn with_bases(tree: &Tree<'_>, services: &HashMap<&str, Id>, body: Id) -> Vec<Id> {
    let mut bodies = vec![body];
    while bodies.len() < 8 {
        let Some(extends) = bodies.last().and_then(|it| tree.get(*it, "extends")) else { break };
        // What another file defines is read there.
        if tree.get(extends, "file").is_some() {
            break;
        }
        let name = tree.text(extends).or_else(|| tree.text(tree.get(extends, "service")?));
        let Some(base) = name.and_then(|it| services.get(it).copied()) else { break };
        if bodies.contains(&base) {
            break;
        }
        bodies.push(base);
    }
    bodies
}

struct Service<'a> {
    tree: &'a Tree<'a>,
    bodies: Vec<Id>,
    name: String,
}

impl Service<'_> {
    fn get(&self, key: &str) -> Option<Id> {
        self.bodies.iter().find_map(|it| self.tree.get(*it, key))
    }

    fn entry(&self, key: &str) -> Option<(Id, Id)> {
        self.bodies.iter().find_map(|it| self.tree.entry(*it, key))
    }

    fn read(&self, name_span: Span, out: &mut UnitBuilder) -> Vec<Step> {
        let mut steps = Vec::new();
        let variables = self.variables(out);
        let words = self.words(out);
        if let Some((span, request)) = self.request(&variables, out) {
            let only_inspects = container::only_inspects(&words);
            let gpus = ContainerGpus {
                service: self.name.clone(),
                request,
                only_inspects,
                built_from: self.dockerfile(),
            };
            steps.push(out.event(span, Does::ContainerGpus(gpus)));
        }
        if let Some((key, files)) = self.entry("env_file") {
            self.load(key, files, out, &mut steps);
        }
        for variable in variables {
            steps.push(container::set_in_container(variable, out));
        }
        if let (Some(first), Some(last)) = (words.first(), words.last()) {
            let span = if first.span.start <= last.span.end {
                first.span.cover(last.span)
            } else {
                first.span
            };
            let directory = self.get("working_dir").and_then(|it| self.tree.text(it));
            let command = Command {
                span,
                words,
                environment: ChildEnvironment::Inherited(Vec::new()),
                directory: directory.unwrap_or_default().trim_end_matches('/').to_owned(),
            };
            steps.extend(command::run(command, out));
        } else if !steps.is_empty() {
            // The image's own command.
            let runs = self.dockerfile().map_or(Runs::Unknown, Runs::Script);
            steps.push(container::start_image(name_span, runs, out));
        }
        steps
    }

    /// The Dockerfile that the image is built from: `build: tts`, `build: {context: tts, dockerfile: gpu.Dockerfile}`.
    fn dockerfile(&self) -> Option<String> {
        let build = self.get("build")?;
        let part = |key| self.tree.get(build, key).and_then(|it| self.tree.text(it));
        let context = self.tree.text(build).or_else(|| part("context")).unwrap_or(".");
        let file = part("dockerfile").unwrap_or("Dockerfile");
        Some(normal(&join(context.trim_end_matches('/'), file)))
    }

    fn load(&self, key: Id, files: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
        let list: Vec<Id> = match self.tree.items(files) {
            [] => vec![files],
            items => items.to_vec(),
        };
        for file in list {
            let path =
                self.tree.text(file).or_else(|| self.tree.text(self.tree.get(file, "path")?));
            if let Some(path) = path {
                let file = Some(path.strip_prefix("./").unwrap_or(path).to_owned());
                let span = self.tree.entry_span(key, files);
                steps.push(out.event(span, Does::LoadVariables { file, overrides: true }));
            }
        }
    }

    fn variables(&self, out: &UnitBuilder) -> Vec<Variable> {
        let mut found: Vec<Variable> = Vec::new();
        for body in &self.bodies {
            let Some(environment) = self.tree.get(*body, "environment") else { continue };
            for variable in variables(self.tree, environment, out) {
                if !found.iter().any(|it| it.name == variable.name) {
                    found.push(variable);
                }
            }
        }
        found
    }

    /// The entry point and command, as words.
    fn words(&self, out: &UnitBuilder) -> Vec<Spanned> {
        let part = |key| self.get(key).map(|it| words(self.tree, it, out)).unwrap_or_default();
        let mut words = part("entrypoint");
        words.extend(part("command"));
        words
    }

    fn request(&self, variables: &[Variable], out: &UnitBuilder) -> Option<(Span, GpuRequest)> {
        let reserved = self.bodies.iter().find_map(|it| {
            self.tree.at_path(*it, &["deploy", "resources", "reservations", "devices"])
        });
        for device in reserved.map(|it| self.tree.items(it)).unwrap_or_default() {
            if self.is_gpu(*device) {
                return Some(self.device(*device, out));
            }
        }
        if let Some((key, gpus)) = self.entry("gpus") {
            let span = self.tree.entry_span(key, gpus);
            return match self.tree.items(gpus) {
                [first, ..] => Some(self.device(*first, out)),
                [] => Some((span, count(&self.tree.value(gpus))?)),
            };
        }
        if let Some((key, devices)) = self.entry("devices") {
            let ids: Vec<Spanned> =
                self.tree.items(devices).iter().filter_map(|it| self.cdi(*it, out)).collect();
            if !ids.is_empty() {
                let all = ids.iter().any(|it| command::text(it) == Some("all"));
                let span = self.tree.entry_span(key, devices);
                return Some((span, if all { GpuRequest::All } else { GpuRequest::Ids(ids) }));
            }
        }
        if let Some(visible) = variables.iter().find(|it| it.name == "NVIDIA_VISIBLE_DEVICES") {
            return Some((visible.span, container::visible_devices(&visible.value, out)?));
        }
        let (key, runtime) = self.entry("runtime")?;
        (self.tree.text(runtime) == Some("nvidia"))
            .then(|| (self.tree.entry_span(key, runtime), GpuRequest::RuntimeOnly))
    }

    fn is_gpu(&self, device: Id) -> bool {
        let capabilities = self.tree.get(device, "capabilities");
        let items = capabilities.map(|it| self.tree.items(it)).unwrap_or_default();
        // `capabilities: [[gpu]]` is an older spelling.
        let mut texts = items
            .iter()
            .flat_map(|it| std::iter::once(it).chain(self.tree.items(*it)))
            .filter_map(|it| self.tree.text(*it));
        texts.any(|it| it == "gpu" || it.starts_with("nvidia"))
            || self.tree.get(device, "driver").and_then(|it| self.tree.text(it)) == Some("nvidia")
    }

    /// What a device reservation asks for. Neither a count nor ids means all of them.
    fn device(&self, device: Id, out: &UnitBuilder) -> (Span, GpuRequest) {
        if let Some((key, ids)) = self.tree.entry(device, "device_ids") {
            let ids = self.tree.items(ids).iter().filter_map(|it| self.tree.string(*it));
            let ids = ids.map(|it| interpolate(it, out)).collect();
            let list = self.tree.get(device, "device_ids").unwrap_or(key);
            return (self.tree.entry_span(key, list), GpuRequest::Ids(ids));
        }
        if let Some((key, value)) = self.tree.entry(device, "count")
            && let Some(request) = count(&interpolate(self.tree.value(value), out))
        {
            return (self.tree.entry_span(key, value), request);
        }
        (self.tree.span(device), GpuRequest::All)
    }

    /// `nvidia.com/gpu=0`.
    fn cdi(&self, item: Id, out: &UnitBuilder) -> Option<Spanned> {
        let word = self.tree.string(item)?;
        let id = command::text(&word)?.strip_prefix("nvidia.com/gpu=")?.to_owned();
        let span = command::part(&word, &id, out);
        Some(Spanned::new(Value::Str(id), span))
    }
}

fn count(value: &Spanned) -> Option<GpuRequest> {
    match &value.value {
        Value::Int(-1) => Some(GpuRequest::All),
        Value::Int(number) => Some(GpuRequest::Count(*number)),
        Value::Str(text) if text == "all" => Some(GpuRequest::All),
        Value::Str(text) => text.parse().ok().map(GpuRequest::Count),
        Value::ByDefault(default) => count(default),
        _ => None,
    }
}

/// `environment:` as a mapping or as a list of `NAME=value`.
pub(super) fn variables(tree: &Tree<'_>, environment: Id, out: &UnitBuilder) -> Vec<Variable> {
    let mut found = Vec::new();
    for item in tree.items(environment) {
        let Some(word) = tree.string(*item) else { continue };
        let Some(mut variable) = Variable::in_word(&word, out) else { continue };
        variable.value = interpolate(variable.value, out);
        found.push(variable);
    }
    for (key, value) in tree.entries(environment) {
        let Some(name) = tree.text(key).map(str::to_owned) else { continue };
        let (span, name_span) = (tree.entry_span(key, value), tree.span(key));
        let value = match tree.string(value) {
            Some(value) => interpolate(value, out),
            None => Spanned::new(Value::Variable(name.clone()), name_span),
        };
        found.push(Variable { span, name, name_span, value });
    }
    found
}

/// A command as a list of words or as one text that is split without a shell.
pub(super) fn words(tree: &Tree<'_>, command: Id, out: &UnitBuilder) -> Vec<Spanned> {
    let words = if tree.is_sequence(command) {
        tree.items(command).iter().filter_map(|it| tree.string(*it)).collect()
    } else {
        tree.text(command).map(|it| split(it, &tree.positions(command))).unwrap_or_default()
    };
    words.into_iter().map(|it| interpolate(it, out)).collect()
}
