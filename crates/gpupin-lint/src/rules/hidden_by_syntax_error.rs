use crate::{
    finding::{Finding, Severity},
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::{Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP003",
    name: "hidden-by-syntax-error",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("hidden_by_syntax_error.md"),
    // What it reports are the hits of other rules' needles.
    needles: &[],
    check: Check::Unit(check),
};

fn check(rule: &'static Rule, _: &Project<'_>, id: UnitId, unit: &Unit, found: &mut Vec<Finding>) {
    let text = &unit.source.text;
    let what = if unit.source.language == Language::Python { "code" } else { "text" };
    let mut last_line = None;
    for span in &unit.possible {
        let line = text[..span.start as usize].rfind('\n');
        // One finding per line, and none for ordinal 0, which is right under a pin.
        if last_line == Some(line) || is_zero(&text[span.end as usize..]) {
            continue;
        }
        last_line = Some(line);
        let shown = unit.source.slice(*span);
        let message = format!("possibly a choice of GPU: `{shown}` in {what} that does not parse");
        let finding = rule.finding(id, *span, message);
        // The nearest error in front of it is most likely the one that hides it.
        let error = unit.syntax_errors.iter().rfind(|it| it.0.start <= span.start);
        found.push(match error.or(unit.syntax_errors.first()) {
            Some((place, error)) => finding.with_related(id, *place, error.clone()),
            None => finding,
        });
    }
}

fn is_zero(text: &str) -> bool {
    text.strip_prefix('0').is_some_and(|it| !it.starts_with(|it: char| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn what_a_broken_compose_file_gives_to_containers_is_possible() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: x
   bad: 1
    gpus: all  # error: GP003
    environment: {NVIDIA_VISIBLE_DEVICES: all}  # error: GP003
"#,
        );
    }

    #[test]
    fn a_broken_file_of_data_is_possible_from_the_error_on() {
        check(
            r#"
//- compose.yaml
services:
  a:
    image: x
    environment:
      CUDA_VISIBLE_DEVICES: GPU-8932f937
  b:
    image: [x
    environment:
      CUDA_VISIBLE_DEVICES: 1  # error: GP003
"#,
        );
        check_message(
            r#"
//- note.ipynb
{"cells": [{"cell_type": "code", "source": ["torch.zeros(1, device='cuda:1')"]}
"#,
            &["possibly a choice of GPU: `cuda:` in text that does not parse"],
        );
    }

    #[test]
    fn what_the_parser_recovers_is_certain_and_not_reported_here() {
        check(
            "
import torch
torch.cuda.set_device(1)
def broken(
",
        );
    }

    #[test]
    fn what_it_cannot_recover_is_possible() {
        check_message(
            "
model = load(device=\"cuda:1)
",
            &["possibly a choice of GPU: `cuda:` in code that does not parse"],
        );
        check(
            "
torch.cuda.set_device(1  # error: GP003
x = 2
",
        );
    }

    #[test]
    fn one_line_is_one_finding() {
        check("a = load(device=\"cuda:1 cuda:2)  # error: GP003\n");
    }

    #[test]
    fn ordinal_0_is_fine_in_broken_code_too() {
        check("model = load(device=\"cuda:0)\n");
    }

    #[test]
    fn comments_of_a_broken_file_hide_nothing() {
        check(
            "
def broken(
# cuda:1
",
        );
    }
}
