//! Many needles, found at the speed of a few.
//!
//! SIMD search is fast for a dozen literals that are rare in text, and ten times slower for fifty. So not the
//! needles are searched for but their stems: `cuda` stands for all needles that contain it. And stems are
//! searched for a few at a time, because several passes over a file that is in the processor's cache cost
//! less than one pass for all. Where a stem is found, the needles around it are compared byte by byte.

use aho_corasick::{AhoCorasick, Input, MatchKind, Span, packed};

use crate::needle::Needle;

/// Parts that many needles share, in order of preference.
const SHARED: &[&str] = &["cuda", "CUDA", "gpu", "GPU", "evice"];

/// How many stems are searched for in one pass. Measured on 177 MB of Python: 16 cost 0.035 s, 30 cost 0.13 s,
/// 55 cost 0.33 s.
const AT_ONCE: usize = 16;

/// A set of needles, each with what finding it means.
#[derive(Debug)]
pub(super) struct Search<T> {
    passes: Vec<Pass<T>>,
}

#[derive(Debug)]
struct Pass<T> {
    stems: Stems,
    /// For each stem the needles that contain it, and where in them it stands.
    around: Vec<Vec<(usize, Sought<T>)>>,
}

#[derive(Debug, Clone, Copy)]
struct Sought<T> {
    text: &'static str,
    needle: Needle,
    means: T,
}

#[derive(Debug)]
enum Stems {
    Simd(packed::Searcher),
    /// Without the processor's help, or for too many stems.
    Automaton(AhoCorasick),
}

impl<T: Copy> Search<T> {
    pub(super) fn new(needles: &[(Needle, T)]) -> Self {
        let mut stems: Vec<&'static str> = SHARED.to_vec();
        let mut sorted: Vec<&(Needle, T)> = needles.iter().collect();
        // The shorter first: it may be the stem of a longer one.
        sorted.sort_by_key(|it| it.0.text.len());
        let mut around: Vec<Vec<(usize, Sought<T>)>> = SHARED.iter().map(|_| Vec::new()).collect();
        for (needle, means) in sorted {
            let sought = Sought { text: needle.text, needle: *needle, means: *means };
            let stem =
                stems.iter().enumerate().find_map(|(at, it)| Some((at, needle.text.find(it)?)));
            if let Some((at, offset)) = stem {
                around[at].push((offset, sought));
            } else {
                stems.push(needle.text);
                around.push(vec![(0, sought)]);
            }
        }
        let mut around = around.into_iter();
        let passes = stems
            .chunks(AT_ONCE)
            .map(|it| Pass {
                stems: Stems::new(it),
                around: around.by_ref().take(it.len()).collect(),
            })
            .collect();
        Self { passes }
    }

    /// Calls `found` for every needle in `bytes` until it returns `false`.
    pub(super) fn each(&self, bytes: &[u8], mut found: impl FnMut(T) -> bool) {
        for pass in &self.passes {
            if !pass.each(bytes, &mut found) {
                return;
            }
        }
    }
}

impl<T: Copy> Pass<T> {
    /// Whether `found` wants more.
    fn each(&self, bytes: &[u8], found: &mut impl FnMut(T) -> bool) -> bool {
        let mut from = 0;
        while let Some((stem, at)) = self.stems.find(bytes, from) {
            for (offset, sought) in &self.around[stem] {
                let Some(start) = at.checked_sub(*offset) else { continue };
                let end = start + sought.text.len();
                // Many needles share a stem; their last byte tells most of them apart.
                if bytes.get(end - 1) != sought.text.as_bytes().last() {
                    continue;
                }
                let is_here = bytes.get(start..end) == Some(sought.text.as_bytes());
                if is_here && sought.needle.counts_at(bytes, end) && !found(sought.means) {
                    return false;
                }
            }
            from = at + 1;
        }
        true
    }
}

impl Stems {
    fn new(stems: &[&str]) -> Self {
        let mut builder =
            packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder();
        builder.extend(stems);
        match builder.build() {
            Some(searcher) => Self::Simd(searcher),
            None => Self::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(stems)
                    .expect("a few short literals are no set that is too large"),
            ),
        }
    }

    /// The next stem from `from` on: which, and where.
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let found = match self {
            Self::Simd(searcher) => searcher.find_in(bytes, Span { start: from, end: bytes.len() }),
            Self::Automaton(automaton) => automaton.find(Input::new(bytes).span(from..bytes.len())),
        }?;
        Some((found.pattern().as_usize(), found.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::Search;
    use crate::needle::Needle;

    #[track_caller]
    fn check(text: &str, expected: &[u32]) {
        let needles = [
            (Needle::before("cuda:", "123"), 1),
            (Needle::new("cuda"), 2),
            (Needle::new("env="), 3),
            (Needle::new("xenv=y"), 4),
            (Needle::before("my_cuda_device", "="), 5),
        ];
        let search = Search::new(&needles);
        let mut found = Vec::new();
        search.each(text.as_bytes(), |it| {
            found.push(it);
            true
        });
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn needles_that_begin_alike_are_both_found() {
        check("cuda:1", &[2, 1]);
        check("cuda:0", &[2]);
    }

    #[test]
    fn needles_inside_others_are_both_found() {
        check("xenv=y", &[3, 4]);
    }

    #[test]
    fn a_stem_may_stand_anywhere_in_its_needle() {
        check("my_cuda_device=1", &[2, 5]);
        check("my_cuda_devices", &[2]);
    }
}
