use gpupin_policy::visibility::{EntryKind, Environment, Mask, resolve};

use crate::{
    finding::{Edit, Finding, Safety, Severity},
    meant::Meant,
    needle::Needle,
    project::{Literal, Project},
    rules::{Check, Rule},
    source::Language,
    unit::{ContainerGpus, Does, Event, EventId, GpuRequest, Reach, Runs, Unit, UnitId},
    value::Spanned,
    variables::{Given, Recipient, given},
};

pub(super) const RULE: Rule = Rule {
    code: "GP502",
    name: "container-masked-twice",
    severity: Severity::Error,
    default: true,
    docs: include_str!("container_masked_twice.md"),
    needles: &[Needle::new("CUDA_VISIBLE_DEVICES")],
    check: Check::Unit(check),
};

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    for (mask, event, container) in pairs(unit) {
        if let Some(gpus) = GivenGpus::of(project, id, container) {
            found.extend(judge(rule, project, (id, unit), &gpus, &mask, (id, event)));
        }
    }
    if unit.source.language == Language::Dockerfile {
        found.extend(masked_by_image(rule, project, id, unit));
    }
}

/// The mask of an image that a container of another file is built from, and which says nothing else.
fn masked_by_image(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
) -> Option<Finding> {
    // What runs is the last stage.
    let stage = unit.events.iter().rev().find_map(|it| it.service.as_ref())?;
    let masks = given(unit).into_iter().filter(|it| it.name == "CUDA_VISIBLE_DEVICES");
    let mut of_stage = masks.filter(|it| it.event.service.as_ref() == Some(stage));
    let mask = of_stage.next_back()?;
    // `ENV`, which holds for other commands than the image's too.
    let is_of_image = matches!(mask.to, Recipient::Set(_, Reach::Container));
    let units = || (0..).map(UnitId).zip(project.units);
    units().find_map(|(from, other)| {
        (0..).map(EventId).zip(&other.events).find_map(|(at, event)| {
            let Does::ContainerGpus(container) = &event.does else { return None };
            let file = container.built_from.as_ref()?;
            let runs_image = other.events.iter().any(|it| match &it.does {
                Does::Start(start) => {
                    it.service == event.service && start.runs == Runs::Script(file.clone())
                }
                _ => false,
            });
            let counts = project.find_file(from, file) == Some(id)
                && (is_of_image || runs_image)
                && masks_of(other, at).is_empty();
            let gpus = GivenGpus::of(project, from, container).filter(|_| counts)?;
            judge(rule, project, (id, unit), &gpus, &mask, (from, event))
        })
    })
}

/// The GPUs a container has, numbered from 0.
struct GivenGpus {
    count: u64,
    /// As the container runtime is told, if every one is known.
    ids: Option<String>,
}

impl GivenGpus {
    fn of(project: &Project<'_>, id: UnitId, container: &ContainerGpus) -> Option<Self> {
        match &container.request {
            GpuRequest::Count(count) | GpuRequest::Amount(count) => {
                let count = u64::try_from(*count).ok().filter(|it| *it > 0)?;
                Some(Self { count, ids: None })
            }
            GpuRequest::Ids(ids) if !ids.is_empty() => {
                let known = ids.iter().map(|it| match project.known(id, it).as_slice() {
                    [one] => text(&one.literal),
                    _ => None,
                });
                let ids_text = known.collect::<Option<Vec<_>>>().map(|it| it.join(","));
                Some(Self { count: ids.len() as u64, ids: ids_text })
            }
            GpuRequest::Ids(_) | GpuRequest::All | GpuRequest::RuntimeOnly => None,
        }
    }
}

fn text(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Str(text) => Some(text.trim().to_owned()),
        Literal::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The masks that are set in a container, in the file that describes it.
pub(super) fn masks_of(unit: &Unit, container: EventId) -> Vec<&Spanned> {
    let Some(container) = unit.events.get(container.0 as usize) else { return Vec::new() };
    let in_it = pairs(unit).into_iter().filter(|it| std::ptr::eq(it.1, container));
    in_it.map(|it| it.0.value).collect()
}

/// The mask and the container it is set in, for every mask that is set in one.
fn pairs<'a>(unit: &'a Unit) -> Vec<(Given<'a>, &'a Event, &'a ContainerGpus)> {
    // In a script, two commands may start containers of one name; what belongs to a command stands together.
    let one_per_service = matches!(
        unit.source.language,
        Language::Compose | Language::Kubernetes | Language::Workflow | Language::Dockerfile
    );
    let mut pairs = Vec::new();
    for mask in given(unit).into_iter().filter(|it| it.name == "CUDA_VISIBLE_DEVICES") {
        let Some(service) = &mask.event.service else { continue };
        let of_service = |it: &&Event| it.service.as_ref() == Some(service);
        let place = unit.events.iter().position(|it| std::ptr::eq(it, mask.event));
        let (before, after) = unit.events.split_at(place.unwrap_or_default());
        let gpus = |event: &'a Event| match &event.does {
            Does::ContainerGpus(gpus) => Some((event, gpus)),
            _ => None,
        };
        let nearest = before
            .iter()
            .rev()
            .filter(of_service)
            .take_while(|it| one_per_service || !matches!(it.does, Does::Start(_)))
            .chain(after.iter().filter(of_service).filter(|_| one_per_service))
            .find_map(gpus);
        pairs.extend(nearest.map(|(event, gpus)| (mask, event, gpus)));
    }
    pairs
}

fn judge(
    rule: &'static Rule,
    project: &Project<'_>,
    (id, unit): (UnitId, &Unit),
    gpus: &GivenGpus,
    given: &Given<'_>,
    (file, container): (UnitId, &Event),
) -> Option<Finding> {
    let known = project.known(id, given.value);
    let [known] = &*known else { return None };
    let value = text(&known.literal)?;
    let mask = Mask::parse(&value);
    let first = mask.taken().next()?;
    let inside = match gpus.count {
        1 => "there is one GPU in this container, number 0".to_owned(),
        count => format!("there are {count} GPUs in this container, numbered from 0"),
    };
    let leaves_none = match first.kind {
        EntryKind::Index(index) => u64::from(index) >= gpus.count,
        EntryKind::Gpu | EntryKind::Mig => names_none(project, gpus, &value),
        EntryKind::Negative | EntryKind::End => false,
    };
    if !leaves_none {
        return None;
    }
    let message = format!("{inside}: the mask `{value}` leaves none");
    let finding = rule
        .finding(id, given.event.span, message)
        .with_related(file, container.span, "the container gets its GPUs here")
        .with_help("leave the mask out: the container sees no other GPU");
    let edit = unit
        .source
        .find_in(known.span, &value)
        .filter(|_| known.unit == id && gpus.count == 1)
        .map(|span| Edit { unit: id, span, replacement: "0".to_owned() });
    Some(match edit {
        Some(edit) => {
            let environment = Environment {
                cuda_visible_devices: Some("0".to_owned()),
                nvidia_visible_devices: gpus.ids.clone(),
                ..Environment::default()
            };
            let is_meant =
                gpus.ids.is_some() && Meant::of(project, id).is_hit(project, &environment);
            let safety = if is_meant {
                Safety::Safe
            } else {
                Safety::Unsafe("the container's GPU may not be the one of the policy".to_owned())
            };
            finding.with_fix("Use 0, the container's only GPU", safety, vec![edit])
        }
        None => finding,
    })
}

/// Whether a mask of UUIDs shows nothing of what the container was given, on every recorded machine that
/// has those GPUs.
fn names_none(project: &Project<'_>, gpus: &GivenGpus, mask: &str) -> bool {
    let Some(ids) = &gpus.ids else { return false };
    let with = |mask: Option<&str>| Environment {
        cuda_visible_devices: mask.map(str::to_owned),
        nvidia_visible_devices: Some(ids.clone()),
        ..Environment::default()
    };
    let mut machines = project
        .lock
        .machines()
        .iter()
        .filter(|it| !resolve(it, &with(None)).visible.is_empty())
        .peekable();
    machines.peek().is_some()
        && machines.all(|it| resolve(it, &with(Some(mask))).visible.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    /// A compose file with these ids and this mask.
    fn compose(ids: &str, mask: &str) -> String {
        format!(
            r#"
//- compose.yaml
services:
  a:
    image: a
    environment:
      CUDA_VISIBLE_DEVICES: "{mask}"
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: [{ids}]
              capabilities: [gpu]
"#
        )
    }

    const UUID: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

    #[test]
    fn a_mask_that_counts_outside_numbers_leaves_no_gpu() {
        check_message(
            &compose(r#""1""#, "1"),
            &[
                "there is one GPU in this container, number 0: the mask `1` leaves none | leave the mask out: the container sees no other GPU",
            ],
        );
        check_message(
            &compose(r#""1", "2""#, "2"),
            &[
                "there are 2 GPUs in this container, numbered from 0: the mask `2` leaves none | leave the mask out: the container sees no other GPU",
            ],
        );
    }

    #[test]
    fn a_mask_that_counts_inside_numbers_is_fine() {
        check(&compose(r#""1""#, "0"));
        check(&compose(r#""1", "2""#, "1"));
        check(&compose(r#""1", "2""#, "0,1"));
    }

    #[test]
    fn uuids_are_compared_on_the_recorded_machines() {
        let quoted = format!("\"{UUID}\"");
        check(&compose(&quoted, UUID));
        check(&compose(r#""1""#, UUID));
        let other = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
        check_message(
            &compose(&quoted, other),
            &[&format!(
                "there is one GPU in this container, number 0: the mask `{other}` leaves none | leave the mask out: the container sees no other GPU"
            )],
        );
    }

    #[test]
    fn a_mask_of_another_service_is_its_own() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: a
    environment:
      CUDA_VISIBLE_DEVICES: "1"
  b:
    image: b
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["1"]
              capabilities: [gpu]
"#,
        );
    }

    #[test]
    fn a_command_that_starts_a_container_is_read() {
        check(
            r#"
//- run.sh
docker run --gpus '"device=1"' -e CUDA_VISIBLE_DEVICES=1 image  # error: GP502
docker run --gpus '"device=1"' -e CUDA_VISIBLE_DEVICES=0 image
docker run --gpus all -e CUDA_VISIBLE_DEVICES=1 image
"#,
        );
    }

    #[test]
    fn the_fix_is_made_wherever_the_mask_stands() {
        let fixture = |mask: &str| {
            format!(
                r#"
//- compose.yaml
services:
  list:
    image: a
    gpus: [{{device_ids: ["1"]}}]
    environment:
      - CUDA_VISIBLE_DEVICES={mask}
  number:
    image: a
    gpus: [{{device_ids: ["1"]}}]
    environment: {{CUDA_VISIBLE_DEVICES: {mask}}}
  default:
    image: a
    gpus: [{{device_ids: ["1"]}}]
    environment:
      CUDA_VISIBLE_DEVICES: ${{GPU:-{mask}}}
//- run.sh
docker run --gpus '"device=1"' -e CUDA_VISIBLE_DEVICES={mask} image
docker run --gpus '"device=1"' -e "CUDA_VISIBLE_DEVICES={mask}" image
docker run --gpus '"device=1"' --env=CUDA_VISIBLE_DEVICES={mask} image
//- start.py
import subprocess
subprocess.run(["docker", "run", "--gpus", "device=1", "-e", "CUDA_VISIBLE_DEVICES={mask}", "image"])
"#
            )
        };
        check_fix(&fixture("1"), &fixture("0"));
    }

    #[test]
    fn the_mask_of_an_image_counts_in_the_containers_built_from_it() {
        let project = |service: &str, image: &str| {
            format!(
                "//- compose.yaml\nservices:\n  a:\n    build: .\n    gpus: [{{device_ids: [\"{UUID}\"]}}]\n{service}//- Dockerfile\nFROM python\n{image}//- a.py\nimport torch\n"
            )
        };
        let with_env = |mask: &str| format!("ENV CUDA_VISIBLE_DEVICES={mask}\nCMD python a.py\n");
        let in_command = "CMD CUDA_VISIBLE_DEVICES=1 python a.py\n";
        let message = "there is one GPU in this container, number 0: the mask `1` leaves none | leave the mask out: the container sees no other GPU";
        check_message(&project("", &with_env("1")), &[message]);
        check_message(&project("", in_command), &[message]);
        check_message(&project("    command: python a.py\n", &with_env("1")), &[message]);
        check(&project("", &with_env("0")));
        check(&project("    command: python a.py\n", in_command));
        let own = "    environment: {CUDA_VISIBLE_DEVICES: \"0\"}\n";
        check(&project(own, &with_env("1")));
    }

    #[test]
    fn the_fix_uses_the_containers_number() {
        check_fix(&compose(r#""1""#, "1"), &compose(r#""1""#, "0"));
    }
}
