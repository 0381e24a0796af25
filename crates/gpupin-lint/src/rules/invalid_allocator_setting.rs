use std::collections::BTreeSet;

use crate::{
    allocator::{self, Problem, ProblemKind, VARIABLES},
    finding::{Edit, Finding, Safety, Severity},
    needle::Needle,
    project::{Known, Literal, Project},
    rules::{Check, Rule, invalid_mask::is_placeholder},
    unit::UnitId,
    variables::{Given, given},
};

pub(super) const RULE: Rule = Rule {
    code: "GP401",
    name: "invalid-allocator-setting",
    severity: Severity::Error,
    default: true,
    docs: include_str!("invalid_allocator_setting.md"),
    needles: &[Needle::new("ALLOC_CONF")],
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let mut judged = BTreeSet::new();
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        for given in given(unit) {
            if !VARIABLES.contains(&given.name) || given.is_temporary() {
                continue;
            }
            for known in project.known(id, given.value) {
                let Literal::Str(text) = &known.literal else { continue };
                if is_placeholder(text) || !judged.insert((known.unit, known.span)) {
                    continue;
                }
                for problem in allocator::problems(text) {
                    found.push(finding(rule, project, id, &given, &known, text, &problem));
                }
            }
        }
    }
}

fn finding(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    given: &Given<'_>,
    known: &Known,
    text: &str,
    problem: &Problem,
) -> Finding {
    let source = &project.unit(known.unit).source;
    let start = source.find_in(known.span, text).map(|it| it.start as usize);
    let place = start.map(|start| {
        crate::span::Span::new(start + problem.range.start, start + problem.range.end)
    });
    let is_here = known.unit == id && given.event.span.contains(known.span);
    let mut finding = rule.finding(id, given.event.span, problem.kind.to_string());
    if !is_here {
        finding =
            finding.with_related(known.unit, place.unwrap_or(known.span), "the value stands here");
    }
    if let ProblemKind::UnknownKey { nearest: Some(nearest), .. } = problem.kind {
        finding = finding.with_help(format!("did you mean `{nearest}`?"));
    }
    match (place, &problem.should_be) {
        (Some(span), Some(replacement)) if is_here => finding.with_fix(
            format!("Write `{replacement}`"),
            Safety::Unsafe("the setting takes effect, where PyTorch fails today".to_owned()),
            vec![Edit { unit: id, span, replacement: replacement.clone() }],
        ),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    #[test]
    fn every_variable_and_language_is_read() {
        check(
            r#"
//- main.py
import os
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb=512"  # error: GP401
os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segment:True"  # error: GP401
os.environ.setdefault("PYTORCH_HIP_ALLOC_CONF", "expandable_segments:true")  # error: GP401
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:512"
//- run.sh
export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512  # error: GP401
//- Dockerfile
FROM pytorch/pytorch
ENV PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512  # error: GP401
"#,
        );
    }

    #[test]
    fn each_problem_of_a_value_is_one_finding() {
        check(
            r#"
import os
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb=512,expandable_segments:yes"  # error: GP401, GP401
"#,
        );
    }

    #[test]
    fn a_value_put_together_is_read() {
        check(
            r#"
import os
SIZE = 512
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = f"max_split_size_mb:{SIZE}"
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = f"max_split_mb:{SIZE}"  # error: GP401
"#,
        );
    }

    #[test]
    fn a_value_that_is_not_known_is_not_judged() {
        check(
            r#"
import os
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = os.environ["CONF"]
"#,
        );
    }

    #[test]
    fn messages_name_the_key() {
        check_message(
            r#"
import os
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segment:True"
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb=512"
"#,
            &[
                "no setting of PyTorch's allocator is called `expandable_segment` | did you mean `expandable_segments`?",
                "`max_split_size_mb` is separated from its value by `=`, PyTorch wants `:`",
            ],
        );
    }

    #[test]
    fn the_fix_changes_the_part_that_is_wrong() {
        check_fix(
            "import os\nos.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"backend:native,max_split_size_mb=512\"\n",
            "import os\nos.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"backend:native,max_split_size_mb:512\"\n",
        );
    }
}
