use gpupin_policy::visibility::{EntryKind, Mask};

use crate::{
    finding::{Finding, Severity},
    language::python::is_test_file,
    needle::Needle,
    project::{Literal, Project},
    rules::{Check, Rule, invalid_mask::hides_by_word},
    source::Language,
    unit::{Unit, UnitId},
    variables::{Recipient, given},
};

pub(super) const RULE: Rule = Rule {
    code: "GP112",
    name: "hides-every-gpu",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("hides_every_gpu.md"),
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
    // A test that hides GPUs is about the CPU.
    if is_test_file(&unit.source.path) {
        return;
    }
    for given in given(unit) {
        if given.name != "CUDA_VISIBLE_DEVICES" || given.is_temporary() || given.stays_in_shell() {
            continue;
        }
        let from = match given.to {
            Recipient::Child(_) => "the program started here",
            Recipient::Set(..) | Recipient::Replaced => "this program",
        };
        for known in project.known(id, given.value) {
            // The value stands where it is decided, which for a child's environment is not where the child starts.
            if known.unit == id && unit.cpu_arms.iter().any(|it| it.contains(known.span)) {
                continue;
            }
            let text = match known.literal {
                Literal::Str(text) => text,
                Literal::Int(number) => number.to_string(),
                _ => continue,
            };
            let Some(how) = hides(&text, unit.source.language) else { continue };
            let by_default = if known.by_default { "by default, " } else { "" };
            let message = format!("{by_default}{how} hides every GPU from {from}");
            let finding = rule.finding(id, given.event.span, message);
            found.push(
                finding.with_help("if a run on the CPU is meant, suppress this with a reason"),
            );
            break;
        }
    }
}

/// How a mask hides every GPU, as its author most likely knows.
fn hides(text: &str, language: Language) -> Option<String> {
    if text.is_empty() {
        // There, setting a variable to nothing removes it.
        let unsets = matches!(language, Language::Batch | Language::PowerShell);
        return (!unsets).then(|| "the empty mask".to_owned());
    }
    let mask = Mask::parse(text);
    let only_negative = match &*mask.entries {
        [entry] => entry.kind == EntryKind::Negative,
        _ => false,
    };
    (only_negative || hides_by_word(text)).then(|| format!("the mask `{text}`"))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn every_spelling_of_no_gpu_counts() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # error: GP112
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # error: GP112
os.environ["CUDA_VISIBLE_DEVICES"] = "none"  # error: GP112
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
"#,
        );
    }

    #[test]
    fn a_mask_that_is_a_mistake_for_sure_is_invalid_instead() {
        check("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"all\"\n");
    }

    #[test]
    fn an_empty_value_removes_the_variable_on_windows_shells() {
        check(
            "
//- run.ps1
$env:CUDA_VISIBLE_DEVICES = ''
python main.py
//- run.bat
set CUDA_VISIBLE_DEVICES=
python main.py
",
        );
    }

    #[test]
    fn compose_files_that_hand_on_an_unset_variable_hide_every_gpu() {
        check_message(
            r#"
//- compose.yaml
services:
  a:
    image: pytorch/pytorch
    environment:
      CUDA_VISIBLE_DEVICES: "${GPU:-}"
"#,
            &[
                "by default, the empty mask hides every GPU from this program | if a run on the CPU is meant, suppress this with a reason",
            ],
        );
    }

    #[test]
    fn a_mask_for_who_asked_for_the_cpu_is_what_was_asked_for() {
        check(
            r#"
import os, subprocess
class Server:
    def start(self):
        env = os.environ.copy()
        if self.device and self.device != "cpu":
            env["CUDA_VISIBLE_DEVICES"] = self.device
        elif self.device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        subprocess.Popen(["python", "serve.py"], env=env)
if args.cpu:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
if not args.use_gpu:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if args.no_cuda:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if args.no_cache:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # error: GP112
if not args.use_fast:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # error: GP112
if args.use_gpu:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # error: GP112
"#,
        );
    }

    #[test]
    fn messages_tell_this_program_from_the_one_it_starts() {
        let end = "| if a run on the CPU is meant, suppress this with a reason";
        let messages = ["this program", "the program started here"]
            .map(|it| format!("the empty mask hides every GPU from {it} {end}"));
        check_message(
            r#"
import os, subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = ""
subprocess.run(["python", "serve.py"], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
"#,
            &messages.each_ref().map(String::as_str),
        );
    }

    #[test]
    fn tests_may_hide_gpus() {
        check(
            r#"
//- test_cpu.py
def test_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
def test_child():
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
"#,
        );
    }
}
