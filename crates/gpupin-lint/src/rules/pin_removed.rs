use crate::{
    finding::{Finding, Safety, Severity},
    fix::pin,
    needle::Needle,
    program::{
        MASK, Problem,
        pins::{by_place, entries},
    },
    project::Project,
    rules::{Check, Rule},
};

pub(super) const RULE: Rule = Rule {
    code: "GP111",
    name: "pin-removed",
    severity: Severity::Error,
    default: true,
    docs: include_str!("pin_removed.md"),
    needles: &[
        Needle::new("CUDA_VISIBLE_DEVICES"),
        Needle::new("environ.clear"),
        Needle::new("environ ="),
    ],
    check: Check::Programs(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let removed = by_place(project, |it| match it {
        Problem::Removed { unit, event } => Some(((*unit, project.event(*unit, *event).span), it)),
        Problem::Widened { write, .. } => Some(((write.unit, project.write_span(*write)), it)),
        _ => None,
    });
    for (problem, programs) in removed {
        let mut places = Vec::new();
        let mut finding = match problem {
            Problem::Removed { unit, event } => {
                places.push((*unit, *event));
                let message = format!(
                    "`{MASK}` is removed before CUDA reads it: a launcher's pin is lost, every GPU is visible"
                );
                rule.finding(*unit, project.event(*unit, *event).span, message)
            }
            Problem::Widened { write, before } => {
                places.extend([(before.unit, before.event), (write.unit, write.event)]);
                let message = format!("this `{MASK}` shows more GPUs than the one set before");
                rule.finding(write.unit, project.write_span(*write), message).with_related(
                    before.unit,
                    project.write_span(*before),
                    "the narrower mask",
                )
            }
            _ => continue,
        };
        finding.programs = entries(&programs);
        let is_removal = matches!(problem, Problem::Removed { .. });
        let mut finding = pin::cure(finding, project, &programs, &places);
        if let Some(fix) = finding.fix.as_mut().filter(|it| is_removal && it.safety == Safety::Safe)
        {
            fix.safety = Safety::Unsafe("it may have been removed on purpose".to_owned());
        }
        found.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn the_mask_of_a_launcher_is_thrown_away() {
        check(
            r#"
import os
os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # error: GP111
import torch
torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_mask_set_again_is_no_finding() {
        check(
            r#"
import os
os.environ.pop("CUDA_VISIBLE_DEVICES", None)
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
import torch
torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_wider_mask_replaces_a_narrower_one() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"  # error: GP111
"#,
        );
    }

    #[test]
    fn clearing_the_environment_removes_the_mask() {
        check(
            r#"
import os
os.environ.clear()  # error: GP111
import torch
torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_program_without_gpu_work_may_remove_it() {
        check("import os\nos.environ.pop(\"CUDA_VISIBLE_DEVICES\", None)\n");
    }

    #[test]
    fn a_test_that_removes_it_for_itself_is_no_finding() {
        check(
            r#"
//- tests/test_env.py
import torch
def test_without_mask(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert torch.zeros(1).sum() == 0
"#,
        );
    }
}
