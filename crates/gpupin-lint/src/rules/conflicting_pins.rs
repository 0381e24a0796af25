use crate::{
    finding::{Finding, Severity},
    fix::pin,
    needle::Needle,
    program::{
        Problem, Write,
        pins::{by_place, entries},
    },
    project::{Literal, Project},
    rules::{Check, Rule},
};

pub(super) const RULE: Rule = Rule {
    code: "GP107",
    name: "conflicting-pins",
    severity: Severity::Error,
    default: true,
    docs: include_str!("conflicting_pins.md"),
    needles: &[
        Needle::new("CUDA_VISIBLE_DEVICES"),
        Needle::new("CUDA_DEVICE_ORDER"),
        Needle::new("_ALLOC_CONF"),
    ],
    check: Check::Programs(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let conflicts = by_place(project, |it| match it {
        Problem::Conflict { write, before } => {
            Some(((write.unit, project.write_span(*write)), (*write, *before)))
        }
        _ => None,
    });
    for ((write, before), programs) in conflicts {
        let (name, value) = text(project, write);
        let (_, earlier) = text(project, before);
        let message = format!(
            "`{name}` is set to `{value}` here and to `{earlier}` before: the later one wins"
        );
        let mut finding = rule
            .finding(write.unit, project.write_span(write), message)
            .with_related(before.unit, project.write_span(before), "set before");
        finding.programs = entries(&programs);
        let places = [(before.unit, before.event), (write.unit, write.event)];
        found.push(pin::cure(finding, project, &programs, &places));
    }
}

/// The variable and value of a write whose value is known.
fn text(project: &Project<'_>, write: Write) -> (String, String) {
    let Some((name, value)) = project.written(write) else {
        return (String::new(), String::new());
    };
    let known = project.known(write.unit, value).into_iter().next();
    let text = known.map(|it| match it.literal {
        Literal::Str(text) => text,
        Literal::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    });
    (name.to_owned(), text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn two_files_of_one_program_disagree() {
        check(
            r#"
//- main.py
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
import tts
if __name__ == "__main__":
    tts.speak()
//- tts.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # error: GP107
import torch
def speak():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn the_same_value_twice_is_no_conflict() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn two_ways_of_a_branch_do_not_conflict() {
        check(
            r#"
import os
if os.name == "nt":
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
else:
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn a_default_is_not_overwritten() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
"#,
        );
    }

    #[test]
    fn a_script_may_start_one_program_on_each_gpu() {
        check(
            "//- run.sh\nexport CUDA_VISIBLE_DEVICES=0\npython a.py &\nexport CUDA_VISIBLE_DEVICES=1\npython b.py\n",
        );
    }
}
