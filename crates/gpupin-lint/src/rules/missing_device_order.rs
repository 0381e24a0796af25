use gpupin_policy::Gpu;

use crate::{
    finding::{Finding, Severity},
    fix::mask,
    needle::Needle,
    program::{
        Problem,
        pins::{by_place, entries},
    },
    project::Project,
    rules::{Check, Rule},
};

pub(super) const RULE: Rule = Rule {
    code: "GP103",
    name: "missing-device-order",
    severity: Severity::Error,
    default: true,
    docs: include_str!("missing_device_order.md"),
    needles: &[Needle::new("CUDA_VISIBLE_DEVICES")],
    check: Check::Programs(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let without = by_place(project, |it| match it {
        Problem::NoOrder { write, by_default } => {
            Some(((write.unit, project.write_span(*write)), (*write, *by_default)))
        }
        _ => None,
    });
    for ((write, by_default), programs) in without {
        let by_default = if by_default { " (by default)" } else { "" };
        let message = format!(
            "the mask is an index{by_default} and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus"
        );
        let mut finding = rule.finding(write.unit, project.write_span(write), message);
        if let Some(candidates) = candidates(project) {
            finding = finding.with_help(candidates);
        }
        finding.programs = entries(&programs);
        found.push(mask::with_order(finding, project, &programs, write));
    }
}

/// What the index may be on the first recorded machine with several GPUs.
fn candidates(project: &Project<'_>) -> Option<String> {
    let machine = project.lock.machines().iter().find(|it| it.usable().count() > 1)?;
    let mut counts: Vec<(String, usize)> = Vec::new();
    for name in machine.usable().map(Gpu::short_name) {
        match counts.iter_mut().find(|it| it.0 == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let shown = |(name, count): &(String, usize)| match count {
        1 => format!("the {name}"),
        count => format!("any of {count} {name}"),
    };
    let names: Vec<_> = counts.iter().map(shown).collect();
    Some(format!("on `{}` it may be {}", machine.host, names.join(" or ")))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    #[test]
    fn twins_are_told_as_such() {
        let twin = |index: u32| {
            format!(
                "[[machine.gpu]]\nindex = {index}\nuuid = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f{index}\"\nname = \"NVIDIA GeForce RTX 3090\"\nvram = \"24 GiB\"\ncompute-capability = \"8.6\"\npci = \"0000:0{index}:00.0\"\n"
            )
        };
        let lock = format!(
            "//- gpupin.lock\nversion = 1\n[[machine]]\nhost = \"twins\"\n{}{}",
            twin(0),
            twin(1)
        );
        check_message(
            &format!(
                "{lock}//- main.py\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\nimport torch\n"
            ),
            &[
                "the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus | on `twins` it may be any of 2 RTX 3090",
            ],
        );
    }

    #[test]
    fn an_index_in_one_arm_is_not_hidden_by_the_next() {
        check(
            r#"
import os, subprocess
env = os.environ.copy()
if first:
    env["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP103
elif second:
    env["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
else:
    env["CUDA_VISIBLE_DEVICES"] = ""
subprocess.Popen(["python", "a.py"], env=env)
"#,
        );
    }

    #[test]
    fn what_prepares_the_processes_of_a_pool_is_called() {
        check(
            r#"
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool
def first():
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP103
def second():
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # error: GP103
if __name__ == "__main__":
    with ProcessPoolExecutor(4, initializer=first) as pool, Pool(2, second) as other:
        pool.map(print, [1])
"#,
        );
    }

    #[test]
    fn a_dockerfile_is_judged_in_the_container_that_a_service_makes_of_it() {
        check(
            r#"
//- compose.yaml
services:
  tts:
    build: {context: .}
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]}]}}}
//- Dockerfile
FROM python
ENV CUDA_VISIBLE_DEVICES=0
CMD ["python", "tts.py"]
//- tts.py
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn order_set_after_the_index_still_counts() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
"#,
        );
    }

    #[test]
    fn order_set_by_the_launching_script_counts() {
        check(
            r#"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
import torch
torch.zeros(1).cuda()
//- run.sh
export CUDA_DEVICE_ORDER=PCI_BUS_ID
python main.py
"#,
        );
    }

    #[test]
    fn a_mask_of_a_script_that_the_program_replaces_is_no_better() {
        check(
            r#"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP103
import torch
torch.zeros(1).cuda()
//- run.sh
export CUDA_VISIBLE_DEVICES=1  # error: GP103
python main.py
"#,
        );
        check(
            r#"
//- main.py
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
import torch
torch.zeros(1).cuda()
//- run.sh
export CUDA_VISIBLE_DEVICES=1
python main.py
"#,
        );
    }

    #[test]
    fn the_order_of_one_starter_says_nothing_of_another_ones_mask() {
        check(
            r#"
//- main.py
import torch
torch.zeros(1).cuda()
//- run.sh
CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1 python main.py --a
CUDA_VISIBLE_DEVICES=1 python main.py --b  # error: GP103
"#,
        );
        check(
            r#"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP103
import torch
torch.zeros(1).cuda()
//- run.sh
CUDA_DEVICE_ORDER=PCI_BUS_ID python main.py --a
python main.py --b
"#,
        );
    }

    #[test]
    fn every_starter_is_judged_in_its_own_container() {
        check(
            r#"
//- main.py
import torch
torch.zeros(1).cuda()
//- run.sh
export CUDA_VISIBLE_DEVICES=1  # error: GP103
python main.py
//- compose.yaml
services:
  app:
    command: python main.py
    environment:
      CUDA_VISIBLE_DEVICES: "0"
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
    fn computed_value_is_not_guessed() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = pick()\n");
    }

    #[test]
    fn a_constant_of_another_module_is_known() {
        check(
            r#"
//- main.py
import os
import config
os.environ["CUDA_VISIBLE_DEVICES"] = str(config.GPU)  # error: GP103
//- config.py
GPU = 1
"#,
        );
    }

    #[test]
    fn a_default_counts_by_default() {
        check("//- run.sh\nexport CUDA_VISIBLE_DEVICES=${GPU:-0}  # error: GP103\n./serve\n");
    }

    #[test]
    fn a_dead_mask_needs_no_order() {
        check(
            r#"
import os
import torch
torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn an_index_that_no_gpu_has_is_another_finding() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"7\"\n");
    }

    #[test]
    fn one_gpu_has_one_order() {
        check(
            r#"
//- gpupin.lock
version = 1
[[machine]]
host = "laptop"
[[machine.gpu]]
index = 0
uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
"#,
        );
    }

    #[test]
    fn survives_a_syntax_error() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"  # error: GP103
def broken(
"#,
        );
    }

    #[test]
    fn fix_inserts_the_order_before_the_index() {
        check_fix(
            r#"
import os
if True:
    os.environ['CUDA_VISIBLE_DEVICES'] = '1'
"#,
            r#"
import os
if True:
    os.environ['CUDA_DEVICE_ORDER'] = 'PCI_BUS_ID'
    os.environ['CUDA_VISIBLE_DEVICES'] = '1'
"#,
        );
    }
}
