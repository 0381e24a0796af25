//! Bytes without which a file cannot interest a rule.
//!
//! A scan looks for the needles of the selected rules before it parses anything: parsing costs fifty
//! times as much as looking. A file without a needle is still read when a file with one imports it
//! (it may hold the constant that is used there), or when it imports one (it may be the entry point).
//!
//! **Invariant:** whatever a reader reports to a rule stands in a file with one of the rule's needles.
//! Tests compare a filtered with an unfiltered scan of the example, `cargo xtask prefilter` of the corpus.

/// A literal, and what must stand right behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needle {
    pub text: &'static str,
    pub follow: Follow,
    /// Whether Python can hold what it stands for; some only files of other languages can.
    pub in_python: bool,
}

/// What may stand behind a needle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Anything,
    /// One of these ASCII characters.
    OneOf(&'static str),
}

impl Follow {
    /// The characters that may stand behind; empty for any.
    pub fn characters(self) -> &'static str {
        match self {
            Self::Anything => "",
            Self::OneOf(characters) => characters,
        }
    }
}

impl Needle {
    pub const fn new(text: &'static str) -> Self {
        Self { text, follow: Follow::Anything, in_python: true }
    }

    pub const fn before(text: &'static str, characters: &'static str) -> Self {
        Self { text, follow: Follow::OneOf(characters), in_python: true }
    }

    /// The same for files that are not Python.
    #[must_use]
    pub const fn not_in_python(self) -> Self {
        Self { in_python: false, ..self }
    }

    /// Whether the needle, whose text was found to end at `end` of `bytes`, counts.
    pub fn counts_at(&self, bytes: &[u8], end: usize) -> bool {
        match self.follow {
            Follow::Anything => true,
            Follow::OneOf(characters) => {
                bytes.get(end).is_some_and(|next| characters.as_bytes().contains(next))
            }
        }
    }

    /// Whether the needle is in a text. For single files; a scan looks for all needles at once.
    pub fn is_in(&self, text: &str) -> bool {
        let mut hits = text.match_indices(self.text);
        hits.any(|(at, found)| self.counts_at(text.as_bytes(), at + found.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::Needle;

    #[test]
    fn what_follows_decides() {
        const ORDINAL: Needle = Needle::before("cuda:", "123{");
        for (text, counts) in [
            ("x = 'cuda:1'", true),
            ("x = 'cuda:0', 'cuda:2'", true),
            ("f'cuda:{n}'", true),
            ("cuda: 1", false),
            ("cuda:", false),
            ("", false),
        ] {
            assert_eq!(ORDINAL.is_in(text), counts, "{text}");
        }
    }
}
