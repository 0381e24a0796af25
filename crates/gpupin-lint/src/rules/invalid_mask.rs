use std::collections::BTreeSet;

use crate::{
    finding::{Finding, Safety, Severity},
    fix::script,
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::{Does, Runs, Unit, UnitId},
    variables::{Given, Recipient, given},
};

mod name;
mod value;

pub(super) use value::{hides_by_word, is_placeholder};

pub(super) const RULE: Rule = Rule {
    code: "GP108",
    name: "invalid-mask",
    severity: Severity::Error,
    default: true,
    docs: include_str!("invalid_mask.md"),
    needles: NEEDLES,
    check: Check::Project(check),
};

/// A name without one of these is not judged, so that the list is complete.
const NEEDLES: &[Needle] = &[
    Needle::new("CUDA_VI"),
    Needle::new("CUDA_DEVICE"),
    Needle::new("VISIBLE_DE"),
    Needle::new("DEVICE_ORDER"),
    Needle::new("ALLOC_CONF"),
];

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let mut judged = BTreeSet::new();
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        for given in given(unit) {
            if given.name == "CUDA_VISIBLE_DEVICES" {
                if given.is_temporary() {
                    continue;
                }
                for known in project.known(id, given.value) {
                    // A constant that several places use is wrong once.
                    if judged.insert((known.unit, known.span)) {
                        found.extend(value::judge(rule, project, id, unit, &given, &known));
                    }
                }
            } else if given.name == "NVIDIA_VISIBLE_DEVICES" {
                found.extend(judge_container_variable(rule, project, id, unit, &given));
            } else if !given.stays_in_shell() {
                found.extend(name::judge(rule, project, id, unit, &given));
            }
        }
    }
}

/// `NVIDIA_VISIBLE_DEVICES` where no container runtime sees it.
fn judge_container_variable(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
) -> Option<Finding> {
    let starts = |wanted: fn(&Runs) -> bool| {
        unit.events.iter().any(|it| matches!(&it.does, Does::Start(start) if wanted(&start.runs)))
    };
    let for_a_process = match (unit.source.language, given.to) {
        (_, Recipient::Child(start)) => is_python(&start.runs),
        _ if may_make_containers(&unit.source.text) || starts(leads_elsewhere) => false,
        (Language::Python | Language::Notebook, _) => !given.is_temporary(),
        (Language::Shell | Language::PowerShell | Language::Batch, _) => starts(is_python),
        _ => false,
    };
    for_a_process.then(|| {
        let message = "`NVIDIA_VISIBLE_DEVICES` is read when a container is made: in a process it changes nothing";
        let finding = rule.finding(id, given.event.span, message);
        let finding = finding.with_help("the mask of a process is `CUDA_VISIBLE_DEVICES`");
        let safety = if starts(|_| true) {
            Safety::Unsafe("what the file starts may make a container".to_owned())
        } else {
            Safety::Safe
        };
        script::without(finding, project, id, given.event.span, safety)
    })
}

fn is_python(runs: &Runs) -> bool {
    matches!(runs, Runs::PythonFile(_) | Runs::PythonModule(_) | Runs::Pytest(_))
}

/// Whether a start may lead to a container tool that is not seen.
fn leads_elsewhere(runs: &Runs) -> bool {
    matches!(runs, Runs::Script(_) | Runs::Unknown)
}

/// Whether a file speaks of a container tool. How it starts one (a client library, a command put together
/// elsewhere) does not matter.
fn may_make_containers(text: &str) -> bool {
    ["docker", "podman", "nerdctl", "apptainer", "singularity", "enroot", "kubernetes"]
        .iter()
        .any(|it| text.contains(it))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    #[test]
    fn usual_masks_are_fine() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
os.environ["CUDA_VISIBLE_DEVICES"] = "0, 1"
os.environ["CUDA_VISIBLE_DEVICES"] = "0,"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937,GPU-5b1c0f6e"
os.environ["CUDA_VISIBLE_DEVICES"] = "MIG-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"
"#,
        );
    }

    #[test]
    fn what_cuda_reads_as_something_else_is_reported() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0-1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "0x1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "0 1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "0;1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "0,,1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "1,1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "0,-1,1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "all"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "cuda:1"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "[0, 1]"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "'1'"  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-1,0"  # error: GP108
"#,
        );
    }

    #[test]
    fn words_that_hide_every_gpu_do_what_they_say() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "none"
os.environ["CUDA_VISIBLE_DEVICES"] = "NoDevFiles"
"#,
        );
    }

    #[test]
    fn values_that_are_no_texts_are_reported_in_python() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = 1  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = str(1)
os.environ.setdefault("CUDA_VISIBLE_DEVICES", 0)  # error: GP108
subprocess.run(["python", "a.py"], env={**os.environ, "CUDA_VISIBLE_DEVICES": 1})  # error: GP108
"#,
        );
        check_fix(
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = 1\n",
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"\n",
        );
        check_fix(
            "//- gpupin.toml\n//- main.py\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = 1\n",
            "//- main.py\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n",
        );
    }

    #[test]
    fn what_may_be_none_is_not_none() {
        check(
            r#"
import os
mask = os.environ.get("HIP_VISIBLE_DEVICES") or None
if mask is not None:
    os.environ["CUDA_VISIBLE_DEVICES"] = mask
os.environ["CUDA_VISIBLE_DEVICES"] = None  # error: GP108
"#,
        );
    }

    #[test]
    fn numbers_are_texts_in_yaml() {
        check(
            "
//- compose.yaml
services:
  a:
    image: pytorch/pytorch
    environment:
      CUDA_VISIBLE_DEVICES: 0
",
        );
    }

    #[test]
    fn misspelt_names_are_reported_where_they_reach_a_process() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICE"] = "0"  # error: GP108
os.environ["CUDA_VISBLE_DEVICES"] = "0"  # error: GP108
os.environ["CUDA_VISIBLE_DEIVCES"] = "0"  # error: GP108
os.environ["CUDA_DEVICES_ORDER"] = "PCI_BUS_ID"  # error: GP108
os.environ["PYTORCH_CUDA_ALLOC_CONFIG"] = "max_split_size_mb:512"  # error: GP108
os.environ["CUDA_VISIBLE_GPUS"] = "0"  # error: GP108
"#,
        );
        check(
            "
//- run.sh
CUDA_VISIBLE_DEVICE=0 python train.py  # error: GP108
export CUDA_VISBLE_DEVICES=1  # error: GP108
",
        );
        check_fix(
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICE\"] = \"0\"\n",
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"0\"\n",
        );
    }

    #[test]
    fn other_variables_and_a_projects_own_are_not_misspelt() {
        check(
            r#"
import os
os.environ["HIP_VISIBLE_DEVICES"] = "0"
os.environ["ROCR_VISIBLE_DEVICES"] = "0"
os.environ["ZE_AFFINITY_MASK"] = "0"
os.environ["ASCEND_RT_VISIBLE_DEVICES"] = "0"
os.environ["JAX_CUDA_VISIBLE_DEVICES"] = "0"
os.environ["MYAPP_CUDA_VISIBLE_DEVICES"] = "0"
os.environ["OLD_CUDA_VISIBLE_DEVICES"] = "0"
os.environ["_CUDA_VISIBLE_DEVICES"] = "0"
os.environ["CUDA_VISIBLE_DEVICES_0"] = "0"
os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
os.environ["PYTORCH_NPU_ALLOC_CONF"] = "expandable_segments:True"
"#,
        );
    }

    #[test]
    fn misspelt_names_in_command_strings_are_reported() {
        check(
            r#"
import os
os.system("CUDA_VISIBLE_DEVICE=0 python train.py")  # error: GP108
"#,
        );
    }

    #[test]
    fn the_variable_of_container_runtimes_does_nothing_in_a_process() {
        check(
            r#"
import os
os.environ["NVIDIA_VISIBLE_DEVICES"] = "0"  # error: GP108
"#,
        );
        check(
            "
//- run.sh
NVIDIA_VISIBLE_DEVICES=0 python train.py  # error: GP108
",
        );
    }

    #[test]
    fn the_variable_of_container_runtimes_belongs_where_containers_are_made() {
        check(
            r#"
//- run.py
import os
import subprocess
os.environ["NVIDIA_VISIBLE_DEVICES"] = "0"
subprocess.run(["docker", "compose", "up"])
//- run.sh
export NVIDIA_VISIBLE_DEVICES=0
docker compose up
//- compose.yaml
services:
  a:
    image: pytorch/pytorch
    environment:
      NVIDIA_VISIBLE_DEVICES: "0"
"#,
        );
    }

    #[test]
    fn a_constant_used_twice_is_wrong_once() {
        check(
            r#"
import os
GPUS = "0-3"
os.environ["CUDA_VISIBLE_DEVICES"] = GPUS  # error: GP108
os.environ["CUDA_VISIBLE_DEVICES"] = GPUS
"#,
        );
    }

    #[test]
    fn templates_and_placeholders_are_not_judged() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: pytorch/pytorch
    environment:
      - CUDA_VISIBLE_DEVICES={{ gpu }}
//- deploy.env
CUDA_VISIBLE_DEVICES=<your gpu>
"#,
        );
    }

    #[test]
    fn tests_may_set_what_they_like_for_a_moment() {
        check(
            r#"
//- test_mask.py
def test_all(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
"#,
        );
    }

    #[test]
    fn tests_may_put_the_mask_back_themselves() {
        check(
            r#"
//- test_init.py
import os, unittest
if is_hip:
    visible = "HIP_VISIBLE_DEVICES"
else:
    visible = "CUDA_VISIBLE_DEVICES"
class TestNotAvailable(unittest.TestCase):
    def setUp(self):
        self.old = os.environ.get(visible)
    def tearDown(self):
        if self.old is None:
            os.environ.pop(visible)
        else:
            os.environ[visible] = self.old
    def test_no_device(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = " "
class TestOther(unittest.TestCase):
    def tearDown(self):
        os.environ["OTHER"] = self.old
    def test_no_device(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = " "  # error: GP108
"#,
        );
    }

    #[test]
    fn messages_say_what_cuda_makes_of_the_text() {
        check_message(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0-1"
os.environ["CUDA_VISIBLE_DEVICES"] = "all"
os.environ["CUDA_VISIBLE_DEVICES"] = "1,1"
os.environ["CUDA_VISIBLE_DEVICES"] = "0,-1,1"
os.environ["CUDA_VISIBLE_DEVICES"] = " "
os.environ["CUDA_VISIBLE_DEVICES"] = "0,,1"
os.environ["CUDA_VISIBLE_DEVICES"] = 1
os.environ["CUDA_VISIBLE_DEVICE"] = "1"
"#,
            &[
                "`0-1` in the mask `0-1` looks like a range, but only the first number counts",
                "`all` in the mask `all` is a word, which ends the list: no GPU is visible | leave the variable unset to see every GPU",
                "`1` in the mask `1,1` says the same as an earlier entry, which makes CUDA fail to start: no GPU is visible",
                "`-1` in the mask `0,-1,1` ends the list, what follows does not count",
                "the mask is blank, which ends the list: no GPU is visible",
                "an entry of the mask `0,,1` is blank, which ends the list",
                "the value `1` of the mask is not a text: Python raises a `TypeError`",
                "nothing reads `CUDA_VISIBLE_DEVICE`: this should be `CUDA_VISIBLE_DEVICES`",
            ],
        );
    }
}
