use gpupin_policy::visibility::{EntryKind, Mask};

use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    project::{Literal, Project},
    rules::{Check, Rule, invalid_mask::hides_by_word},
    source::Language,
    unit::{Unit, UnitId},
    variables::given,
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
    for given in given(unit) {
        if given.name != "CUDA_VISIBLE_DEVICES" || given.is_temporary() || given.stays_in_shell() {
            continue;
        }
        for known in project.known(id, given.value) {
            let text = match known.literal {
                Literal::Str(text) => text,
                Literal::Int(number) => number.to_string(),
                _ => continue,
            };
            let Some(how) = hides(&text, unit.source.language) else { continue };
            let by_default = if known.by_default { "by default, " } else { "" };
            let message = format!("{by_default}{how} hides every GPU from this program");
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
    fn tests_may_hide_gpus_for_a_moment() {
        check(
            r#"
//- test_cpu.py
def test_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
"#,
        );
    }
}
