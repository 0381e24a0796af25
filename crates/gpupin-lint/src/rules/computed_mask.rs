use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    project::{Literal, Project},
    rules::{Check, Rule, invalid_mask::is_placeholder},
    unit::{Unit, UnitId},
    value::{Spanned, Value},
    variables::given,
};

pub(super) const RULE: Rule = Rule {
    code: "GP110",
    name: "computed-mask",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("computed_mask.md"),
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
    for given in given(unit) {
        if given.name != "CUDA_VISIBLE_DEVICES" || given.is_temporary() {
            continue;
        }
        // Handing on what is there computes nothing.
        if given.value.value == Value::Variable("CUDA_VISIBLE_DEVICES".to_owned()) {
            continue;
        }
        let filled_in = |it: &Literal| matches!(it, Literal::Str(text) if is_placeholder(text));
        let is_computed = |value: &Spanned| {
            let known = project.known(id, value);
            known.is_empty() || known.iter().any(|it| filled_in(&it.literal))
        };
        // One way to it is enough.
        let computed = match &given.value.value {
            Value::OneOf(arms) => arms.iter().any(is_computed),
            _ => is_computed(given.value),
        };
        if !computed {
            continue;
        }
        let message = match &given.value.value {
            // Not `$1`, the argument of a script.
            Value::Variable(name) if name.starts_with(|it: char| it.is_alphabetic()) => {
                format!("the mask is what `{name}` says when the program starts")
            }
            _ => "the mask is computed: which GPU it shows is only known at run time".to_owned(),
        };
        let finding = rule.finding(id, given.event.span, message);
        found.push(finding.with_help(
            "a UUID, or an index with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, could be checked here",
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn an_environment_that_a_function_makes_is_what_its_child_gets() {
        check(
            r#"
import os, subprocess
def environment(gpu=1):
    env = os.environ.copy()
    env["CUDA_VISIBLE_DEVICES"] = str(gpu)
    return env
def pinned():
    env = dict(os.environ)
    env["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
    return env
subprocess.run(["python", "a.py"], env=environment(2))  # error: GP110
subprocess.run(["python", "a.py"], env=pinned())
"#,
        );
    }

    #[test]
    fn each_way_to_a_childs_mask_counts() {
        check(
            r#"
import os, subprocess
def start(command, device):
    env = os.environ.copy()
    if device.startswith("cuda:"):
        env["CUDA_VISIBLE_DEVICES"] = device.split(":")[1]
    elif device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    subprocess.Popen(["python", "a.py"], env=env)  # error: GP110
def other(command, device):
    env = os.environ.copy()
    if device.startswith("cuda:"):
        env["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
    else:
        env["CUDA_VISIBLE_DEVICES"] = ""
    subprocess.Popen(["python", "a.py"], env=env)
"#,
        );
    }

    #[test]
    fn a_value_of_another_module_is_known() {
        check(
            r#"
//- settings.py
GPU = "1"
//- main.py
import os
from settings import GPU
os.environ["CUDA_VISIBLE_DEVICES"] = GPU
"#,
        );
    }

    #[test]
    fn defaults_are_known_by_default() {
        check(
            r#"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = os.getenv("GPU", "0")
//- run.sh
export CUDA_VISIBLE_DEVICES="${GPU:-0}"
"#,
        );
    }

    #[test]
    fn handing_the_mask_on_is_fine() {
        check(
            r#"
import os
import subprocess
subprocess.run(["python", "a.py"], env={"CUDA_VISIBLE_DEVICES": os.environ["CUDA_VISIBLE_DEVICES"]})
"#,
        );
    }

    #[test]
    fn an_index_from_nvml_is_another_rules_business() {
        check(
            r#"
import os
import GPUtil
os.environ["CUDA_VISIBLE_DEVICES"] = str(GPUtil.getAvailable()[0])
"#,
        );
    }

    #[test]
    fn children_get_computed_masks_too() {
        check(
            r#"
import os
import subprocess
for rank in range(8):
    subprocess.Popen(["python", "a.py"], env={**os.environ, "CUDA_VISIBLE_DEVICES": str(rank)})  # error: GP110
"#,
        );
    }

    #[test]
    fn the_variable_a_mask_comes_from_is_named() {
        check_message(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["GPU"]
os.environ["CUDA_VISIBLE_DEVICES"] = pick()
"#,
            &[
                "the mask is what `GPU` says when the program starts | a UUID, or an index with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, could be checked here",
                "the mask is computed: which GPU it shows is only known at run time | a UUID, or an index with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, could be checked here",
            ],
        );
    }
}
