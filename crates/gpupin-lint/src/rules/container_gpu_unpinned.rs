use gpupin_policy::visibility::Environment;

use crate::{
    finding::{Edit, Finding, Safety, Severity},
    fix::launch,
    meant::{Meant, at_index},
    needle::Needle,
    program::{MASK, Program},
    project::{Known, Literal, Project},
    rules::{Check, Rule, container_masked_twice::masks_of, invalid_mask::is_placeholder},
    source::Language,
    unit::{ContainerGpus, Does, Event, EventId, GpuRequest, SetVariable, Start, Unit, UnitId},
    value::{Spanned, Value},
};

mod edit;
#[cfg(test)]
mod tests;

use edit::edit;

pub(super) const RULE: Rule = Rule {
    code: "GP501",
    name: "container-gpu-unpinned",
    severity: Severity::Error,
    default: true,
    docs: include_str!("container_gpu_unpinned.md"),
    needles: &[
        Needle::new("--gpus"),
        Needle::new("--runtime"),
        Needle::new("nvidia-docker"),
        Needle::new("nvidia.com/gpu"),
        Needle::new("gpus:").not_in_python(),
        Needle::new("capabilities:").not_in_python(),
        Needle::new("device_ids").not_in_python(),
        Needle::new("nvidia").not_in_python(),
        Needle::new("NVIDIA_VISIBLE_DEVICES"),
    ],
    check: Check::Unit(check),
};

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    for (at, event) in (0..).map(EventId).zip(&unit.events) {
        let Does::ContainerGpus(container) = &event.does else { continue };
        if container.only_inspects || is_given_others(project, id) {
            continue;
        }
        let meant = Meant::in_container(project, (id, at));
        let from_file = matches!(container.request, GpuRequest::RuntimeOnly)
            .then(|| asked_in_file_of_variables(project, (id, unit), event))
            .flatten();
        if let Some((file, value)) = from_file {
            found.extend(judge_variable(
                rule,
                project,
                (file, value),
                (id, event),
                container,
                &meant,
            ));
            continue;
        }
        let Some((message, help)) = judge(project, id, &meant, container) else { continue };
        let mut finding = rule.finding(id, event.span, message);
        if let Some(help) = help {
            finding = finding.with_help(help);
        }
        let uuid = match meant.uuid(project) {
            Ok(uuid) => uuid,
            Err(why) => {
                found.push(finding.without_fix(why));
                continue;
            }
        };
        found.push(match edit(project, id, event.span, container, &uuid) {
            Some((span, replacement)) => {
                let edit = Edit { unit: id, span, replacement };
                let safety = safety(project, &meant, (id, at), &uuid);
                finding.with_fix("Name the GPU by its UUID", safety, vec![edit])
            }
            None => finding,
        });
    }
}

/// What `env_file:` gives a container of the NVIDIA runtime in `NVIDIA_VISIBLE_DEVICES`: the last such file counts.
fn asked_in_file_of_variables<'p>(
    project: &'p Project<'_>,
    (id, unit): (UnitId, &Unit),
    container: &Event,
) -> Option<(UnitId, &'p SetVariable)> {
    let files = unit.events.iter().rev().filter_map(|it| match &it.does {
        Does::LoadVariables { file, .. } if it.service == container.service => file.as_ref(),
        _ => None,
    });
    files.filter_map(|it| project.find_file(id, it)).find_map(|file| {
        project.unit(file).events.iter().rev().find_map(|it| match &it.does {
            Does::SetVariable(set) if set.name == "NVIDIA_VISIBLE_DEVICES" => Some((file, set)),
            _ => None,
        })
    })
}

/// The finding of a container whose file of variables says which GPUs it gets.
fn judge_variable(
    rule: &'static Rule,
    project: &Project<'_>,
    (file, set): (UnitId, &SetVariable),
    (id, event): (UnitId, &Event),
    container: &ContainerGpus,
    meant: &Meant<'_>,
) -> Option<Finding> {
    let known = project.known(file, &set.value);
    let text = |it: &Known| match &it.literal {
        Literal::Str(text) => Some(text.trim().to_owned()),
        Literal::Int(number) => Some(number.to_string()),
        _ => None,
    };
    let [known] = &*known else { return None };
    let request = match &*text(known)? {
        "" | "void" | "none" => return None,
        "all" => GpuRequest::All,
        ids => {
            let id = |it: &str| Spanned::new(Value::Str(it.trim().to_owned()), set.value.span);
            GpuRequest::Ids(ids.split(',').map(id).collect())
        }
    };
    let (message, help) =
        judge(project, file, meant, &ContainerGpus { request, ..container.clone() })?;
    let finding = rule.finding(id, event.span, message);
    let finding = finding.with_related(file, set.name_span, "which GPUs it gets is said here");
    Some(match help {
        Some(help) => finding.with_help(help),
        None => finding,
    })
}

/// Safe if every program of the container has the GPU then, whatever mask it gets or sets there.
fn safety(
    project: &Project<'_>,
    meant: &Meant<'_>,
    container: (UnitId, EventId),
    uuid: &str,
) -> Safety {
    if let Err(why) = launch::need_no_more(commands(project, container), 1) {
        return Safety::Unsafe(why);
    }
    let given_in_file = masks_of(project.unit(container.0), container.1);
    let mut masks: Vec<Option<(UnitId, &Spanned)>> = vec![None];
    masks.extend(given_in_file.into_iter().map(|it| Some((container.0, it))));
    for program in &project.programs {
        if program.containers.iter().any(|it| it.container == container) {
            let moments = program.moments.iter().map(|it| it.setting(MASK).writes);
            let own = moments.flatten().filter(|it| program.runs(it.unit));
            let given = program.containers.iter().filter(|it| it.container == container);
            let all = own.chain(given.flat_map(|it| it.masks.iter().copied()));
            masks.extend(all.filter_map(|it| Some(Some((it.unit, project.written(it)?.1)))));
        }
    }
    let reaches = |mask: &Option<(UnitId, &Spanned)>| {
        let with = |mask: Option<String>| Environment {
            cuda_visible_devices: mask,
            nvidia_visible_devices: Some(uuid.to_owned()),
            ..Environment::default()
        };
        match mask {
            None => meant.is_hit(project, &with(None)),
            Some((unit, value)) => {
                let known = project.known(*unit, value);
                let text = |it: &Known| match &it.literal {
                    Literal::Str(text) => Some(text.clone()),
                    Literal::Int(number) => Some(number.to_string()),
                    _ => None,
                };
                let hits =
                    |it: &Known| text(it).is_some_and(|it| meant.is_hit(project, &with(Some(it))));
                !known.is_empty() && known.iter().all(hits)
            }
        }
    };
    if masks.iter().all(reaches) {
        Safety::Safe
    } else {
        Safety::Unsafe("a mask inside the container may then leave another GPU, or none".to_owned())
    }
}

/// What a container runs: its own command, and that of its image.
fn commands<'a>(project: &Project<'a>, container: (UnitId, EventId)) -> Vec<&'a Start> {
    let event = project.event(container.0, container.1);
    let Does::ContainerGpus(ContainerGpus { service, .. }) = &event.does else { return Vec::new() };
    let is_in_it = |it: &&Program| it.containers.iter().any(|it| it.container == container);
    let starters = project.programs.iter().filter(is_in_it).flat_map(|it| &it.starters);
    let of_programs =
        starters.filter_map(|(unit, event)| match &project.event(*unit, *event).does {
            Does::Start(start) => Some(start),
            _ => None,
        });
    launch::of_service(project, container.0, service).chain(of_programs).collect()
}

/// What a Dockerfile asks for holds only where whoever starts the image asks for nothing: here, a container of the project.
fn is_given_others(project: &Project<'_>, id: UnitId) -> bool {
    let builds = |from: UnitId, event: &Event| match &event.does {
        Does::ContainerGpus(ContainerGpus { built_from: Some(file), .. }) => {
            project.find_file(from, file) == Some(id)
        }
        _ => false,
    };
    project.unit(id).source.language == Language::Dockerfile
        && (0..)
            .map(UnitId)
            .zip(project.units)
            .any(|(from, unit)| unit.events.iter().any(|it| builds(from, it)))
}

/// What is wrong with a request, and what to do.
fn judge(
    project: &Project<'_>,
    id: UnitId,
    meant: &Meant<'_>,
    container: &ContainerGpus,
) -> Option<(String, Option<String>)> {
    let who = container.shown();
    let by_uuid = match meant.uuid(project) {
        Ok(uuid) => format!("ask for the GPU by its UUID: `{uuid}`"),
        Err(_) => "ask for the GPU by its UUID, as `nvidia-smi -L` prints it".to_owned(),
    };
    match &container.request {
        GpuRequest::All => Some((format!("{who} gets every GPU of the machine"), Some(by_uuid))),
        GpuRequest::Count(count) if *count == 0 => None,
        GpuRequest::Count(count) if *count < 0 => {
            Some((format!("{who} gets every GPU of the machine"), Some(by_uuid)))
        }
        GpuRequest::Count(count) => {
            let many = if *count == 1 { "one GPU".to_owned() } else { format!("{count} GPUs") };
            Some((format!("{who} gets {many}, whichever the runtime takes first"), Some(by_uuid)))
        }
        GpuRequest::RuntimeOnly => {
            let message =
                format!("{who} has the NVIDIA runtime and does not say which GPU it gets");
            Some((message, Some(by_uuid)))
        }
        GpuRequest::Ids(ids) => judge_ids(project, id, &who, ids).map(|it| (it, Some(by_uuid))),
        // A scheduler fills these, and no other GPU is reachable inside.
        GpuRequest::Amount(_) => None,
    }
}

fn judge_ids(project: &Project<'_>, id: UnitId, who: &str, ids: &[Spanned]) -> Option<String> {
    let known: Vec<_> = ids.iter().flat_map(|it| project.known(id, it)).collect();
    let index = known.iter().find_map(|it| Some((it, index(it)?)));
    let (known, index) = index?;
    let by_default = if known.by_default { "by default, " } else { "" };
    let now = match u32::try_from(index).ok().and_then(|it| at_index(project, it)) {
        Some(name) => format!(" (the {name} when it was recorded)"),
        None => String::new(),
    };
    Some(format!(
        "{by_default}{who} gets its GPU by index {index}{now}, which can change when the machine starts"
    ))
}

/// The index a value is. `None` for a UUID, and for what another program fills in.
fn index(known: &Known) -> Option<i64> {
    match &known.literal {
        Literal::Int(number) => Some(*number),
        Literal::Str(text) if !is_placeholder(text) => text.trim().parse().ok(),
        _ => None,
    }
}
