use std::ops::Range;

/// `CUDA_VISIBLE_DEVICES`, read the way the driver reads it.
///
/// The driver decides by the beginning of the text whether it is a list of UUIDs or of numbers, reads
/// numbers like C's `strtoul` into 32 bits, and stops at the first entry that is neither. The public
/// description is PyTorch's parser, which was tested against the driver (pytorch#92315); where both
/// differ this is what driver 580 was seen to do, see `docs/hardware.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub text: String,
    pub kind: MaskKind,
    /// What stands between the commas; nothing for an empty mask.
    pub entries: Vec<MaskEntry>,
    /// The entry that says the same as an earlier one, which makes the whole mask show no GPU.
    pub duplicate: Option<usize>,
}

/// What the driver takes a mask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// The empty text, which hides every GPU.
    Empty,
    Indices,
    Gpus,
    Migs,
}

/// One entry of a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskEntry {
    pub text: String,
    /// Bytes of the mask.
    pub span: Range<usize>,
    pub kind: EntryKind,
    /// Whether the driver takes it. It does not take an entry that ends the list, nor those after.
    pub taken: bool,
    /// What is unusual about the text. Empty for `0`, `-1`, or a UUID.
    pub quirks: Vec<Quirk>,
}

/// What the driver reads an entry as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A position in the base order.
    Index(u32),
    /// A number below zero, which ends the list. `-1` is the usual way to hide every GPU.
    Negative,
    /// A GPU's UUID or the beginning of one.
    Gpu,
    /// A MIG instance's UUID or its name.
    Mig,
    /// Neither in this place, which ends the list.
    End,
}

/// Something unusual about the text of an entry. Prints as a clause about the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Quirk {
    #[error("is blank, which ends the list")]
    Blank,
    #[error("has blanks around the number, which do not count")]
    Padding,
    #[error("has blanks around the UUID, which CUDA does not strip")]
    PaddedUuid,
    #[error("has text after the number, which does not count")]
    TrailingText,
    #[error("looks like a hexadecimal number, but only the leading `0` counts")]
    Hexadecimal,
    #[error("looks like a range, but only the first number counts")]
    Range,
    #[error("has a sign, which does not change the number")]
    Sign,
    #[error("is a sign without a number")]
    LoneSign,
    #[error("has leading zeros, which do not count")]
    LeadingZeros,
    #[error("is in quotes, which are part of the text and end the list")]
    Quotes,
    #[error("is a word, which ends the list")]
    Word,
    #[error("has characters outside ASCII")]
    NonAscii,
    #[error("is too large a number, of which CUDA keeps the lowest 32 bits")]
    TooLarge,
    #[error(
        "is spelt with letters of another case than NVML's UUIDs, which PyTorch does not match"
    )]
    UuidCase,
    #[error("is not the beginning of a UUID, so it names no GPU")]
    NotAUuid,
    #[error("is of another kind than the entries before it, which ends the list")]
    OtherKind,
    #[error("says the same as an earlier entry, which makes CUDA fail to start")]
    Duplicate,
    #[error("has a prefix in small letters, so it names no GPU")]
    PrefixCase,
}

impl Mask {
    /// Reads a mask. Every text is a mask.
    pub fn parse(text: &str) -> Self {
        let kind = match text {
            "" => MaskKind::Empty,
            _ if text.starts_with("GPU-") => MaskKind::Gpus,
            _ if text.starts_with("MIG-") => MaskKind::Migs,
            _ => MaskKind::Indices,
        };
        let mut mask = Self { text: text.to_owned(), kind, entries: vec![], duplicate: None };
        if kind == MaskKind::Empty {
            return mask;
        }

        let mut start = 0;
        let mut ended = false;
        for text in text.split(',') {
            let span = start..start + text.len();
            start = span.end + 1;
            let (entry_kind, mut quirks) = match kind {
                MaskKind::Indices | MaskKind::Empty => number(text, mask.entries.is_empty()),
                MaskKind::Gpus => uuid(text, "GPU-", EntryKind::Gpu),
                MaskKind::Migs => uuid(text, "MIG-", EntryKind::Mig),
            };
            let mut entry = MaskEntry {
                text: text.to_owned(),
                span,
                kind: entry_kind,
                taken: !ended && !matches!(entry_kind, EntryKind::Negative | EntryKind::End),
                quirks: vec![],
            };
            ended |= !entry.taken;
            if entry.taken && mask.taken().any(|it| same(it, &entry)) {
                mask.duplicate.get_or_insert(mask.entries.len());
                quirks.push(Quirk::Duplicate);
            }
            entry.quirks = quirks;
            mask.entries.push(entry);
        }
        mask
    }

    /// The entries the driver takes, if no [duplicate](Self::duplicate) spoils the list.
    pub fn taken(&self) -> impl Iterator<Item = &MaskEntry> {
        self.entries.iter().filter(|entry| entry.taken)
    }

    /// Whether no GPU is visible on any machine.
    pub fn hides_every_gpu(&self) -> bool {
        self.duplicate.is_some() || self.taken().next().is_none()
    }

    /// The entries the driver looks at: those it takes and the one that ends the list.
    pub(crate) fn read(&self) -> impl Iterator<Item = &MaskEntry> {
        let end = self.entries.iter().position(|entry| !entry.taken);
        self.entries.iter().take(end.map_or(usize::MAX, |it| it + 1))
    }
}

fn same(a: &MaskEntry, b: &MaskEntry) -> bool {
    match (a.kind, b.kind) {
        (EntryKind::Index(a), EntryKind::Index(b)) => a == b,
        _ => a.text.eq_ignore_ascii_case(&b.text),
    }
}

/// Reads an entry of a list of numbers.
fn number(text: &str, first: bool) -> (EntryKind, Vec<Quirk>) {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    if trimmed.is_empty() {
        return (EntryKind::End, vec![Quirk::Blank]);
    }
    if is_uuid_like(trimmed) {
        // Only without the blank, or in capitals, would the mask be a list of UUIDs.
        let quirk = match first {
            true if trimmed.len() < text.len() => Quirk::PaddedUuid,
            true => Quirk::PrefixCase,
            false => Quirk::OtherKind,
        };
        return (EntryKind::End, vec![quirk]);
    }

    let unsigned = trimmed.strip_prefix(['+', '-']);
    let digits_on = unsigned.unwrap_or(trimmed);
    let end = digits_on.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits_on.len());
    let (digits, rest) = digits_on.split_at(end);
    if digits.is_empty() {
        let quirk = match trimmed.chars().next() {
            Some('+' | '-') => Quirk::LoneSign,
            Some(c) if !c.is_ascii() => Quirk::NonAscii,
            Some('"' | '\'' | '`') => Quirk::Quotes,
            _ => Quirk::Word,
        };
        return (EntryKind::End, vec![quirk]);
    }

    // As `strtoul` does, whose result goes into 32 bits with a sign.
    let magnitude = digits.parse().unwrap_or(u64::MAX);
    let is_minus = trimmed.starts_with('-');
    let long = if is_minus && magnitude != u64::MAX { magnitude.wrapping_neg() } else { magnitude };
    let index = u32::try_from(long & 0xffff_ffff).ok().filter(|it| i32::try_from(*it).is_ok());
    let too_large = magnitude > u64::from(i32::MAX.unsigned_abs());
    let zero_x = digits == "0" && rest.starts_with(['x', 'X']);
    let padded = trimmed.len() < text.len();
    let quirks = [
        (Quirk::Padding, padded),
        (Quirk::Sign, unsigned.is_some() && (!is_minus || magnitude == 0)),
        (Quirk::LeadingZeros, digits.len() > 1 && digits.starts_with('0')),
        (Quirk::TooLarge, too_large),
        // A reader for whom other digits are digits reads other numbers.
        (Quirk::NonAscii, rest.starts_with(|c: char| !c.is_ascii())),
        (Quirk::Hexadecimal, zero_x),
        (Quirk::Range, is_range(rest)),
        (Quirk::TrailingText, !rest.is_empty() && !zero_x && !is_range(rest)),
    ];
    let quirks = quirks.into_iter().filter_map(|(quirk, holds)| holds.then_some(quirk)).collect();
    (index.map_or(EntryKind::Negative, EntryKind::Index), quirks)
}

/// Whether a number followed by `rest` is meant as a range: `0-1`, `0:1`, `0..1`.
fn is_range(rest: &str) -> bool {
    let rest = rest.trim_start();
    let end = rest.strip_prefix("..").or(rest.strip_prefix(['-', ':', '~']));
    end.is_some_and(|it| it.trim_start().starts_with(|c: char| c.is_ascii_digit()))
}

/// Reads an entry of a list of UUIDs, which the driver does not strip.
fn uuid(text: &str, prefix: &str, kind: EntryKind) -> (EntryKind, Vec<Quirk>) {
    let trimmed = text.trim();
    let Some(rest) = text.strip_prefix(prefix) else {
        let quirk = match trimmed {
            "" => Quirk::Blank,
            _ if trimmed.starts_with(prefix) => Quirk::PaddedUuid,
            _ if starts_with_ignore_case(trimmed, prefix) => Quirk::PrefixCase,
            _ if trimmed.starts_with(['"', '\'']) => Quirk::Quotes,
            _ if is_uuid_like(trimmed) => Quirk::OtherKind,
            _ if trimmed.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c)) => {
                Quirk::OtherKind
            }
            _ => Quirk::Word,
        };
        return (EntryKind::End, vec![quirk]);
    };
    // What follows a whole UUID does not count: 36 characters.
    let whole = kind == EntryKind::Gpu && rest.get(..UUID_LENGTH).is_some_and(is_hex);
    let rest = if whole { &rest[..UUID_LENGTH] } else { rest };
    let hex = rest.strip_prefix("GPU-").filter(|_| kind == EntryKind::Mig).unwrap_or(rest);
    let valid = !hex.is_empty()
        && hex
            .bytes()
            .all(|c| c.is_ascii_hexdigit() || c == b'-' || (c == b'/' && kind == EntryKind::Mig));
    let quirks = [
        (Quirk::TrailingText, whole && text.len() > prefix.len() + UUID_LENGTH),
        (Quirk::NotAUuid, !valid),
        (Quirk::UuidCase, valid && hex.bytes().any(|c| c.is_ascii_uppercase())),
    ];
    (kind, quirks.into_iter().filter_map(|(quirk, holds)| holds.then_some(quirk)).collect())
}

const UUID_LENGTH: usize = 36;

fn is_hex(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-')
}

fn is_uuid_like(text: &str) -> bool {
    ["GPU-", "MIG-"].iter().any(|prefix| starts_with_ignore_case(text, prefix))
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;
