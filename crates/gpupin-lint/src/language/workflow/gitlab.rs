//! GitLab pipelines: every key that is no keyword is a job.

use super::{Block, Shell, Step, UnitBuilder, script};
use crate::language::{
    container::{self, Variable},
    interpolate::interpolate,
    yaml::{Id, Tree},
};

const KEYWORDS: &[&str] = &[
    "stages",
    "include",
    "workflow",
    "variables",
    "default",
    "image",
    "services",
    "cache",
    "spec",
];

pub(super) fn read(tree: &Tree<'_>, document: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    set(tree, document, out, steps);
    let default = tree.get(document, "default").unwrap_or(document);
    for (key, job) in tree.entries(document) {
        let Some(name) = tree.text(key).filter(|it| !KEYWORDS.contains(it)) else { continue };
        if !tree.is_mapping(job) {
            continue;
        }
        let outer = out.enter_service(Some(name.to_owned()));
        let mut inner = Vec::new();
        set(tree, job, out, &mut inner);
        let before = tree.get(job, "before_script").or_else(|| tree.get(default, "before_script"));
        let lists = [before, tree.get(job, "script"), tree.get(job, "after_script")];
        let mut lines = Vec::new();
        for list in lists.into_iter().flatten() {
            match tree.items(list) {
                [] => lines.push(list),
                items => lines.extend_from_slice(items),
            }
        }
        let (text, at) = script(tree, &lines);
        inner.extend(Shell::Posix.read(&text, &at, out).0);
        out.enter_service(outer);
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
    }
}

/// `variables:`, each a text or a mapping with a `value`.
fn set(tree: &Tree<'_>, owner: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    let variables = tree.get(owner, "variables");
    for (key, value) in variables.map(|it| tree.entries(it)).unwrap_or_default() {
        let inner = tree.get(value, "value").unwrap_or(value);
        let (Some(name), Some(text)) = (tree.text(key), tree.string(inner)) else { continue };
        let variable = Variable {
            span: tree.entry_span(key, value),
            name: name.to_owned(),
            name_span: tree.span(key),
            value: interpolate(text, out),
        };
        steps.push(container::set_in_container(variable, out));
    }
}
