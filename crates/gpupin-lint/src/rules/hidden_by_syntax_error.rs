use crate::{
    finding::{Finding, Severity},
    project::Project,
    rules::{Check, Rule},
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
    for span in &unit.possible {
        let text = unit.source.slice(*span).trim();
        let message =
            format!("possibly chooses a GPU: `{text}` stands in code that does not parse");
        let finding = rule.finding(id, *span, message);
        // The nearest error in front of it is most likely the one that hides it.
        let error = unit.syntax_errors.iter().rfind(|it| it.0.start <= span.start);
        found.push(match error.or(unit.syntax_errors.first()) {
            Some((place, error)) => finding.with_related(id, *place, error.clone()),
            None => finding,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn a_broken_file_is_read_around_its_error() {
        check(
            "
import torch
torch.cuda.set_device(1)
def broken(
",
        );
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
