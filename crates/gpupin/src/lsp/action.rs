//! Code actions: fixes, suppressions, and all safe fixes of a file at once.

use std::collections::{BTreeMap, HashMap};

use gpupin_lint::{
    finding::{Edit, Finding, NewFile, Safety},
    fix::suppression,
    source::Charset,
    span::Span,
    unit::UnitId,
};
use lsp_types::{
    CodeAction, CodeActionContext, CodeActionKind, CreateFile, DocumentChangeOperation,
    DocumentChanges, OneOf, OptionalVersionedTextDocumentIdentifier, Range, ResourceOp,
    TextDocumentEdit, TextEdit, WorkspaceEdit,
};

use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::{client::Abilities, diagnostic, places::Places};
use crate::fix::rounds::Changed;

pub(super) const FIX_ALL: CodeActionKind = CodeActionKind::new("source.fixAll.gpupin");

/// What the editor asks about.
pub(super) struct Asked<'a> {
    pub(super) range: Range,
    pub(super) context: &'a CodeActionContext,
    /// What all safe fixes come to.
    pub(super) fixed: &'a [Changed],
}

/// What can be done about the findings of one file that touch a range.
pub(super) fn at(
    &Asked { range, context, fixed }: &Asked<'_>,
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
        actions.extend(fix_all(fixed, places, can));
    }
    actions
}

/// Kinds are hierarchical: who asks for `source` gets `source.fixAll.gpupin`.
pub(super) fn is_wanted(kind: &CodeActionKind, context: &CodeActionContext) -> bool {
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

fn fix_all(changed: &[Changed], places: &mut Places<'_>, can: &Abilities) -> Option<CodeAction> {
    let mut edits = Vec::new();
    let mut new_files = Vec::new();
    for it in changed {
        if it.old.is_none() {
            new_files.push(NewFile { path: it.key.clone(), text: it.new_text.clone() });
            continue;
        }
        let unit = places.units.binary_search_by(|unit| unit.source.path.cmp(&it.key)).ok()?;
        let unit = UnitId(u32::try_from(unit).ok()?);
        edits.extend(differences(unit, &it.old_text, &it.new_text));
    }
    let makes_files = !new_files.is_empty();
    if changed.is_empty() || (makes_files && !can.new_files) {
        return None;
    }
    let mut edit = workspace_edit(&edits, places, can);
    if makes_files {
        make_files(&mut edit, &new_files, places);
    }
    Some(CodeAction {
        title: "Apply all safe fixes of gpupin in this file".to_owned(),
        kind: Some(FIX_ALL),
        edit: Some(edit),
        ..CodeAction::default()
    })
}

/// The edits that make one text another, no larger than they need be: an editor keeps its marks beside them.
fn differences(unit: UnitId, old: &str, new: &str) -> Vec<Edit> {
    let lines = |it| -> Vec<&str> { str::split_inclusive(it, '\n').collect() };
    let (old_lines, new_lines) = (lines(old), lines(new));
    let operations = capture_diff_slices(Algorithm::Myers, &old_lines, &new_lines);
    let changes = operations.iter().filter(|it| it.tag() != DiffTag::Equal).map(|it| {
        let start: usize = old_lines[..it.old_range().start].iter().map(|it| it.len()).sum();
        let old = old_lines[it.old_range()].concat();
        let new = new_lines[it.new_range()].concat();
        let same = |(a, b): &(char, char)| a == b;
        let ahead: usize =
            old.chars().zip(new.chars()).take_while(same).map(|it| it.0.len_utf8()).sum();
        let (old, new) = (&old[ahead..], &new[ahead..]);
        let behind = old.chars().rev().zip(new.chars().rev()).take_while(same);
        let behind: usize = behind.map(|it| it.0.len_utf8()).sum();
        let span = Span::new(start + ahead, start + ahead + old.len() - behind);
        Edit { unit, span, replacement: new[..new.len() - behind].to_owned() }
    });
    changes.collect()
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
