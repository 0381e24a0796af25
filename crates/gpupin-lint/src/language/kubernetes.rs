//! Kubernetes manifests: the containers of every pod template, whatever kind it stands in.

use super::{
    UnitBuilder,
    command::{self, Command},
    compose,
    container::{self, Variable},
    yaml::{Id, Tree},
};
use crate::{
    span::{Positions, Span},
    unit::{Block, ContainerGpus, Does, GpuRequest, Step},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads manifests, several documents perhaps.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let tree = Tree::parse(text, at, out);
    let mut steps = Vec::new();
    for document in &tree.documents {
        if tree.get(*document, "kind").and_then(|it| tree.text(it)) == Some("ConfigMap") {
            tree.settings(*document, out, &mut steps);
            continue;
        }
        for container in containers(&tree, *document) {
            let name = tree.get(container, "name").and_then(|it| tree.text(it));
            let name = name.unwrap_or("container").to_owned();
            let outer = out.enter_service(Some(name.clone()));
            let inner = read_container(&tree, container, name, out);
            out.enter_service(outer);
            if !inner.is_empty() {
                steps.push(Step::Scope(Block(inner)));
            }
        }
    }
    Block(steps)
}

/// Containers under `containers` and `initContainers`, at any depth.
fn containers(tree: &Tree<'_>, document: Id) -> Vec<Id> {
    let mut found = Vec::new();
    // Aliases could lead in circles; a manifest's depth is small.
    let mut left = vec![(document, 0)];
    let mut budget = 200_000;
    while let Some((id, depth)) = left.pop() {
        budget -= 1;
        if budget == 0 {
            break;
        }
        if depth > 20 {
            continue;
        }
        left.extend(tree.items(id).iter().rev().map(|it| (*it, depth + 1)));
        for (key, value) in tree.entries(id).into_iter().rev() {
            if matches!(tree.text(key), Some("containers" | "initContainers")) {
                let items = tree.items(value).iter().filter(|it| tree.is_mapping(**it));
                found.extend(items.copied());
            } else {
                left.push((value, depth + 1));
            }
        }
    }
    found
}

fn read_container(
    tree: &Tree<'_>,
    container: Id,
    service: String,
    out: &mut UnitBuilder,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let variables = variables(tree, container);
    let mut words = Vec::new();
    for key in ["command", "args"] {
        words.extend(
            tree.get(container, key).map(|it| compose::words(tree, it, out)).unwrap_or_default(),
        );
    }
    if let Some((span, request)) = request(tree, container, &variables, out) {
        let only_inspects = container::only_inspects(&words);
        let gpus = ContainerGpus { service, request, only_inspects, built_from: None };
        steps.push(out.event(span, Does::ContainerGpus(gpus)));
    }
    for variable in variables {
        steps.push(container::set_in_container(variable, out));
    }
    if let (Some(first), Some(last)) = (words.first(), words.last()) {
        let command = Command::new(first.span.cover(last.span), words.clone());
        steps.extend(command::run(command, out));
    } else if !steps.is_empty() {
        steps.push(container::start_unknown(tree.span(container), out));
    }
    steps
}

/// `env:` with `name` and `value`; what `valueFrom` gives is not known.
fn variables(tree: &Tree<'_>, container: Id) -> Vec<Variable> {
    let items = tree.get(container, "env").map(|it| tree.items(it)).unwrap_or_default();
    let mut found = Vec::new();
    for item in items {
        let Some((key, name)) = tree.entry(*item, "name") else { continue };
        let Some(text) = tree.text(name).map(str::to_owned) else { continue };
        let (value, end) = match tree.entry(*item, "value") {
            Some((_, value)) => {
                let span = tree.span(value);
                let empty = Spanned::new(Value::Str(String::new()), span);
                (tree.string(value).unwrap_or(empty), span)
            }
            None => (Spanned::new(Value::Unknown, tree.span(*item)), tree.span(name)),
        };
        let span = Span { start: tree.span(key).start, end: end.end.max(tree.span(name).end) };
        found.push(Variable { span, name: text, name_span: tree.span(name), value });
    }
    found
}

fn request(
    tree: &Tree<'_>,
    container: Id,
    variables: &[Variable],
    out: &UnitBuilder,
) -> Option<(Span, GpuRequest)> {
    let resources = tree.get(container, "resources");
    for part in ["limits", "requests"] {
        let amounts = resources.and_then(|it| tree.get(it, part));
        for (key, value) in amounts.map(|it| tree.entries(it)).unwrap_or_default() {
            if !tree
                .text(key)
                .is_some_and(|it| it == "nvidia.com/gpu" || it.starts_with("nvidia.com/mig-"))
            {
                continue;
            }
            if let Some(amount) = tree.text(value).and_then(|it| it.parse().ok()) {
                return Some((tree.entry_span(key, value), GpuRequest::Amount(amount)));
            }
        }
    }
    let visible = variables.iter().find(|it| it.name == "NVIDIA_VISIBLE_DEVICES")?;
    Some((visible.span, container::visible_devices(&visible.value, out)?))
}
