use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    unit::{Does, Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP204",
    name: "silent-cpu-fallback",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("silent_cpu_fallback.md"),
    needles: &[
        Needle::new("\"cpu"),
        Needle::new("'cpu"),
        Needle::new("/CPU"),
        Needle::new("/cpu"),
        Needle::new("CPUExecutionProvider"),
    ],
    check: Check::Unit(check),
};

fn check(rule: &'static Rule, _: &Project<'_>, id: UnitId, unit: &Unit, found: &mut Vec<Finding>) {
    for event in &unit.events {
        let Does::CpuFallback(fallback) = &event.does else { continue };
        let message = match fallback.kind {
            "provider list" => "this provider list falls back to the CPU without a word".to_owned(),
            kind => format!("this {kind} goes on with the CPU without a word"),
        };
        let finding = rule.finding(id, event.span, message);
        found.push(finding.with_help("raise, log it at warning or above, or let the user choose"));
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn every_form_of_a_silent_fallback_is_reported() {
        check(
            r#"
import torch
import onnxruntime
a = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
b = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")  # error: GP204
s = onnxruntime.InferenceSession("a", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])  # error: GP204
if torch.cuda.is_available():  # error: GP204
    device = "cuda"
else:
    device = "cpu"
"#,
        );
    }

    #[test]
    fn a_fallback_that_tells_or_fails_is_fine() {
        check(
            r#"
import logging
import torch
if torch.cuda.is_available():
    device = "cuda"
else:
    logging.warning("no GPU")
    device = "cpu"
if torch.cuda.is_available():
    other = "cuda"
else:
    raise RuntimeError("no GPU")
"#,
        );
    }

    #[test]
    fn the_users_choice_is_no_fallback() {
        check(
            r#"
def load(use_gpu):
    return "cuda" if use_gpu else "cpu"
"#,
        );
    }
}
