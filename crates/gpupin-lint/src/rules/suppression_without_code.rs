use crate::{
    finding::{Finding, Safety, Severity},
    needle::Needle,
    rules::{Check, Rule},
    suppress::{Used, edit},
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
        let finding = finding.with_help("name the rules: `gpupin: ignore[GP201] reason`; for a whole file, use `lint.per-file-ignores` of the policy");
        // What is reported about comments is no reason to have one.
        let codes: Vec<_> =
            used.uncovered.iter().copied().filter(|it| !it.starts_with("GP0")).collect();
        let edit = if codes.is_empty() { None } else { edit::name(unit, used, &codes) };
        found.push(match edit {
            Some(edit) => {
                let why = "what is found there is then no longer reported".to_owned();
                let title = format!("Name what it is for: {}", codes.join(", "));
                finding.with_fix(title, Safety::Unsafe(why), vec![edit])
            }
            None => finding,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_all, check_fix, check_no_fix};

    #[test]
    fn the_fix_names_what_is_found_there() {
        check_fix(
            r#"
import torch
while True:
    loss.backward()
    total += loss  # gpupin: ignore on purpose
    total += loss  # gpupin: ignore[] on purpose
    # gpupin: noqa
    device = "cuda" if torch.cuda.is_available() else "cpu"
//- run.sh
export PYTORCH_ALLOC_CONF=backend:foo  # gpupin: disable[GP1] for a test
"#,
            r#"
import torch
while True:
    loss.backward()
    total += loss  # gpupin: ignore[GP403] on purpose
    total += loss  # gpupin: ignore[GP403] on purpose
    # gpupin: ignore[GP204]
    device = "cuda" if torch.cuda.is_available() else "cpu"
//- run.sh
export PYTORCH_ALLOC_CONF=backend:foo  # gpupin: ignore[GP401] for a test
"#,
        );
        check_no_fix("x = 1  # gpupin: ignore\n");
    }

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
