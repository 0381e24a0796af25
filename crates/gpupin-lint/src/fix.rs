//! Applying the fixes of findings to the texts of files.
//!
//! Whether a fix is safe, its rule says. Here it is decided which fixes go together, in an order that
//! depends on nothing but the fixes: by place, then by the code of the rule.

mod assign;
mod container;
pub(crate) mod launch;
pub(crate) mod mask;
pub mod package;
pub(crate) mod pin;
pub(crate) mod reach;
mod remaining;
pub(crate) mod script;
pub(crate) mod top;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::{
    finding::{Edit, Finding, Fix, NewFile, Safety},
    unit::{Unit, UnitId},
};

mod suppression;

pub use suppression::suppression;

/// Which fixes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Safe,
    /// Unsafe ones too.
    All,
}

/// Texts with fixes applied. Findings are named by their position in what was given to [`apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The new texts of the files that change.
    pub texts: BTreeMap<UnitId, String>,
    /// The texts of files that are new, by path.
    pub new_files: BTreeMap<String, String>,
    /// Findings whose fix is in the texts, ascending.
    pub applied: Vec<usize>,
    /// Findings that have a fix which is not, ascending, and why.
    pub left: Vec<(usize, Left)>,
}

/// Why a fix was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is unsafe, and only safe ones are wanted.
    Unsafe(String),
    /// It would change this file, which is to be left alone.
    Untouchable(UnitId),
    /// It would change what the fix of this finding changes. It may be offered again once that one is applied.
    Overlaps(usize),
}

/// Applies what goes together of the fixes of a project's findings, and changes none of the files `untouchable`.
///
/// A fix is applied whole or not at all. Fixes that make the very same edit share it: two findings that need the same
/// import add it once.
pub fn apply(
    units: &[Unit],
    findings: &[&Finding],
    wanted: Wanted,
    untouchable: &BTreeSet<UnitId>,
) -> Fixed {
    let mut left = Vec::new();
    let mut candidates: Vec<(usize, &Finding, &Fix)> = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        let Some(fix) = &finding.fix else { continue };
        let file = fix.edits.iter().map(|it| it.unit).find(|it| untouchable.contains(it));
        match (&fix.safety, file) {
            (Safety::Unsafe(why), _) if wanted == Wanted::Safe => {
                left.push((at, Left::Unsafe(why.clone())));
            }
            (_, Some(file)) => left.push((at, Left::Untouchable(file))),
            _ => candidates.push((at, *finding, fix)),
        }
    }
    let place = |fix: &Fix| fix.edits.first().map(|it| (it.unit, it.span));
    candidates.sort_by_key(|(at, finding, fix)| (place(fix), finding.rule.code, finding.span, *at));

    // Of each file, with the finding that each edit was made for first.
    let mut edits: BTreeMap<UnitId, Vec<(&Edit, usize)>> = BTreeMap::new();
    let mut new_files: BTreeMap<String, String> = BTreeMap::new();
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    let mut applied = Vec::new();
    for (at, _, fix) in candidates {
        let clash = fix.edits.iter().find_map(|new| {
            let of_file = edits.get(&new.unit)?;
            of_file.iter().find(|(old, _)| *old != new && touch(old, new)).map(|it| it.1)
        });
        let other = |it: &NewFile| new_files.get(&it.path).is_some_and(|text| *text != it.text);
        let clash = clash.or_else(|| {
            let file = fix.new_files.iter().find(|it| other(it))?;
            owners.get(file.path.as_str()).copied()
        });
        if let Some(with) = clash {
            left.push((at, Left::Overlaps(with)));
            continue;
        }
        for edit in &fix.edits {
            let of_file = edits.entry(edit.unit).or_default();
            if of_file.iter().all(|it| it.0 != edit) {
                of_file.push((edit, at));
            }
        }
        for file in &fix.new_files {
            owners.entry(&file.path).or_insert(at);
            new_files.insert(file.path.clone(), file.text.clone());
        }
        applied.push(at);
    }
    let edited = |(unit, mut edits): (UnitId, Vec<(&Edit, usize)>)| {
        edits.sort_by_key(|it| it.0.span);
        let text = &units[unit.0 as usize].source.text;
        (unit, edited(text, edits.into_iter().map(|it| it.0)))
    };
    let texts = edits.into_iter().map(edited).collect();
    applied.sort_unstable();
    left.sort_unstable_by_key(|it| it.0);
    Fixed { texts, new_files, applied, left }
}

/// A text with edits made, which are sorted and do not overlap.
pub fn edited<'e>(text: &str, edits: impl IntoIterator<Item = &'e Edit>) -> String {
    let mut new = String::with_capacity(text.len());
    let mut copied = 0;
    for edit in edits {
        let Range { start, end } = edit.span.range();
        new.push_str(&text[copied..start]);
        new.push_str(&edit.replacement);
        copied = end;
    }
    new.push_str(&text[copied..]);
    new
}

/// Whether two edits cannot both be made: they share a byte, one inserts within the other, or both insert at one place.
fn touch(a: &Edit, b: &Edit) -> bool {
    let (a, b) = (a.span, b.span);
    a == b || (a.start < b.end && b.start < a.end)
}

#[cfg(test)]
mod cures;
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Fixed, Left, Wanted, apply};
    use crate::{
        finding::{Edit, Finding, Safety},
        language::read,
        rules::RULES,
        span::Span,
        unit::{Unit, UnitId},
    };

    const TEXT: &str = "abcdefghij";

    fn units() -> Vec<Unit> {
        ["a.py", "b.py"].map(|it| read(it, TEXT.as_bytes()).unwrap()).into()
    }

    /// In the file `a.py`.
    fn edit((start, end, replacement): (usize, usize, &str)) -> Edit {
        Edit { unit: UnitId(0), span: Span::new(start, end), replacement: replacement.to_owned() }
    }

    fn finding(safety: Safety, edits: Vec<Edit>) -> Finding {
        let span = edits.first().map_or(Span::default(), |it| it.span);
        RULES[0].finding(UnitId(0), span, "").with_fix("Mend it", safety, edits)
    }

    fn applied(findings: &[Finding], wanted: Wanted) -> Fixed {
        let findings: Vec<_> = findings.iter().collect();
        apply(&units(), &findings, wanted, &BTreeSet::new())
    }

    fn first_text(fixed: &Fixed) -> &str {
        fixed.texts.get(&UnitId(0)).map_or(TEXT, String::as_str)
    }

    /// Each fix is a list of `(start, end, replacement)`; all are safe. `left` is who is left for whom.
    #[track_caller]
    fn check(fixes: &[&[(usize, usize, &str)]], text: &str, left: &[(usize, usize)]) {
        let fixes = fixes.iter().map(|it| it.iter().map(|it| edit(*it)).collect());
        let findings: Vec<_> = fixes.map(|it| finding(Safety::Safe, it)).collect();
        let fixed = applied(&findings, Wanted::Safe);
        let left: Vec<_> = left.iter().map(|it| (it.0, Left::Overlaps(it.1))).collect();
        assert_eq!((first_text(&fixed), &fixed.left), (text, &left));
    }

    #[test]
    fn fixes_beside_each_other_go_together() {
        check(&[&[(4, 5, "E")], &[(0, 1, "A"), (9, 10, "")], &[(1, 4, "-")]], "A-Efghi", &[]);
    }

    #[test]
    fn of_fixes_that_overlap_the_first_in_the_text_wins() {
        check(&[&[(3, 6, "y")], &[(2, 4, "x")]], "abxefghij", &[(0, 1)]);
        check(&[&[(2, 6, "x")], &[(3, 3, "y")]], "abxghij", &[(1, 0)]);
    }

    #[test]
    fn a_fix_is_applied_whole_or_not_at_all() {
        check(&[&[(0, 2, "x")], &[(1, 2, "y"), (8, 9, "z")]], "xcdefghij", &[(1, 0)]);
    }

    #[test]
    fn two_insertions_at_one_place_have_no_order() {
        check(&[&[(5, 5, "x")], &[(5, 5, "y")]], "abcdexfghij", &[(1, 0)]);
    }

    #[test]
    fn an_edit_that_two_fixes_need_is_made_once() {
        check(
            &[&[(0, 0, "import os\n"), (4, 5, "E")], &[(0, 0, "import os\n"), (6, 7, "G")]],
            "import os\nabcdEfGhij",
            &[],
        );
    }

    #[test]
    fn an_insertion_stands_before_what_is_replaced_behind_it() {
        check(&[&[(5, 6, "F")], &[(5, 5, "+")]], "abcde+Fghij", &[]);
    }

    #[test]
    fn unsafe_fixes_wait_until_they_are_wanted() {
        let findings = [
            finding(Safety::Unsafe("who knows".to_owned()), vec![edit((0, 1, "A"))]),
            finding(Safety::Safe, vec![edit((1, 2, "B"))]),
        ];
        let safe = applied(&findings, Wanted::Safe);
        assert_eq!((first_text(&safe), &*safe.applied), ("aBcdefghij", &[1][..]));
        assert_eq!(safe.left, [(0, Left::Unsafe("who knows".to_owned()))]);
        let all = applied(&findings, Wanted::All);
        assert_eq!((first_text(&all), &*all.applied), ("ABcdefghij", &[0, 1][..]));
    }

    #[test]
    fn a_fix_of_two_files_is_made_in_both_or_in_none() {
        let elsewhere = Edit { unit: UnitId(1), ..edit((0, 1, "B")) };
        let findings = [
            finding(Safety::Safe, vec![edit((0, 1, "A")), elsewhere]),
            finding(Safety::Safe, vec![edit((9, 10, "J"))]),
        ];
        let both = applied(&findings, Wanted::Safe);
        let texts: Vec<_> = both.texts.values().map(String::as_str).collect();
        assert_eq!(texts, ["AbcdefghiJ", "Bbcdefghij"]);

        let findings: Vec<_> = findings.iter().collect();
        let one = apply(&units(), &findings, Wanted::Safe, &BTreeSet::from([UnitId(1)]));
        assert_eq!(first_text(&one), "abcdefghiJ");
        assert_eq!((one.texts.len(), one.left), (1, vec![(0, Left::Untouchable(UnitId(1)))]));
    }

    proptest! {
        /// Whatever is applied could be applied alone, and what is left is applied in a next round unless it clashes again.
        #[test]
        fn every_fix_is_applied_or_left_with_a_reason(
            fixes in prop::collection::vec(
                prop::collection::vec((0_usize..10, 0_usize..4, "[x-z]{0,2}"), 1..3), 0..6)
        ) {
            let fixes: Vec<Vec<(usize, usize, String)>> = fixes;
            let findings: Vec<_> = fixes
                .iter()
                .map(|edits| {
                    let mut edits: Vec<_> = edits
                        .iter()
                        .map(|(start, length, text)| (*start, (start + length).min(10), text.as_str()))
                        .collect();
                    edits.sort_unstable();
                    edits.truncate(if edits.len() == 2 && edits[1].0 < edits[0].1 { 1 } else { 2 });
                    edits.dedup_by_key(|it| it.0);
                    finding(Safety::Safe, edits.into_iter().map(edit).collect())
                })
                .collect();
            let fixed = applied(&findings, Wanted::Safe);
            prop_assert_eq!(fixed.applied.len() + fixed.left.len(), findings.len());
            for (_, why) in &fixed.left {
                prop_assert!(matches!(why, Left::Overlaps(with) if fixed.applied.contains(with)));
            }
            // What is left out makes no difference to the text.
            let kept: Vec<_> = fixed.applied.iter().map(|it| findings[*it].clone()).collect();
            prop_assert_eq!(applied(&kept, Wanted::Safe).texts, fixed.texts);
        }
    }
}
