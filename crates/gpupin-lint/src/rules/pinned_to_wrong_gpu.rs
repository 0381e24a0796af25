use gpupin_policy::visibility::{Environment, resolve};

use crate::{
    finding::{Finding, Severity},
    fix::mask,
    meant::Meant,
    needle::Needle,
    program::{
        Problem,
        pins::{Leads, by_place, entries},
    },
    project::{Literal, Project},
    rules::{Check, Rule},
    unit::{ContainerGpus, Does, EventId, GpuRequest, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP102",
    name: "pinned-to-wrong-gpu",
    severity: Severity::Error,
    default: true,
    docs: include_str!("pinned_to_wrong_gpu.md"),
    needles: &[
        Needle::new("CUDA_VISIBLE_DEVICES"),
        Needle::new("NVIDIA_VISIBLE_DEVICES"),
        Needle::new("--gpus"),
        Needle::new("device_ids").not_in_python(),
        Needle::new("nvidia.com/gpu"),
    ],
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let wrong = by_place(project, |it| match it {
        Problem::WrongGpu { write, wrong } => {
            Some(((write.unit, project.write_span(*write)), (*write, wrong)))
        }
        _ => None,
    });
    for ((write, wrong), programs) in wrong {
        let meant = programs.first().and_then(|it| project.wanted(it));
        let meant = meant.map(|it| format!(", the policy wants {it}")).unwrap_or_default();
        let leads = in_words(&wrong.host, &wrong.leads, "no GPU");
        let message = format!("mask `{}` is {leads}{meant}", wrong.mask);
        let mut finding = rule.finding(write.unit, project.write_span(write), message);
        finding.programs = entries(&programs);
        found.push(mask::correct(finding, project, &programs, write));
    }
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        for (at, event) in (0..).map(EventId).zip(&unit.events) {
            if let Does::ContainerGpus(container) = &event.does
                && let Some(message) = of_container(project, (id, at), container)
            {
                found.push(rule.finding(id, event.span, message));
            }
        }
    }
}

/// A container that is given GPUs by UUID, and another than the one that is meant. What it is given by index is GP501's.
fn of_container(
    project: &Project<'_>,
    at: (UnitId, EventId),
    container: &ContainerGpus,
) -> Option<String> {
    let GpuRequest::Ids(ids) = &container.request else { return None };
    let mut texts = Vec::new();
    for id in ids {
        match &*project.known(at.0, id) {
            [known] => match &known.literal {
                Literal::Str(text) if text.starts_with("GPU-") => texts.push(text.clone()),
                _ => return None,
            },
            _ => return None,
        }
    }
    let meant = Meant::in_container(project, at);
    let ids = texts.join(",");
    let environment =
        Environment { nvidia_visible_devices: Some(ids.clone()), ..Environment::default() };
    let mut wrong = None;
    for machine in meant.machines(project) {
        // In whatever order they are counted: which GPUs there are is certain.
        let seen = resolve(machine, &environment).container.unwrap_or_default();
        let mut gpus = seen.iter().filter_map(|it| machine.get(it));
        let leads = if seen.is_empty() {
            Leads::Nowhere { gpus: machine.usable().count() }
        } else {
            // A UUID is one machine's; it need not be right on the others.
            gpus.find_map(|it| meant.other(project, it))?
        };
        wrong.get_or_insert((machine, leads));
    }
    let (machine, leads) = wrong?;
    let no_gpu = format!("`{ids}`, which is no GPU");
    let leads = in_words(&machine.host, &leads, &no_gpu);
    Some(format!("{} gets {leads}{}", container.shown(), meant.wanted()))
}

/// `no_gpu` is what to say of a place where there is none.
fn in_words(host: &str, leads: &Leads, no_gpu: &str) -> String {
    match leads {
        Leads::To { name, forbidden } => {
            let forbidden = if *forbidden { ", which the policy forbids" } else { "" };
            format!("the {name} on `{host}`{forbidden}")
        }
        Leads::Nowhere { gpus } => {
            let many = if *gpus == 1 { "GPU" } else { "GPUs" };
            format!("{no_gpu} of `{host}`, which has {gpus} {many}")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn an_index_of_the_fixed_order_is_looked_up() {
        check(
            r#"
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # error: GP102
"#,
        );
    }

    #[test]
    fn the_order_may_come_after_the_mask() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # error: GP102
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
"#,
        );
    }

    #[test]
    fn an_index_without_an_order_is_not_guessed() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"0\"\n");
    }

    #[test]
    fn an_index_that_no_gpu_has_is_wrong_under_any_order() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"7\"  # error: GP102\n");
    }

    #[test]
    fn a_uuid_needs_no_order() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"  # error: GP102
"#,
        );
    }

    #[test]
    fn the_right_gpu_is_no_finding() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937\"\n");
    }

    #[test]
    fn a_role_is_judged_by_its_own_gpu() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[[forbid]]
name = "RTX 5060 Ti"
[roles.tts]
name = "RTX 5060 Ti"
entry-points = ["tts/server.py"]
//- tts/server.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-5b1c0f6e"
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_shell_line_is_judged_too() {
        check(
            r#"
//- run.sh
CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0 ./llama-server  # error: GP102
"#,
        );
    }

    #[test]
    fn a_container_is_judged_by_the_gpus_it_is_given() {
        check_message(
            r#"
//- compose.yaml
services:
  right:
    image: a
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]}]}}}
  forbidden:
    image: a
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"]}]}}}
  nowhere:
    image: a
    runtime: nvidia
    environment:
      NVIDIA_VISIBLE_DEVICES: GPU-deadbeef-d72c-4106-c12f-20bd9faed9f6
//- run.sh
docker run --gpus device=GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01 image
"#,
            &[
                "`forbidden` gets the RTX 5060 Ti on `workstation`, which the policy forbids, the policy wants RTX 3090 with at least 20 GiB",
                "`nowhere` gets `GPU-deadbeef-d72c-4106-c12f-20bd9faed9f6`, which is no GPU of `workstation`, which has 2 GPUs, the policy wants RTX 3090 with at least 20 GiB",
                "`image` gets the RTX 5060 Ti on `workstation`, which the policy forbids, the policy wants RTX 3090 with at least 20 GiB",
            ],
        );
    }

    #[test]
    fn one_wrong_gpu_of_several_is_enough() {
        check(
            r#"
//- run.sh
docker run --gpus '"device=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"' image  # error: GP102
//- compose.yaml
services:
  both:
    image: a
    runtime: nvidia
    environment:
      NVIDIA_VISIBLE_DEVICES: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01  # error: GP102
"#,
        );
    }

    #[test]
    fn a_container_of_a_role_is_judged_by_the_roles_gpu() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[[forbid]]
name = "RTX 5060 Ti"
[roles.tts]
name = "RTX 5060 Ti"
entry-points = ["./tts/*.py"]
//- tts/server.py
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
//- compose.yaml
services:
  tts:
    image: a
    command: python tts/server.py
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"]}]}}}
"#,
        );
    }

    #[test]
    fn the_message_names_both_gpus() {
        check_message(
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-5b1c0f6e\"\n",
            &[
                "mask `GPU-5b1c0f6e` is the RTX 5060 Ti on `workstation`, which the policy forbids, the policy wants RTX 3090 with at least 20 GiB",
            ],
        );
    }
}
