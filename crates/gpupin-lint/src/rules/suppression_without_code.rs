use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    rules::{Check, Rule},
    suppress::Used,
    unit::UnitId,
};

pub(super) const RULE: Rule = Rule {
    code: "GP002",
    name: "suppression-without-code",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("suppression_without_code.md"),
    needles: &[Needle::new("gpupin:")],
    check: Check::Suppression(check),
};

fn check(
    rule: &'static Rule,
    unit: UnitId,
    used: &Used<'_>,
    _: &dyn Fn(&Rule) -> bool,
    found: &mut Vec<Finding>,
) {
    if used.codes.is_empty() {
        let message = "this comment names no rule and suppresses nothing";
        let finding = rule.finding(unit, used.suppression.span, message);
        found.push(finding.with_help("name the rules: `gpupin: ignore[GP201] reason`; for a whole file, use `lint.per-file-ignores` of the policy"));
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_all};

    #[test]
    fn nothing_is_suppressed_without_a_code() {
        check_all(
            "
while True:
    loss.backward()
    total += loss  # gpupin: ignore  # error: GP002, GP403
",
        );
    }

    #[test]
    fn an_empty_list_is_no_code() {
        check("x = 1  # gpupin: ignore[] later  # error: GP002\n");
    }
}
