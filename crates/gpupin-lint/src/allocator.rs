//! `PYTORCH_CUDA_ALLOC_CONF`, read the way PyTorch reads it.
//!
//! The text is cut at `,` `:` `[` `]`, blanks do not count, and every key must be one of a fixed set; all
//! else raises an error at the first use of CUDA. Sources: `c10/core/AllocatorConfig.{h,cpp}` and
//! `c10/cuda/CUDAAllocatorConfig.{h,cpp}` of PyTorch.

use std::{fmt, ops::Range};

/// The variables that hold such a text.
pub(crate) const VARIABLES: &[&str] =
    &["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"];

/// Something PyTorch does not accept, or not as it is meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// Bytes of the text.
    pub(crate) range: Range<usize>,
    pub(crate) kind: ProblemKind,
    /// What the range should say, where that is certain.
    pub(crate) should_be: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ProblemKind {
    /// `max_split_size_mb=512`.
    EqualsSign {
        key: String,
    },
    UnknownKey {
        key: String,
        nearest: Option<&'static str>,
    },
    /// `max_split_size_mb` alone.
    MissingValue {
        key: String,
    },
    /// A value its key does not take, and what it takes.
    Value {
        key: String,
        value: String,
        takes: String,
    },
    /// Text where a comma belongs: `a:1;b:2`, `a:1:2`.
    Separator {
        text: String,
    },
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EqualsSign { key } => {
                write!(f, "`{key}` is separated from its value by `=`, PyTorch wants `:`")
            }
            Self::UnknownKey { key, .. } => {
                write!(f, "no setting of PyTorch's allocator is called `{key}`")
            }
            Self::MissingValue { key } => write!(f, "`{key}` has no value"),
            Self::Value { key, value, takes } => {
                write!(f, "`{key}` takes {takes}, not `{value}`")
            }
            Self::Separator { text } => {
                write!(f, "`{text}` stands where the next setting begins, after a comma")
            }
        }
    }
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Flag,
    /// A whole number of at least this much.
    AtLeast(u64),
    /// A power of two up to this.
    PowerOfTwo(u64),
    /// A number between 0 and 1; whether the ends are allowed.
    Fraction {
        ends: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A power of two or 0, or a list `[256:1,512:2,>:4]`.
    Divisions,
    /// A share or a size, `0.5` or `40G`; PyTorch warns about others and goes on.
    Reserve,
    ReserveByClass,
}

/// Every key. Those that start with `pinned_max_` are several and new; see [`takes`].
const KEYS: &[(&str, Takes)] = &[
    // Known to every backend. 20 MB is PyTorch's large buffer.
    ("max_split_size_mb", Takes::AtLeast(20)),
    ("max_non_split_rounding_mb", Takes::AtLeast(20)),
    ("garbage_collection_threshold", Takes::Fraction { ends: false }),
    ("roundup_power2_divisions", Takes::Divisions),
    ("expandable_segments", Takes::Flag),
    ("large_segment_size_mb", Takes::AtLeast(1)),
    ("pinned_use_background_threads", Takes::Flag),
    // CUDA's own.
    ("backend", Takes::Word(&["native", "cudaMallocAsync", "hipMallocAsync"])),
    ("release_lock_on_cudamalloc", Takes::Flag),
    ("release_lock_on_hipmalloc", Takes::Flag),
    ("pinned_use_cuda_host_register", Takes::Flag),
    ("pinned_use_hip_host_register", Takes::Flag),
    ("pinned_num_register_threads", Takes::PowerOfTwo(128)),
    ("pinned_reserve_segment_size_mb", Takes::AtLeast(1)),
    ("per_process_memory_fraction", Takes::Fraction { ends: true }),
    ("graph_capture_record_stream_reuse", Takes::Flag),
    ("pinned_free_catch_all", Takes::Flag),
    ("throw_on_cudamalloc_oom", Takes::Flag),
    ("expandable_segments_reserve", Takes::Reserve),
    ("expandable_segments_reserve_by_class", Takes::ReserveByClass),
];

/// Everything wrong with a setting, in the order of its text.
pub(crate) fn problems(text: &str) -> Vec<Problem> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut rest = &*tokens;
    while let [first, after @ ..] = rest {
        if first.text == "," {
            rest = after;
            continue;
        }
        let end = next_comma(rest);
        entry(&rest[..end], &mut found);
        rest = &rest[end..];
    }
    found
}

/// A piece of the text without its blanks.
#[derive(Debug, Clone)]
struct Token {
    text: String,
    range: Range<usize>,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut open = false;
    for (at, letter) in text.char_indices() {
        let range = at..at + letter.len_utf8();
        if matches!(letter, ',' | ':' | '[' | ']') {
            tokens.push(Token { text: letter.to_string(), range });
            open = false;
        } else if !letter.is_ascii_whitespace() {
            match tokens.last_mut().filter(|_| open) {
                Some(last) => {
                    last.text.push(letter);
                    last.range.end = range.end;
                }
                None => tokens.push(Token { text: letter.to_string(), range }),
            }
            open = true;
        }
    }
    tokens
}

/// The index of the comma that ends the first entry, outside of brackets.
fn next_comma(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match &*token.text {
            "[" => depth += 1,
            "]" => depth = depth.saturating_sub(1),
            "," if depth == 0 => return at,
            _ => {}
        }
    }
    tokens.len()
}

/// Judges `key:value`.
fn entry(tokens: &[Token], found: &mut Vec<Problem>) {
    let [key, rest @ ..] = tokens else { return };
    let mut report = |range: Range<usize>, kind, should_be: Option<String>| {
        found.push(Problem { range, kind, should_be });
    };
    if let Some((name, value)) = key.text.split_once('=') {
        let kind = match takes(name) {
            Some(_) => ProblemKind::EqualsSign { key: name.to_owned() },
            None => unknown(name),
        };
        // Without blanks in between, so that the replacement is the whole text of the token.
        let verbatim = key.range.len() == key.text.len();
        let known = matches!(kind, ProblemKind::EqualsSign { .. }) && verbatim && rest.is_empty();
        report(key.range.clone(), kind, known.then(|| format!("{name}:{value}")));
        return;
    }
    let Some(takes) = takes(&key.text) else {
        let kind = unknown(&key.text);
        let should_be = match kind {
            ProblemKind::UnknownKey { nearest, .. } => nearest.map(str::to_owned),
            _ => None,
        };
        report(key.range.clone(), kind, should_be);
        return;
    };
    let value = match rest {
        [colon, value @ ..] if colon.text == ":" && !value.is_empty() => value,
        _ => {
            let kind = ProblemKind::MissingValue { key: key.text.clone() };
            report(key.range.clone(), kind, None);
            return;
        }
    };
    let range = value[0].range.start..value[value.len() - 1].range.end;
    let joined: String = value.iter().map(|it| it.text.as_str()).collect();
    let is_list = value[0].text == "[";
    if !is_list && value.len() > 1 {
        let text = value[1..].iter().map(|it| it.text.as_str()).collect();
        let range = value[1].range.start..range.end;
        report(range, ProblemKind::Separator { text }, None);
        return;
    }
    if accepts(takes, &joined) {
        return;
    }
    let should_be = match takes {
        Takes::Flag if joined.eq_ignore_ascii_case("true") || joined == "1" => Some("True"),
        Takes::Flag if joined.eq_ignore_ascii_case("false") || joined == "0" => Some("False"),
        Takes::Word(words) => words.iter().copied().find(|it| it.eq_ignore_ascii_case(&joined)),
        _ => None,
    };
    let kind = ProblemKind::Value { key: key.text.clone(), value: joined, takes: describe(takes) };
    report(range, kind, should_be.map(str::to_owned));
}

fn takes(key: &str) -> Option<Takes> {
    let listed = KEYS.iter().find(|it| it.0 == key).map(|it| it.1);
    // Limits of the pinned cache came one by one in recent versions, all of them sizes or counts.
    listed.or(key.starts_with("pinned_max_").then_some(Takes::AtLeast(0)))
}

fn unknown(key: &str) -> ProblemKind {
    let near = KEYS.iter().map(|it| (strsim::osa_distance(it.0, key), it.0));
    let near = near.filter(|it| it.0 <= 4).min_by_key(|it| it.0);
    ProblemKind::UnknownKey { key: key.to_owned(), nearest: near.map(|it| it.1) }
}

fn accepts(takes: Takes, value: &str) -> bool {
    match takes {
        Takes::Flag => matches!(value, "True" | "False"),
        Takes::AtLeast(least) => whole(value).is_some_and(|it| it >= least),
        Takes::PowerOfTwo(most) => {
            whole(value).is_some_and(|it| it.is_power_of_two() && it <= most)
        }
        Takes::Fraction { ends } => value
            .parse::<f64>()
            .is_ok_and(|it| if ends { (0.0..=1.0).contains(&it) } else { it > 0.0 && it < 1.0 }),
        Takes::Word(words) => words.contains(&value),
        Takes::Divisions => match value.strip_prefix('[') {
            None => whole(value).is_some_and(u64::is_power_of_two),
            Some(list) => list.strip_suffix(']').is_some_and(|list| {
                list.trim_end_matches(',').split(',').all(|it| {
                    it.split_once(':').is_some_and(|(size, divisions)| {
                        let size = size == ">" || whole(size).is_some_and(u64::is_power_of_two);
                        size && whole(divisions).is_some_and(|it| it == 0 || it.is_power_of_two())
                    })
                })
            }),
        },
        Takes::Reserve => is_reserve(value),
        Takes::ReserveByClass => {
            value.strip_prefix('[').and_then(|it| it.strip_suffix(']')).is_some_and(|list| {
                let mut entries = list.split(',').filter(|it| !it.is_empty());
                entries.all(|it| it.split_once(':').is_some_and(|it| is_reserve(it.1)))
            })
        }
    }
}

/// Reads a number like C++'s `stoull`: text behind it does not count, so `512MB` is 512.
fn whole(value: &str) -> Option<u64> {
    let end = value.find(|it: char| !it.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().ok()
}

fn is_reserve(value: &str) -> bool {
    let number = value.strip_suffix(['G', 'g']).unwrap_or(value);
    number.parse::<f64>().is_ok_and(|it| it.is_finite() && it > 0.0)
}

fn describe(takes: Takes) -> String {
    match takes {
        Takes::Flag => "`True` or `False`".to_owned(),
        Takes::AtLeast(least) => format!("a whole number of at least {least}"),
        Takes::PowerOfTwo(most) => format!("a power of two up to {most}"),
        Takes::Fraction { .. } => "a number between 0 and 1".to_owned(),
        Takes::Word(words) => {
            let quoted: Vec<_> = words.iter().map(|it| format!("`{it}`")).collect();
            quoted.join(" or ")
        }
        Takes::Divisions => "a power of two or a list such as `[256:1,512:2,>:4]`".to_owned(),
        Takes::Reserve => "a share such as `0.5` or a size such as `40G`".to_owned(),
        Takes::ReserveByClass => "a list such as `[small:0.5,large:40G]`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::problems;

    /// Problems as `text under the range → what it should be: message`.
    #[track_caller]
    fn check(text: &str, expected: &[(&str, Option<&str>, &str)]) {
        let found = problems(text);
        let actual: Vec<_> = found
            .iter()
            .map(|it| (&text[it.range.clone()], it.should_be.as_deref(), it.kind.to_string()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|it| (it.0, it.1, it.2.to_owned())).collect();
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn what_pytorch_documents_is_accepted() {
        for text in [
            "",
            "max_split_size_mb:512",
            "max_split_size_mb: 512, garbage_collection_threshold : 0.8",
            "expandable_segments:True",
            "backend:cudaMallocAsync",
            "roundup_power2_divisions:4",
            "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
            "roundup_power2_divisions:[64:0,>:1],max_split_size_mb:20",
            "pinned_num_register_threads:8,pinned_use_cuda_host_register:True",
            "per_process_memory_fraction:1.0",
            "pinned_max_cached_size_mb:0",
            "expandable_segments_reserve:40G",
            "expandable_segments_reserve_by_class:[tiny:0.05,large:2G]",
            "max_split_size_mb:512,",
            // `stoull` stops at the unit.
            "max_split_size_mb:512MB",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn an_equals_sign_is_named_with_its_cure() {
        check(
            "max_split_size_mb=512,expandable_segments:True",
            &[(
                "max_split_size_mb=512",
                Some("max_split_size_mb:512"),
                "`max_split_size_mb` is separated from its value by `=`, PyTorch wants `:`",
            )],
        );
    }

    #[test]
    fn unknown_keys_get_the_nearest() {
        check(
            "max_split_size_mb:512,expandable_segment:True",
            &[(
                "expandable_segment",
                Some("expandable_segments"),
                "no setting of PyTorch's allocator is called `expandable_segment`",
            )],
        );
        check("foo:1", &[("foo", None, "no setting of PyTorch's allocator is called `foo`")]);
        check("foo=1", &[("foo=1", None, "no setting of PyTorch's allocator is called `foo`")]);
    }

    #[test]
    fn values_their_key_does_not_take_are_named() {
        check(
            "expandable_segments:true",
            &[("true", Some("True"), "`expandable_segments` takes `True` or `False`, not `true`")],
        );
        check(
            "max_split_size_mb:2GB",
            &[("2GB", None, "`max_split_size_mb` takes a whole number of at least 20, not `2GB`")],
        );
        check(
            "garbage_collection_threshold:80",
            &[(
                "80",
                None,
                "`garbage_collection_threshold` takes a number between 0 and 1, not `80`",
            )],
        );
        check(
            "backend:CudaMallocAsync",
            &[(
                "CudaMallocAsync",
                Some("cudaMallocAsync"),
                "`backend` takes `native` or `cudaMallocAsync` or `hipMallocAsync`, not `CudaMallocAsync`",
            )],
        );
        check(
            "roundup_power2_divisions:[256:3]",
            &[(
                "[256:3]",
                None,
                "`roundup_power2_divisions` takes a power of two or a list such as `[256:1,512:2,>:4]`, not `[256:3]`",
            )],
        );
    }

    #[test]
    fn broken_syntax_is_named() {
        check(
            "max_split_size_mb",
            &[("max_split_size_mb", None, "`max_split_size_mb` has no value")],
        );
        check(
            "max_split_size_mb:",
            &[("max_split_size_mb", None, "`max_split_size_mb` has no value")],
        );
        check(
            "max_split_size_mb:512:1",
            &[(":1", None, "`:1` stands where the next setting begins, after a comma")],
        );
    }

    #[test]
    fn no_text_breaks_the_reader() {
        for text in
            ["[", "]", ":", ",", "::", "[[]", "a:[", "roundup_power2_divisions:[", "é:ß", "a:[,]:"]
        {
            for problem in problems(text) {
                assert!(text.get(problem.range).is_some(), "{text}");
            }
        }
    }
}
