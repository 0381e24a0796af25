//! Which fixes can be made when all of them together cannot: halves are tried, and halves of those that fail.

use std::collections::{BTreeMap, BTreeSet};

use similar::{Algorithm, DiffTag, capture_diff_slices};

/// How many groups may fail; what was not tried then is not made. Each costs some scans.
#[derive(Debug, Clone, Copy)]
pub(super) enum Most {
    /// Of the whole project, seconds in a large one.
    Few = 16,
    /// Of a few files.
    Many = 256,
}

/// What a fix is for, however the text around it changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) path: String,
    pub(super) code: &'static str,
    /// In the text as it was at first; `None` on a line that a fix wrote.
    pub(super) line: Option<usize>,
}

/// Fixes of which some spoil something.
#[derive(Debug, Default)]
pub(super) struct Trial {
    passed: BTreeSet<Id>,
    /// What is made now, and was not judged yet.
    current: Vec<Id>,
    waiting: Vec<Vec<Id>>,
    failed: BTreeMap<Id, String>,
    tried: usize,
}

impl Trial {
    /// Whether a fix is to be made now.
    pub(super) fn allows(&self, id: &Id) -> bool {
        let waits = || self.waiting.iter().flatten().any(|it| it == id);
        !self.failed.contains_key(id) && !waits()
    }

    /// Whether a fix is made now and was not judged yet.
    pub(super) fn is_trying(&self, id: &Id) -> bool {
        self.current.contains(id)
    }

    /// Why a fix is not made.
    pub(super) fn why(&self, id: &Id) -> Option<&str> {
        self.failed.get(id).map(String::as_str)
    }

    /// Nothing was spoiled. Tells whether there is more to try.
    pub(super) fn passes(&mut self) -> bool {
        self.passed.extend(self.current.drain(..));
        self.next();
        !self.current.is_empty()
    }

    /// These fixes spoiled something. Tells whether it is known what to do without.
    pub(super) fn fails(
        &mut self,
        made: &BTreeSet<Id>,
        most: Most,
        why: impl Fn(&Id) -> String,
    ) -> bool {
        let is_tried = self.current.iter().any(|it| made.contains(it));
        let suspects: Vec<Id> = if is_tried {
            // The others go on being tried.
            self.current.extract_if(.., |it| made.contains(it)).collect()
        } else {
            made.iter().filter(|it| !self.passed.contains(it)).cloned().collect()
        };
        self.tried += 1;
        match suspects.len() {
            0 => return false,
            1 => {
                self.failed.extend(suspects.into_iter().map(|it| (it.clone(), why(&it))));
            }
            length => {
                let (first, second) = suspects.split_at(length / 2);
                self.waiting.extend([second.to_vec(), first.to_vec()]);
            }
        }
        if self.tried >= most as usize {
            let rest = std::mem::take(&mut self.waiting).into_iter().flatten();
            self.failed.extend(rest.map(|it| (it.clone(), why(&it))));
        }
        if self.current.is_empty() {
            self.next();
        }
        true
    }

    fn next(&mut self) {
        self.current = self.waiting.pop().unwrap_or_default();
    }
}

/// For each line of a text, which one it was at first.
pub(super) fn first_lines(old: &str, new: &str) -> Vec<Option<usize>> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut lines = vec![None; new.len()];
    for it in capture_diff_slices(Algorithm::Myers, &old, &new) {
        // What was changed in place is the same line still.
        let is_same = it.tag() == DiffTag::Equal
            || (it.tag() == DiffTag::Replace && it.old_range().len() == it.new_range().len());
        if is_same {
            for (new, old) in it.new_range().zip(it.old_range()) {
                lines[new] = Some(old);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Id, Most, Trial, first_lines};

    /// Fixes are made until nothing is spoiled; `bad` ones spoil.
    #[track_caller]
    fn check(fixes: usize, bad: &[usize]) {
        let id = |it| Id { path: "a.sh".to_owned(), code: "GP103", line: Some(it) };
        let mut trial = Trial::default();
        loop {
            let made: BTreeSet<Id> = (0..fixes).map(id).filter(|it| trial.allows(it)).collect();
            let is_bad = bad.iter().any(|it| made.contains(&id(*it)));
            let goes_on = if is_bad {
                trial.fails(&made, Most::Few, |_| "it spoils".to_owned())
            } else {
                trial.passes()
            };
            if !goes_on {
                break;
            }
        }
        let left: Vec<_> = (0..fixes).filter(|it| trial.why(&id(*it)).is_some()).collect();
        assert_eq!(left, bad);
    }

    #[test]
    fn only_those_that_spoil_something_are_left() {
        check(1, &[]);
        check(1, &[0]);
        check(9, &[4]);
        check(9, &[0, 7, 8]);
        check(4, &[0, 1, 2, 3]);
    }

    #[test]
    fn a_line_is_found_again_behind_new_ones() {
        let lines = first_lines("a\nb\nc\n", "new\na\nB\nc\n");
        assert_eq!(lines, [None, Some(0), Some(1), Some(2)]);
    }
}
