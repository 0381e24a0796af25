//! Flags and settings that say which GPU.

use super::{part, text};
use crate::{
    catalogue::Numbering,
    language::{UnitBuilder, settings},
    span::Span,
    unit::{Choice, Purpose},
    value::{Spanned, Value},
};

/// Flags that say GPU: `--device cuda:1`, `--gpu-id=1`.
pub(super) fn choices(words: &[Spanned], out: &UnitBuilder) -> Vec<(Span, Choice)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate().skip(1) {
        let Some(flag) = text(word).filter(|it| it.starts_with('-')) else { continue };
        let (flag, value, value_word) = match flag.split_once('=') {
            Some((flag, value)) => (flag, value, word),
            None => match words.get(at + 1).and_then(|it| Some((text(it)?, it))) {
                Some((value, next)) => (flag, value, next),
                None => continue,
            },
        };
        if replaces_mask(flag) || counts(flag) {
            continue;
        }
        let by_default = matches!(value_word.value, Value::ByDefault(_));
        if let Some(choice) = choice(flag, value, value_word, by_default, out) {
            found.push((word.span.cover(value_word.span), choice));
        }
    }
    found
}

/// Flags that replace the mask are told by the words of the start.
fn replaces_mask(flag: &str) -> bool {
    let flag = flag.trim_start_matches('-').replace('_', "-");
    matches!(&*flag, "gpu-ids" | "cuda-device" | "default-device" | "include" | "gpus")
}

/// Slurm's flags, whose `gpu:8` is eight GPUs of any kind.
fn counts(flag: &str) -> bool {
    let flag = flag.trim_start_matches('-');
    flag == "gres" || flag.starts_with("gpus-per-") || flag == "tres-per-task"
}

/// A setting with a name and a text that says which GPU, whether by its name or by its text.
pub(crate) fn choice(
    name: &str,
    value: &str,
    word: &Spanned,
    by_default: bool,
    out: &UnitBuilder,
) -> Option<Choice> {
    let wrap = |number: i64, span: Span| {
        let exact = Spanned::new(Value::Int(number), span);
        if by_default { Spanned::new(Value::ByDefault(Box::new(exact)), word.span) } else { exact }
    };
    let (ordinals, numbering, purpose) = if let Some(device) = settings::device_text(value) {
        let whole = part(word, value.trim(), out);
        let digits = &value[device.digits];
        let span = if whole == word.span && out.source().slice(whole) != value.trim() {
            part(word, digits, out)
        } else {
            Span {
                start: whole.end.saturating_sub(u32::try_from(digits.len()).ok()?),
                end: whole.end,
            }
        };
        (vec![wrap(device.ordinal, span)], Numbering::Ordinal, Purpose::Choose)
    } else {
        let numbering = settings::says_gpu(name)?;
        let numbers = numbers(value)?;
        let ordinals = numbers.into_iter().map(|(number, digits)| {
            let span = if digits == value { part(word, value, out) } else { word.span };
            wrap(number, span)
        });
        (ordinals.collect(), numbering, Purpose::Setting)
    };
    let by = name.to_owned();
    Some(Choice::new(by, ordinals, numbering, purpose))
}

/// `1` or `0,1`.
fn numbers(text: &str) -> Option<Vec<(i64, &str)>> {
    text.split(',').map(|it| Some((it.trim().parse().ok()?, it.trim()))).collect()
}
