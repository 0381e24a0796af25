//! Takes back those changes of a file that are still as they were made.

use std::ops::Range;

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices};

/// Lines around a change that must be there, too, for it to be the same change.
const CONTEXT: usize = 1;

/// A file with as many changes taken back as can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Restored {
    pub(super) bytes: Vec<u8>,
    /// What could not be taken back: indices of lines of the text that the fix wrote.
    pub(super) lost: Vec<Range<usize>>,
}

/// Takes back the changes from `old` to `new` that are in `now`, in whole lines.
pub(super) fn restore(old: &[u8], new: &[u8], now: &[u8]) -> Restored {
    let (old, new, now) = (lines(old), lines(new), lines(now));
    let kept_since = unchanged(&new, &now);
    let as_before = unchanged(&old, &now);
    let mut restored = Restored { bytes: Vec::new(), lost: Vec::new() };
    let mut copied = 0;
    for change in capture_diff_slices(Algorithm::Myers, &old, &new) {
        if change.tag() == DiffTag::Equal {
            continue;
        }
        let (before, after) = (change.old_range(), change.new_range());
        if let Some(place) = find(&kept_since, &after, new.len()) {
            restored.bytes.extend(now[copied..place.start].concat());
            restored.bytes.extend(old[before].concat());
            copied = place.end;
        } else if find(&as_before, &before, old.len()).is_none() {
            restored.lost.push(after);
        }
    }
    restored.bytes.extend(now[copied..].concat());
    restored
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|it| *it == b'\n').collect()
}

/// Runs of lines that two texts share.
fn unchanged(from: &[&[u8]], to: &[&[u8]]) -> Vec<DiffOp> {
    let mut operations = capture_diff_slices(Algorithm::Myers, from, to);
    operations.retain(|it| it.tag() == DiffTag::Equal);
    operations
}

/// Where these lines are in the other text, if they and those around them are in one run.
fn find(runs: &[DiffOp], lines: &Range<usize>, total: usize) -> Option<Range<usize>> {
    let start = lines.start.saturating_sub(CONTEXT);
    let end = (lines.end + CONTEXT).min(total);
    let run = runs.iter().find(|it| it.old_range().start <= start && end <= it.old_range().end)?;
    let there = |line: usize| line - run.old_range().start + run.new_range().start;
    Some(there(lines.start)..there(lines.end))
}

#[cfg(test)]
mod tests {
    use super::restore;

    const OLD: &str = "a\nb\nc\nd\ne\nf\n";
    /// The fix inserts, replaces and deletes.
    const NEW: &str = "pin\na\nb\nC\nd\nf\n";

    #[track_caller]
    fn check(now: &str, expected: &str, lost: &[(usize, usize)]) {
        let restored = restore(OLD.as_bytes(), NEW.as_bytes(), now.as_bytes());
        assert_eq!(String::from_utf8(restored.bytes).unwrap(), expected);
        let there: Vec<_> = restored.lost.iter().map(|it| (it.start, it.end)).collect();
        assert_eq!(there, lost);
    }

    #[test]
    fn what_is_as_it_was_made_is_taken_back() {
        check(NEW, OLD, &[]);
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        check("pin\na\nb\nC\nd\nf\nnew\n", "a\nb\nc\nd\ne\nf\nnew\n", &[]);
        check("#!\npin\na\nmine\nb\nC\nd\nf\n", "#!\na\nmine\nb\nc\nd\ne\nf\n", &[]);
    }

    #[test]
    fn a_change_that_was_changed_stays() {
        check("pin\na\nb\nX\nd\nf\n", "a\nb\nX\nd\ne\nf\n", &[(3, 4)]);
        check("a\nb\nC\nX\nf\n", "a\nb\nC\nX\nf\n", &[(3, 4), (5, 5)]);
    }

    #[test]
    fn a_change_that_was_taken_back_already_is_not_lost() {
        check(OLD, OLD, &[]);
        check("a\nb\nC\nd\ne\nf\n", OLD, &[]);
    }

    #[test]
    fn nothing_is_done_to_another_text() {
        check("", "", &[(0, 1), (3, 4), (5, 5)]);
        check("x\r\ny\r\n", "x\r\ny\r\n", &[(0, 1), (3, 4), (5, 5)]);
        check("pin\r\na\r\nb\r\nC\r\n", "pin\r\na\r\nb\r\nC\r\n", &[(0, 1), (3, 4), (5, 5)]);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let restored = restore(b"\xff\na\nb\n", b"\xff\na\nB\n", b"\xfe\n\xff\na\nB\n");
        assert_eq!(restored.bytes, b"\xfe\n\xff\na\nb\n");
    }
}
