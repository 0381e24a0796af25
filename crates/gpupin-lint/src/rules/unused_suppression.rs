use crate::{
    finding::{Finding, Severity},
    needle::Needle,
    rules::{Check, Rule, nearest},
    suppress::{Used, UsedCode, edit},
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
    // What was not looked for may well be there.
    let is_unused = |it: &UsedCode<'_>| !it.covers && it.rule.is_some_and(looked_for);
    let kept: Vec<_> = used.codes.iter().filter(|it| !is_unused(it)).map(|it| it.text).collect();
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
            Some(_) if is_unused(code) => {
                let message = format!("`ignore[{text}]` covers no finding");
                let finding = rule.finding(unit, code.span, message);
                let title = match &*kept {
                    [] => "Remove the comment",
                    _ => "Remove what covers nothing",
                };
                found.push(match edit::keep_only(unit, used, &kept) {
                    Some(change) => finding.with_fix(title, edit::safety(used), vec![change]),
                    None => finding,
                });
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_all, check_fix, check_message, check_safety};

    #[test]
    fn the_fix_removes_comments_in_every_language() {
        check_fix(
            r#"
//- main.py
x = 1  # gpupin: ignore[GP403] reason
# gpupin: ignore[GP403] alone
def f():
    # gpupin: ignore[GP403, GP204]
    return 1  # noqa  # gpupin: ignore[GP403] reason
y = 1  # gpupin: ignore[GP403] reason # noqa: F401
//- run.sh
echo a  # gpupin: ignore[GP401]
//- run.bat
REM gpupin: ignore[GP103] r
echo a & REM gpupin: ignore[GP103] r
:: gpupin: ignore[GP103]
echo b
//- run.ps1
Write-Host a <# gpupin: ignore[GP103] #>
# gpupin: ignore[GP103]
Write-Host b
//- compose.yaml
services:
  a:
    image: b  # gpupin: ignore[GP501]
//- config.ini
; gpupin: ignore[GP201]
[gpu]
//- config.toml
a = 1 # gpupin: ignore[GP201]
//- config.json
{
  // gpupin: ignore[GP201]
  "a": 1, /* gpupin: ignore[GP201] */
  "b": 2
}
//- Dockerfile
# gpupin: ignore[GP501]
FROM x
//- Makefile
all: # gpupin: ignore[GP103]
	echo a
//- .env
# gpupin: ignore[GP103]
A=1
//- a.service
# gpupin: ignore[GP103]
[Service]
"#,
            r#"
//- main.py
x = 1
def f():
    return 1  # noqa
y = 1  # noqa: F401
//- run.sh
echo a
//- run.bat
echo a
echo b
//- run.ps1
Write-Host a
Write-Host b
//- compose.yaml
services:
  a:
    image: b
//- config.ini
[gpu]
//- config.toml
a = 1
//- config.json
{
  "a": 1,
  "b": 2
}
//- Dockerfile
FROM x
//- Makefile
all:
	echo a
//- .env
A=1
//- a.service
[Service]
"#,
        );
    }

    #[test]
    fn the_fix_leaves_what_is_in_use() {
        check_fix(
            "while True:\n    loss.backward()\n    total += loss  # gpupin: ignore[GP204,GP403,GP101] why\n",
            "while True:\n    loss.backward()\n    total += loss  # gpupin: ignore[GP403] why\n",
        );
    }

    #[test]
    fn the_fix_works_in_notebooks() {
        let notebook = |source: &str| {
            format!(
                r#"//- a.ipynb
{{"cells": [{{"cell_type": "code", "execution_count": null, "metadata": {{}}, "outputs": [], "source": [{source}]}}], "metadata": {{"language_info": {{"name": "python"}}}}, "nbformat": 4, "nbformat_minor": 5}}
"#
            )
        };
        check_fix(
            &notebook(
                r##""x = \"a\"  # gpupin: ignore[GP403] why\n", "# gpupin: ignore[GP204]\n", "y = 1""##,
            ),
            &notebook(r##""x = \"a\"\n", "\n", "y = 1""##),
        );
    }

    #[test]
    fn a_comment_in_a_text_is_part_of_it() {
        check_safety(
            "x = 1  # gpupin: ignore[GP403]\ny = \"\"\"\n# gpupin: ignore[GP403]\n\"\"\"\n",
            &[None, Some("the comment stands in a text, which changes")],
        );
    }

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
