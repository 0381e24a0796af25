use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    rules::{Check, Rule, nearest},
    suppress::Used,
    unit::UnitId,
};

pub(super) const RULE: Rule = Rule {
    code: "GP001",
    name: "unused-suppression",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("unused_suppression.md"),
    needles: &[Needle::new("gpupin:")],
    check: Check::Suppression(check),
};

fn check(
    rule: &'static Rule,
    unit: UnitId,
    used: &Used<'_>,
    looked_for: &dyn Fn(&Rule) -> bool,
    found: &mut Vec<Finding>,
) {
    for code in &used.codes {
        let text = code.text;
        match code.rule {
            None => {
                let finding = rule.finding(unit, code.span, format!("no rule is called `{text}`"));
                found.push(match nearest(text) {
                    Some(near) => finding.with_help(format!("did you mean `{near}`?")),
                    None => finding,
                });
            }
            // What was not looked for may well be there.
            Some(named) if !code.covers && looked_for(named) => {
                let message = format!("`ignore[{text}]` covers no finding");
                found.push(rule.finding(unit, code.span, message));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_all, check_message};

    #[test]
    fn a_code_that_covers_a_finding_is_in_use() {
        check_all(
            "
while True:
    loss.backward()
    total += loss  # gpupin: ignore[GP403] sums two steps
",
        );
    }

    #[test]
    fn comments_of_every_language_are_judged() {
        check_all(
            "
//- run.sh
export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=512  # gpupin: ignore[GP401] fails on purpose
# gpupin: ignore[invalid-allocator-setting] fails on purpose too
export PYTORCH_ALLOC_CONF=backend:foo
echo  # gpupin: ignore[GP401] nothing here  # error: GP001
",
        );
    }

    #[test]
    fn one_unused_code_of_two_is_reported() {
        check_all(
            "
while True:
    loss.backward()
    total += loss  # gpupin: ignore[GP403, GP204] sums two steps  # error: GP001
",
        );
    }

    #[test]
    fn a_rule_that_was_not_looked_for_proves_nothing() {
        check("x = 1  # gpupin: ignore[GP403]\n");
    }

    #[test]
    fn an_unknown_code_is_reported_with_the_nearest() {
        check_message(
            "x = 1  # gpupin: ignore[GP40]\ny = 1  # gpupin: ignore[accumulate-graph]\nz = 1  # gpupin: ignore[noqa]\n",
            &[
                "no rule is called `GP40` | did you mean `GP401`?",
                "no rule is called `accumulate-graph` | did you mean `accumulates-graph`?",
                "no rule is called `noqa`",
            ],
        );
    }

    #[test]
    fn it_cannot_be_suppressed_by_a_comment() {
        check_all("x = 1  # gpupin: ignore[GP001]  # error: GP001\n");
    }
}
