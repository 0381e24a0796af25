use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    program::{Problem, Program, pins::Leads},
    project::Project,
    rules::{Check, Rule},
};

pub(super) const RULE: Rule = Rule {
    code: "GP102",
    name: "pinned-to-wrong-gpu",
    severity: Severity::Error,
    default: true,
    docs: include_str!("pinned_to_wrong_gpu.md"),
    needles: &[Needle::new("CUDA_VISIBLE_DEVICES")],
    check: Check::Program(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, program: &Program, found: &mut Vec<Finding>) {
    for problem in &program.problems {
        let Problem::WrongGpu { write, wrong } = problem else { continue };
        let meant = project
            .wanted(program)
            .map(|it| format!(", the policy wants {it}"))
            .unwrap_or_default();
        let (mask, host) = (&wrong.mask, &wrong.host);
        let message = match &wrong.leads {
            Leads::To { name, forbidden } => {
                let forbidden = if *forbidden { ", which the policy forbids" } else { "" };
                format!("mask `{mask}` is the {name} on `{host}`{forbidden}{meant}")
            }
            Leads::Nowhere { gpus } => {
                let many = if *gpus == 1 { "GPU" } else { "GPUs" };
                format!("mask `{mask}` is no GPU of `{host}`, which has {gpus} {many}{meant}")
            }
        };
        let mut finding = rule.finding(write.unit, project.write_span(*write), message);
        finding.programs.push(program.entry);
        found.push(finding);
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
    fn the_message_names_both_gpus() {
        check_message(
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-5b1c0f6e\"\n",
            &[
                "mask `GPU-5b1c0f6e` is the RTX 5060 Ti on `workstation`, which the policy forbids, the policy wants RTX 3090 with at least 20 GiB",
            ],
        );
    }
}
