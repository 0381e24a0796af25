use gpupin_lint::finding::Finding;
use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind, Position};

use super::{client::Abilities, places::Places};
use crate::commands::rule;

/// The pages of what was found at a place, each below the finding's message and help.
pub(super) fn at(
    position: Position,
    findings: &[&Finding],
    places: &mut Places<'_>,
    can: &Abilities,
) -> Option<Hover> {
    let mut hit = Vec::new();
    for finding in findings {
        let range = places.range(finding.unit, finding.span);
        if range.start <= position && position <= range.end {
            hit.push((*finding, range));
        }
    }
    let (_, range) = *hit.first()?;
    let texts: Vec<_> = hit.iter().map(|it| text(it.0)).collect();
    let kind = if can.markdown { MarkupKind::Markdown } else { MarkupKind::PlainText };
    let contents = MarkupContent { kind, value: texts.join("\n---\n\n") };
    Some(Hover { contents: HoverContents::Markup(contents), range: Some(range) })
}

fn text(finding: &Finding) -> String {
    let help = finding.help.iter().map(|it| format!("{it}\n\n"));
    help.chain([rule::markdown(finding.rule)]).collect()
}
