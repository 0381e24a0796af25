//! systemd units and Podman's `.container` files: one service, its variables, its command.

use super::{
    UnitBuilder,
    command::{self, Command, split},
    container::{self, Variable},
    lines::{Continuation, Line, lines},
    suppress,
};
use crate::{
    span::Positions,
    unit::{Block, ContainerGpus, Does, GpuRequest, RemoveHow, RemoveVariable, Step},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a unit file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    out.suppressions(suppress::scan(text, at, &["#", ";"], |_| false));
    let name = out.source().path.rsplit('/').next().unwrap_or_default().to_owned();
    let outer = out.enter_service(Some(name.clone()));
    let how = Continuation { mark: '\\', skips_comments: true, kept: false };
    let lines = lines(text, at, how);
    let mut steps = Vec::new();
    let mut files = Vec::new();
    let mut removed = Vec::new();
    let mut starts = Vec::new();
    let mut directory = String::new();
    for line in &lines {
        let Some((key, value)) = line.text.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match key {
            "Environment" if value.is_empty() => steps.clear(),
            "Environment" => {
                for word in words(line, value) {
                    let variable = Variable::in_word(&word, out);
                    steps.extend(variable.map(|it| container::set_in_container(it, out)));
                }
            }
            "EnvironmentFile" => {
                let file = Some(value.trim_start_matches('-').to_owned());
                let does = Does::LoadVariables { file, overrides: true };
                files.push(out.event(line.span_of(value), does));
            }
            "UnsetEnvironment" => {
                for word in words(line, value) {
                    let Some(name) = command::text(&word).map(str::to_owned) else { continue };
                    let does = RemoveVariable { name, how: RemoveHow::Remove };
                    removed.push(out.event(word.span, Does::RemoveVariable(does)));
                }
            }
            "WorkingDirectory" => value.trim_end_matches('/').clone_into(&mut directory),
            "ExecStartPre" | "ExecStart" | "ExecStartPost" => starts.push((line, value)),
            // Podman's own.
            "Exec" => starts.push((line, value)),
            "AddDevice" if value.starts_with("nvidia.com/gpu=") => {
                let id = &value["nvidia.com/gpu=".len()..];
                let request = match id {
                    "all" => GpuRequest::All,
                    id => GpuRequest::Ids(vec![Spanned::new(
                        Value::Str(id.to_owned()),
                        line.span_of(id),
                    )]),
                };
                let gpus = ContainerGpus {
                    service: name.clone(),
                    request,
                    only_inspects: false,
                    built_from: None,
                };
                steps.push(out.event(line.span_of(value), Does::ContainerGpus(gpus)));
            }
            _ => {}
        }
    }
    // systemd reads all settings before it starts anything; a file of variables wins over `Environment=`.
    steps.append(&mut files);
    steps.append(&mut removed);
    for (line, value) in starts {
        steps.extend(start(line, value, &directory, out));
    }
    out.enter_service(outer);
    Block(steps)
}

fn words(line: &Line, value: &str) -> Vec<Spanned> {
    let start = value.as_ptr() as usize - line.text.as_ptr() as usize;
    split(value, &line.positions.part(start))
}

fn start(line: &Line, value: &str, directory: &str, out: &mut UnitBuilder) -> Vec<Step> {
    let value = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    let words = words(line, value);
    // systemd writes the variables of its own environment as shells do.
    let words = words.into_iter().map(|it| super::interpolate::interpolate(it, out)).collect();
    let mut command = Command::new(line.span_of(value), words);
    directory.clone_into(&mut command.directory);
    command::run(command, out)
}
