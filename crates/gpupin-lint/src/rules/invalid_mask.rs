use std::collections::BTreeSet;

use gpupin_policy::visibility::{EntryKind, Mask, MaskEntry, Quirk};

use crate::{
    finding::{Edit, Finding, Safety, Severity},
    needle::Needle,
    project::{Known, Literal, Project},
    rules::{Check, Rule},
    source::Language,
    unit::{Does, Event, Runs, SetHow, Unit, UnitId},
    variables::{Given, Recipient, given},
};

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

/// What a misspelt name can mean.
const KNOWN: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
];

/// Names that look like a known one and are variables of their own.
const OTHERS: &[&str] = &[
    "ASCEND_RT_VISIBLE_DEVICES",
    "ASCEND_VISIBLE_DEVICES",
    "DML_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "ROCR_VISIBLE_DEVICES",
    "XPU_VISIBLE_DEVICES",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "PYTORCH_NPU_ALLOC_CONF",
    "PYTORCH_MUSA_ALLOC_CONF",
    "PYTORCH_MLU_ALLOC_CONF",
    "PYTORCH_XPU_ALLOC_CONF",
];

/// Names further from the known one than a slip of the finger, that nothing reads.
const MIXED_UP: &[(&str, &str)] = &[
    ("CUDA_AVAILABLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICES_VISIBLE", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICE_VISIBLE", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISIBLE_GPU", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISIBLE_GPUS", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISUAL_DEVICES", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICE_ORDERING", "CUDA_DEVICE_ORDER"),
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
                        found.extend(judge_value(rule, project, id, unit, &given, &known));
                    }
                }
            } else if given.name == "NVIDIA_VISIBLE_DEVICES" {
                found.extend(judge_container_variable(rule, id, unit, &given));
            } else if !given.stays_in_shell() {
                found.extend(judge_name(rule, id, &given));
            }
        }
    }
}

fn judge_value(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
    known: &Known,
) -> Option<Finding> {
    let text = match &known.literal {
        Literal::Str(text) => text.clone(),
        Literal::NvmlIndex => return None,
        _ if wants_texts(unit, given) => return Some(not_a_text(rule, project, id, given, known)),
        Literal::Int(number) => number.to_string(),
        Literal::Bool(it) => it.to_string(),
        Literal::None | Literal::Float(_) | Literal::List(_) => return None,
    };
    if is_placeholder(&text) {
        return None;
    }
    let mask = Mask::parse(&text);
    let (entry, problem) = problem(&mask)?;
    let effect = if mask.hides_every_gpu() { ": no GPU is visible" } else { "" };
    let by_default = if known.by_default { "by default, " } else { "" };
    let message =
        format!("{by_default}`{}` in the mask `{text}` {problem}{effect}", entry.text.trim());
    let finding = rule.finding(id, given.event.span, message);
    let finding = at_literal(finding, id, given.event, known);
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "all" => finding.with_help("leave the variable unset to see every GPU"),
        _ => finding,
    })
}

/// Where the value stands, if that is another place.
fn at_literal(finding: Finding, id: UnitId, event: &Event, known: &Known) -> Finding {
    if known.unit == id && event.span.contains(known.span) {
        return finding;
    }
    finding.with_related(known.unit, known.span, "the value stands here")
}

/// The first entry that CUDA takes for something else than it looks like.
fn problem(mask: &Mask) -> Option<(&MaskEntry, String)> {
    for (at, entry) in mask.entries.iter().enumerate() {
        let is_last = at + 1 == mask.entries.len();
        // A comma at the end is harmless, and so is a blank that `strtoul` skips.
        let harmless = |quirk: Quirk| match quirk {
            Quirk::Padding | Quirk::Sign | Quirk::LeadingZeros => true,
            Quirk::Blank => is_last && at > 0,
            Quirk::Word => mask.entries.len() == 1 && hides_by_word(&entry.text),
            _ => false,
        };
        if let Some(quirk) = entry.quirks.iter().find(|it| !harmless(**it)) {
            return Some((entry, quirk.to_string()));
        }
        if !entry.taken {
            let rest = mask.entries.len() - at - 1;
            let ends = entry.kind == EntryKind::Negative && rest > 0;
            return ends.then(|| (entry, "ends the list, what follows does not count".to_owned()));
        }
    }
    None
}

/// Words that are no GPU to CUDA either, so that the mask does what its author wants.
pub(super) fn hides_by_word(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "none" | "void" | "nodevfiles" | "no")
}

/// Text that another program fills in before CUDA sees it, or that stands for a value in documentation.
pub(super) fn is_placeholder(text: &str) -> bool {
    ["{", "$", "<", "%", "..."].iter().any(|it| text.contains(it))
}

/// Whether anything but a text is an error where the value is given.
fn wants_texts(unit: &Unit, given: &Given<'_>) -> bool {
    let in_python = matches!(unit.source.language, Language::Python | Language::Notebook);
    let takes_texts = match given.to {
        Recipient::Set(how, _) => matches!(how, SetHow::Assign | SetHow::IfUnset | SetHow::Putenv),
        Recipient::Child(_) | Recipient::Replaced => true,
    };
    in_python && takes_texts
}

fn not_a_text(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    given: &Given<'_>,
    known: &Known,
) -> Finding {
    let written = project.unit(known.unit).source.slice(known.span).trim();
    let message =
        format!("the value `{written}` of the mask is not a text: Python raises a `TypeError`");
    let finding = rule.finding(id, given.event.span, message);
    let finding = at_literal(finding, id, given.event, known);
    match &known.literal {
        // Elsewhere the number may be used as a number too.
        Literal::Int(number) if known.span == given.value.span && written == number.to_string() => {
            finding.with_fix(
                "Put the index in quotes",
                Safety::Unsafe("today the program fails at this line".to_owned()),
                vec![Edit { span: known.span, replacement: format!("\"{number}\"") }],
            )
        }
        _ => finding,
    }
}

/// `NVIDIA_VISIBLE_DEVICES` where no container runtime sees it.
fn judge_container_variable(
    rule: &'static Rule,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
) -> Option<Finding> {
    let starts = |wanted: fn(&Runs) -> bool| {
        unit.events.iter().any(|it| matches!(&it.does, Does::Start(start) if wanted(&start.runs)))
    };
    let for_a_process = match (unit.source.language, given.to) {
        (_, Recipient::Child(start)) => is_python(&start.runs),
        (Language::Python | Language::Notebook, Recipient::Set(SetHow::Temporary, _)) => false,
        (Language::Python | Language::Notebook, _) => !starts(may_make_containers),
        (Language::Shell | Language::PowerShell | Language::Batch, _) => {
            starts(is_python) && !starts(may_make_containers)
        }
        _ => false,
    };
    for_a_process.then(|| {
        let message = "`NVIDIA_VISIBLE_DEVICES` is read when a container is made: in a process it changes nothing";
        let finding = rule.finding(id, given.event.span, message);
        finding.with_help("the mask of a process is `CUDA_VISIBLE_DEVICES`")
    })
}

fn is_python(runs: &Runs) -> bool {
    matches!(runs, Runs::PythonFile(_) | Runs::PythonModule(_) | Runs::Pytest(_))
}

/// Container tools, and what may lead to one.
fn may_make_containers(runs: &Runs) -> bool {
    match runs {
        Runs::Other(program) => {
            let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
            let tools = [
                "docker",
                "podman",
                "nerdctl",
                "compose",
                "apptainer",
                "singularity",
                "enroot",
                "srun",
            ];
            tools.iter().any(|it| name.contains(it))
        }
        Runs::Script(_) | Runs::Unknown => true,
        Runs::Gpupin(inner) => may_make_containers(inner),
        Runs::PythonFile(_) | Runs::PythonModule(_) | Runs::Pytest(_) => false,
    }
}

fn judge_name(rule: &'static Rule, id: UnitId, given: &Given<'_>) -> Option<Finding> {
    let meant = meant(given.name)?;
    let name = given.name;
    let message = format!("nothing reads `{name}`: this should be `{meant}`");
    let finding = rule.finding(id, given.event.span, message);
    Some(match given.name_span {
        Some(span) => finding.with_fix(
            format!("Rename to `{meant}`"),
            Safety::Unsafe(
                "the setting takes effect, which can change the GPU that is used".to_owned(),
            ),
            vec![Edit { span, replacement: meant.to_owned() }],
        ),
        None => finding,
    })
}

/// The variable that a misspelt name means.
fn meant(name: &str) -> Option<&'static str> {
    if KNOWN.contains(&name) || OTHERS.contains(&name) {
        return None;
    }
    if !NEEDLES.iter().any(|it| name.contains(it.text)) {
        return None;
    }
    if let Some((_, meant)) = MIXED_UP.iter().find(|it| it.0 == name) {
        return Some(meant);
    }
    let is_near = |known: &&&str| {
        // `_CUDA_VISIBLE_DEVICES` and `CUDA_VISIBLE_DEVICES_0` are a project's own.
        let own = name.ends_with(**known)
            || name.strip_prefix(**known).is_some_and(|it| {
                it.starts_with('_') || it.ends_with(|c: char| c.is_ascii_digit())
            });
        !own && strsim::osa_distance(name, known) <= 2
    };
    KNOWN.iter().filter(is_near).min_by_key(|it| strsim::osa_distance(name, it)).copied()
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
            "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n",
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
    fn messages_say_what_cuda_makes_of_the_text() {
        check_message(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0-1"
os.environ["CUDA_VISIBLE_DEVICES"] = "all"
os.environ["CUDA_VISIBLE_DEVICES"] = "1,1"
os.environ["CUDA_VISIBLE_DEVICES"] = "0,-1,1"
os.environ["CUDA_VISIBLE_DEVICES"] = 1
os.environ["CUDA_VISIBLE_DEVICE"] = "1"
"#,
            &[
                "`0-1` in the mask `0-1` looks like a range, but only the first number counts",
                "`all` in the mask `all` is a word, which ends the list: no GPU is visible | leave the variable unset to see every GPU",
                "`1` in the mask `1,1` says the same as an earlier entry, which hides every GPU: no GPU is visible",
                "`-1` in the mask `0,-1,1` ends the list, what follows does not count",
                "the value `1` of the mask is not a text: Python raises a `TypeError`",
                "nothing reads `CUDA_VISIBLE_DEVICE`: this should be `CUDA_VISIBLE_DEVICES`",
            ],
        );
    }
}
