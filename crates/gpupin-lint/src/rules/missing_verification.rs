use crate::{
    finding::{Finding, Severity},
    program::{Happening, Kind, Program, suite},
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::{Check as Checked, Does, EventId, Outcome, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP301",
    name: "missing-verification",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("missing_verification.md"),
    // Programs are found by the survey, whatever bytes they hold.
    needles: &[],
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let unverified = project.programs.iter().filter_map(|program| {
        let language = project.unit(program.entry).source.language;
        let is_program = matches!(language, Language::Python | Language::Notebook)
            && program.kind != Kind::Module;
        let by = program.first_use().filter(|_| is_program)?;
        checks(project, program).next().is_none().then_some((program, by.via))
    });
    for suite in suite::suites(project, unverified) {
        let (unit, span) = suite.place(project);
        let message = format!(
            "{} never {} which GPU {} got",
            suite.subject(),
            suite.verb("checks", "check"),
            suite.verb("it", "they"),
        );
        let mut finding = rule.finding(unit, span, message).with_help(
            "compare name, UUID or capability of `cuda:0` with what is meant, and raise",
        );
        finding.programs = suite.entries();
        found.push(finding);
    }
}

/// The checks that can fail a program: in its own file and in those it imports itself, as far as they run.
pub(super) fn checks<'p>(
    project: &'p Project<'_>,
    program: &'p Program,
) -> impl Iterator<Item = (UnitId, EventId, &'p Checked)> + 'p {
    let own = |it: &&Happening| it.unit == program.entry || program.direct.contains(&it.unit);
    program.trace.iter().filter(own).filter_map(|it| match &project.event(it.unit, it.event).does {
        Does::Check(check) if check.outcome == Outcome::Fails => Some((it.unit, it.event, check)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn printing_the_name_is_no_check() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
import torch  # error: GP301
if __name__ == "__main__":
    print(torch.cuda.get_device_name(0))
"#,
        );
    }

    #[test]
    fn an_assertion_is_a_check() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
import torch
if __name__ == "__main__":
    assert "3090" in torch.cuda.get_device_name(0)
"#,
        );
    }

    #[test]
    fn a_module_is_not_asked() {
        check("import torch\ndef run():\n    pass\n");
    }
}
