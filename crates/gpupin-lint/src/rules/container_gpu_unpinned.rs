use crate::{
    finding::{Edit, Finding, Safety, Severity},
    meant::{Meant, at_index},
    needle::Needle,
    project::{Known, Literal, Project},
    rules::{Check, Rule, invalid_mask::is_placeholder},
    source::Language,
    unit::{ContainerGpus, Does, Event, EventId, GpuRequest, Unit, UnitId},
    value::Spanned,
};

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
        let Some((message, help)) = judge(project, id, &meant, container) else { continue };
        let mut finding = rule.finding(id, event.span, message);
        if let Some(help) = help {
            finding = finding.with_help(help);
        }
        found.push(match edit(project, id, unit, &meant, container) {
            Some(edit) => {
                let title = "Name the GPU by its UUID";
                let why = "the container gets another GPU if the index named one, and a UUID suits one machine";
                finding.with_fix(title, Safety::Unsafe(why.to_owned()), vec![edit])
            }
            None => finding,
        });
    }
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
        Some(uuid) => format!("ask for the GPU by its UUID: `{uuid}`"),
        None => "ask for the GPU by its UUID, as `nvidia-smi -L` prints it".to_owned(),
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

fn edit(
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    meant: &Meant<'_>,
    container: &ContainerGpus,
) -> Option<Edit> {
    let GpuRequest::Ids(ids) = &container.request else { return None };
    let [only] = &**ids else { return None };
    let [known] = &*project.known(id, only) else { return None };
    let written = index(known)?.to_string();
    let uuid = meant.uuid(project)?;
    let span = unit.source.find_in(known.span, &written).filter(|_| known.unit == id)?;
    Some(Edit { unit: id, span, replacement: uuid })
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    #[test]
    fn compose_requests_without_a_uuid_are_reported() {
        check_message(
            r#"
//- compose.yaml
services:
  all:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all
              capabilities: [gpu]
  one:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
  index:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["1"]
              capabilities: [gpu]
  runtime:
    image: a
    runtime: nvidia
"#,
            &[
                "`all` gets every GPU of the machine | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
                "`one` gets one GPU, whichever the runtime takes first | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
                "`index` gets its GPU by index 1 (the RTX 3090 when it was recorded), which can change when the machine starts | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
                "`runtime` has the NVIDIA runtime and does not say which GPU it gets | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
            ],
        );
    }

    #[test]
    fn without_a_recorded_machine_nothing_is_named() {
        check_message(
            "
//- gpupin.lock
//- run.sh
docker run --gpus device=1 image
",
            &[
                "`image` gets its GPU by index 1, which can change when the machine starts | ask for the GPU by its UUID, as `nvidia-smi -L` prints it",
            ],
        );
    }

    #[test]
    fn an_image_is_given_what_the_service_asks_for() {
        let compose = |image: &str| {
            format!(
                r#"
//- compose.yaml
services:
  tts:
    {image}
    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]}}]}}}}}}
//- Dockerfile
FROM python
ENV NVIDIA_VISIBLE_DEVICES=all
CMD ["python", "tts.py"]
"#
            )
        };
        check(&compose("build: ."));
        // Also where the service says what to run.
        check(&compose("build: .\n    command: python3 main.py"));
        let message = "`Dockerfile` gets every GPU of the machine | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`";
        check_message(&compose("image: other"), &[message]);
    }

    #[test]
    fn a_uuid_is_a_pin() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
              capabilities: [gpu]
"#,
        );
    }

    #[test]
    fn a_container_that_only_looks_is_fine() {
        check(
            r#"
//- compose.yaml
services:
  log:
    image: nvidia/cuda
    command: nvidia-smi --loop=60
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all
              capabilities: [gpu]
"#,
        );
    }

    #[test]
    fn commands_that_start_containers_are_read() {
        check(
            r#"
//- run.sh
docker run --gpus all image  # error: GP501
docker run --gpus '"device=1"' image  # error: GP501
docker run --gpus '"device=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"' image
docker run -e NVIDIA_VISIBLE_DEVICES=all image  # error: GP501
docker run --gpus all nvidia/cuda nvidia-smi
docker run image
"#,
        );
    }

    #[test]
    fn amounts_that_a_scheduler_fills_are_fine() {
        check(
            r#"
//- pod.yaml
apiVersion: v1
kind: Pod
metadata:
  name: a
spec:
  containers:
    - name: a
      image: a
      resources:
        limits:
          nvidia.com/gpu: 1
"#,
        );
    }

    #[test]
    fn a_value_from_outside_is_not_judged_and_a_default_is() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["${GPU_UUID}"]
              capabilities: [gpu]
"#,
        );
        check_message(
            r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["${GPU:-0}"]
              capabilities: [gpu]
"#,
            &[
                "by default, `a` gets its GPU by index 0 (the RTX 5060 Ti when it was recorded), which can change when the machine starts | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
            ],
        );
    }

    #[test]
    fn the_fix_writes_the_uuid_of_the_policys_gpu() {
        check_fix(
            r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
"#,
            r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
              capabilities: [gpu]
"#,
        );
    }
}
