use crate::{
    finding::{Finding, Severity},
    fix::pin,
    needle::Needle,
    program::{
        Earlier, Problem,
        pins::{by_place, entries},
    },
    project::Project,
    rules::{Check, Rule},
    unit::Does,
};

pub(super) const RULE: Rule = Rule {
    code: "GP105",
    name: "pin-after-freeze",
    severity: Severity::Error,
    default: true,
    docs: include_str!("pin_after_freeze.md"),
    needles: &[
        Needle::new("CUDA_VISIBLE_DEVICES"),
        Needle::new("CUDA_DEVICE_ORDER"),
        Needle::new("_ALLOC_CONF"),
    ],
    check: Check::Programs(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let late = by_place(project, |it| match it {
        Problem::Late { unit, event, by } => {
            Some(((*unit, project.event(*unit, *event).span), (*unit, *event, *by)))
        }
        _ => None,
    });
    for ((unit, event, by), programs) in late {
        let late = project.event(unit, event);
        let freeze = name_of(project, by);
        let message = match &late.does {
            Does::RemoveVariable(it) => {
                format!(
                    "`{}` is removed after {freeze} made CUDA read it: this does nothing",
                    it.name
                )
            }
            Does::SetVariable(it) => {
                format!("`{}` is set after {freeze} made CUDA read it: this does nothing", it.name)
            }
            _ => continue,
        };
        let freezing = project.event(by.unit, by.event).span;
        let mut finding = rule
            .finding(unit, late.span, message)
            .with_related(by.unit, freezing, "CUDA reads its environment here, once")
            .with_help(
                "set it before the first GPU library is imported, or in what starts the program",
            );
        finding.programs = entries(&programs);
        found.push(pin::cure(finding, project, &programs, &[(unit, event)]));
    }
}

/// What to call something that froze the environment.
pub(super) fn name_of(project: &Project<'_>, earlier: Earlier) -> String {
    match &project.event(earlier.unit, earlier.event).does {
        Does::Freeze(it) => format!("`{}`", it.by),
        Does::ImportLibrary(it) => format!("`import {}`", it.module),
        _ => "something".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn a_child_that_gets_its_own_mask_is_not_whom_a_late_one_is_for() {
        check(
            r#"
import os
import torch
if __name__ == "__main__":
    torch.cuda.is_available()
    os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"  # error: GP105
    os.system("CUDA_VISIBLE_DEVICES=GPU-8932f937 python train.py")
"#,
        );
    }

    #[test]
    fn a_shell_of_a_notebook_is_a_process_of_its_own() {
        check(
            "//- a.ipynb\n{\"cells\": [{\"cell_type\": \"code\", \"source\": [\"import torch\\n\", \"torch.cuda.init()\"]}, {\"cell_type\": \"code\", \"source\": [\"%%bash\\n\", \"export CUDA_VISIBLE_DEVICES=GPU-8932f937\"]}]}\n",
        );
    }

    #[test]
    fn asking_whether_cuda_is_available_freezes() {
        check(
            r#"
import os
import torch
if torch.cuda.is_available():
    print("cuda")
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP105
"#,
        );
    }

    #[test]
    fn the_freeze_may_be_in_another_module() {
        check(
            r#"
//- main.py
import os
import hardware
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP105
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
//- hardware.py
import torch
HAS_GPU = torch.cuda.is_available()
"#,
        );
    }

    #[test]
    fn a_function_that_is_called_freezes() {
        check(
            r#"
import os
import torch
def probe():
    return torch.cuda.is_available()
probe()
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP105
"#,
        );
    }

    #[test]
    fn a_function_that_nothing_calls_has_no_order() {
        check(
            r#"
import os
import torch
def probe():
    return torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn deleting_the_mask_is_as_late() {
        check(
            r#"
import os
import torch
torch.cuda.is_available()
del os.environ["CUDA_VISIBLE_DEVICES"]  # error: GP105
"#,
        );
    }

    #[test]
    fn setting_again_what_is_in_effect_is_no_finding() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
import torch
torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
"#,
        );
    }

    #[test]
    fn a_setting_for_a_child_is_not_late() {
        check(
            r#"
import os
import subprocess
import torch
torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.run(["python", "worker.py"])
"#,
        );
    }

    #[test]
    fn a_later_command_that_uses_no_gpu_is_no_reason() {
        check(
            r#"
import os
import subprocess
import torch
torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"  # error: GP105
subprocess.run(["nvidia-smi"])
"#,
        );
    }

    #[test]
    fn an_uncertain_freeze_is_not_claimed() {
        check(
            r#"
import os
import deepspeed
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn the_module_runs_once() {
        check(
            r#"
//- main.py
import pin
import torch
torch.cuda.is_available()
import pin
//- pin.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
"#,
        );
    }

    #[test]
    fn only_the_program_runs_its_main_block() {
        check(
            r#"
//- main.py
import helper
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
if __name__ == "__main__":
    pass
//- helper.py
import torch
if __name__ == "__main__":
    torch.cuda.is_available()
"#,
        );
    }
}
