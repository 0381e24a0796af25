//! Code actions: fixes, suppressions, and all safe fixes of a file at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gpupin_lint::{
    finding::{Edit, Finding, NewFile, Safety},
    fix::{Wanted, apply, suppression},
    source::Charset,
    unit::UnitId,
};
use lsp_types::{
    CodeAction, CodeActionContext, CodeActionKind, CreateFile, DocumentChangeOperation,
    DocumentChanges, OneOf, OptionalVersionedTextDocumentIdentifier, Range, ResourceOp,
    TextDocumentEdit, TextEdit, WorkspaceEdit,
};

use super::{client::Abilities, diagnostic, places::Places};

pub(super) const FIX_ALL: CodeActionKind = CodeActionKind::new("source.fixAll.gpupin");

/// What can be done about the findings of one file that touch a range.
pub(super) fn at(
    range: Range,
    context: &CodeActionContext,
    findings: &[&Finding],
    places: &mut Places<'_>,
    can: &Abilities,
) -> Vec<CodeAction> {
    let mut actions = Vec::new();
    if is_wanted(&CodeActionKind::QUICKFIX, context) {
        let touched: Vec<&Finding> = findings
            .iter()
            .copied()
            .filter(|it| {
                let place = places.range(it.unit, it.span);
                place.start <= range.end && range.start <= place.end
            })
            .collect();
        for finding in &touched {
            actions.extend(fix(finding, places, can));
        }
        for finding in &touched {
            actions.extend(suppress(finding, places, can));
        }
    }
    if is_wanted(&FIX_ALL, context) {
        actions.extend(fix_all(findings, places, can));
    }
    actions
}

/// Kinds are hierarchical: who asks for `source` gets `source.fixAll.gpupin`.
fn is_wanted(kind: &CodeActionKind, context: &CodeActionContext) -> bool {
    let Some(only) = &context.only else { return true };
    only.iter().any(|it| {
        let rest = kind.as_str().strip_prefix(it.as_str());
        rest.is_some_and(|it| it.is_empty() || it.starts_with('.'))
    })
}

fn fix(finding: &Finding, places: &mut Places<'_>, can: &Abilities) -> Option<CodeAction> {
    let fix = finding.fix.as_ref()?;
    let makes_files = !fix.new_files.is_empty();
    if (makes_files && !can.new_files) || fix.edits.iter().any(|it| is_untouchable(places, it.unit))
    {
        return None;
    }
    let title = match &fix.safety {
        Safety::Safe => fix.title.clone(),
        Safety::Unsafe(why) => format!("{} (unsafe: {why})", fix.title),
    };
    let mut action = quick_fix(finding, &fix.edits, places, can);
    if let Some(edit) = action.edit.as_mut().filter(|_| makes_files) {
        make_files(edit, &fix.new_files, places);
    }
    Some(CodeAction {
        title,
        is_preferred: (can.preferred_actions && fix.safety == Safety::Safe).then_some(true),
        ..action
    })
}

fn suppress(finding: &Finding, places: &mut Places<'_>, can: &Abilities) -> Option<CodeAction> {
    let edit = suppression(places.unit(finding.unit), finding)?;
    let title = format!("Suppress {} on this line", finding.rule.code);
    Some(CodeAction { title, ..quick_fix(finding, &[edit], places, can) })
}

fn quick_fix(
    finding: &Finding,
    edits: &[Edit],
    places: &mut Places<'_>,
    can: &Abilities,
) -> CodeAction {
    CodeAction {
        kind: Some(CodeActionKind::QUICKFIX),
        diagnostics: Some(vec![diagnostic::of_finding(finding, places, can)]),
        edit: Some(workspace_edit(edits, places, can)),
        ..CodeAction::default()
    }
}

fn fix_all(findings: &[&Finding], places: &mut Places<'_>, can: &Abilities) -> Option<CodeAction> {
    let units = (0..).map(UnitId).zip(places.units).map(|it| it.0);
    let untouchable: BTreeSet<_> = units.filter(|it| is_untouchable(places, *it)).collect();
    let fixed = apply(places.units, findings, Wanted::Safe, &untouchable);
    let applied = fixed.applied.iter().filter_map(|it| findings[*it].fix.as_ref());
    let edits: Vec<_> = applied.flat_map(|it| it.edits.iter().cloned()).collect();
    (!edits.is_empty()).then(|| CodeAction {
        title: "Apply all safe fixes of gpupin in this file".to_owned(),
        kind: Some(FIX_ALL),
        edit: Some(workspace_edit(&edits, places, can)),
        ..CodeAction::default()
    })
}

/// Puts the files that a fix makes behind what it edits.
fn make_files(edit: &mut WorkspaceEdit, files: &[NewFile], places: &Places<'_>) {
    let mut operations = match edit.document_changes.take() {
        Some(DocumentChanges::Edits(edits)) => {
            edits.into_iter().map(DocumentChangeOperation::Edit).collect()
        }
        Some(DocumentChanges::Operations(operations)) => operations,
        None => Vec::new(),
    };
    for file in files {
        let uri = places.new_uri(&file.path);
        let create = CreateFile { uri: uri.clone(), options: None, annotation_id: None };
        operations.push(DocumentChangeOperation::Op(ResourceOp::Create(create)));
        let text = TextEdit { range: Range::default(), new_text: file.text.clone() };
        operations.push(DocumentChangeOperation::Edit(TextDocumentEdit {
            text_document: OptionalVersionedTextDocumentIdentifier { uri, version: None },
            edits: vec![OneOf::Left(text)],
        }));
    }
    edit.document_changes = Some(DocumentChanges::Operations(operations));
}

/// What was not read faithfully is not edited.
fn is_untouchable(places: &Places<'_>, unit: UnitId) -> bool {
    places.unit(unit).source.encoding.charset == Charset::BrokenUtf8
}

/// Edits that do not overlap; those that several fixes share are made once.
fn workspace_edit(edits: &[Edit], places: &mut Places<'_>, can: &Abilities) -> WorkspaceEdit {
    let mut by_unit: BTreeMap<UnitId, Vec<&Edit>> = BTreeMap::new();
    for edit in edits {
        by_unit.entry(edit.unit).or_default().push(edit);
    }
    let mut documents = Vec::new();
    for (unit, mut edits) in by_unit {
        edits.sort_by_key(|it| (it.span, &it.replacement));
        edits.dedup();
        let edit = |it: &Edit| TextEdit {
            range: places.range(unit, it.span),
            new_text: it.replacement.clone(),
        };
        let edits: Vec<_> = edits.into_iter().map(edit).collect();
        documents.push((places.uri(unit), places.version(unit), edits));
    }
    if !can.versioned_edits {
        #[expect(clippy::mutable_key_type, reason = "the protocol's type, compared by its text")]
        let changes: HashMap<_, _> = documents.into_iter().map(|it| (it.0, it.2)).collect();
        return WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() };
    }
    let changes = documents.into_iter().map(|(uri, version, edits)| TextDocumentEdit {
        text_document: OptionalVersionedTextDocumentIdentifier { uri, version },
        edits: edits.into_iter().map(OneOf::Left).collect(),
    });
    WorkspaceEdit {
        document_changes: Some(DocumentChanges::Edits(changes.collect())),
        ..WorkspaceEdit::default()
    }
}
