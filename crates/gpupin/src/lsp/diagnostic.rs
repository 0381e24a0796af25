use gpupin_lint::finding::{Finding, Severity};
use gpupin_policy::Problem;
use lsp_types::{
    CodeDescription, Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag,
    NumberOrString,
};

use super::{client::Abilities, places::Places, text::Lines};
use crate::report::url;

const SOURCE: &str = "gpupin";

pub(super) fn of_finding(
    finding: &Finding,
    places: &mut Places<'_>,
    can: &Abilities,
) -> Diagnostic {
    let severity = match finding.severity {
        Severity::Error => DiagnosticSeverity::ERROR,
        Severity::Warning => DiagnosticSeverity::WARNING,
    };
    let related = finding.related.iter().map(|it| DiagnosticRelatedInformation {
        location: places.location(it.unit, it.span),
        message: it.message.clone(),
    });
    let related: Vec<_> = related.collect();
    let href = url(finding.rule).and_then(|it| it.parse().ok()).filter(|_| can.code_description);
    let is_unnecessary = finding.rule.name == "unused-suppression" && can.unnecessary_tag;
    Diagnostic {
        range: places.range(finding.unit, finding.span),
        severity: Some(severity),
        code: Some(NumberOrString::String(finding.rule.code.to_owned())),
        code_description: href.map(|href| CodeDescription { href }),
        source: Some(SOURCE.to_owned()),
        message: finding.message.clone(),
        related_information: Some(related).filter(|it| can.related_information && !it.is_empty()),
        tags: is_unnecessary.then(|| vec![DiagnosticTag::UNNECESSARY]),
        data: None,
    }
}

/// What is wrong in a policy or lock file.
pub(super) fn of_problem(problem: &Problem, lines: &Lines<'_>) -> Diagnostic {
    let (start, end) = (lines.position(problem.span.start), lines.position(problem.span.end));
    Diagnostic {
        range: lsp_types::Range { start, end },
        severity: Some(DiagnosticSeverity::ERROR),
        source: Some(SOURCE.to_owned()),
        message: problem.kind.to_string(),
        ..Diagnostic::default()
    }
}
