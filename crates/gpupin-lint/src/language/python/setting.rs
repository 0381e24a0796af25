//! A project's own settings whose name says GPU: `gpu_device_index=1`, `"gpu_id": 1`, `GPU_ID = 1`.
//!
//! What a name must say stands in [`crate::language::settings::says_gpu`]. Besides, a bare `device_id` or
//! `device_index` counts where its surroundings name CUDA: another entry of the same dictionary or call does. The
//! value must be a literal that stands there. A constant whose value reaches a call that the catalogue knows, or a
//! variable, is told there and not again here.

use super::{
    Reader,
    syntax::{Expr, ast, range_of},
};
use crate::{
    catalogue::Numbering,
    language::settings,
    span::Span,
    unit::{Choice, Does, Purpose},
    value::{Spanned, Value},
};

/// Where a setting stands.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Key(&'a ast::ExprDict),
    Keyword(&'a ast::ExprCall),
    /// `GPU_ID = 1`, `self.gpu_id = 1`, a field of a dataclass.
    Constant,
    Parameter,
    /// The default of a command line option.
    Option,
}

/// A setting that becomes an event unless its value is told elsewhere.
#[derive(Debug)]
pub(super) struct Candidate {
    span: Span,
    choice: Choice,
    function: Option<String>,
}

impl<'a> Reader<'a, '_> {
    pub(super) fn setting(&mut self, name: &str, value: &'a Expr, place: Place<'a>) {
        if self.context.only_tells || !may_say_gpu(name) {
            return;
        }
        // A mask in a dictionary becomes an event where the dictionary becomes an environment.
        if name.contains("VISIBLE_DEVICE") {
            return;
        }
        let numbering = match settings::says_gpu(name) {
            // LightGBM's number is OpenCL's when its device is "gpu".
            Some(Numbering::Ordinal) if name == "gpu_device_id" && names_opencl_beside(place) => {
                Numbering::Other
            }
            Some(numbering) => numbering,
            None if is_bare_device(name) && names_cuda_beside(place) => Numbering::Ordinal,
            None => return,
        };
        let value_range = range_of(value);
        let place_of_value = self.span(value_range.clone());
        let known = self.value(value);
        let mut ordinals = Vec::new();
        literals(&known, place_of_value, &mut ordinals);
        if ordinals.is_empty() {
            return;
        }
        let by_default =
            self.context.is_default || matches!(place, Place::Parameter | Place::Option);
        if by_default {
            for ordinal in &mut ordinals {
                let inner = ordinal.clone();
                ordinal.value = Value::ByDefault(Box::new(inner));
            }
        }
        let choice = Choice {
            by: name.to_owned(),
            ordinals,
            numbering,
            purpose: Purpose::Setting,
            only_with_more_than: self.context.more_than,
            refuses_number: false,
        };
        let function = self.out.enter(None);
        self.out.enter(function.clone());
        self.candidates.push(Candidate { span: place_of_value, choice, function });
    }

    /// Emits the settings whose value no other event names.
    pub(super) fn settle_settings(&mut self) {
        let used = std::mem::take(&mut self.used);
        for candidate in std::mem::take(&mut self.candidates) {
            let told = |it: &Spanned| match &it.value {
                Value::ByDefault(inner) => used.contains(&inner.span),
                _ => used.contains(&it.span),
            };
            if candidate.choice.ordinals.iter().all(told) {
                continue;
            }
            let before = self.out.enter(candidate.function);
            self.out.event(candidate.span, Does::Choose(candidate.choice));
            self.out.enter(before);
        }
    }
}

fn names_cuda_beside(place: Place<'_>) -> bool {
    let names_cuda = |it: &Expr| match it {
        Expr::StringLiteral(it) => it.value.to_str().to_ascii_lowercase().starts_with("cuda"),
        _ => false,
    };
    match place {
        Place::Key(it) => it.items.iter().any(|it| names_cuda(&it.value)),
        Place::Keyword(it) => {
            it.arguments.keywords.iter().any(|it| names_cuda(&it.value))
                || it.arguments.args.iter().any(names_cuda)
        }
        Place::Constant | Place::Parameter | Place::Option => false,
    }
}

fn names_opencl_beside(place: Place<'_>) -> bool {
    let says = |name: &str, value: &Expr| {
        matches!(name, "device" | "device_type")
            && matches!(value, Expr::StringLiteral(it) if it.value.to_str() == "gpu")
    };
    match place {
        Place::Key(it) => it.items.iter().any(|it| {
            matches!(&it.key, Some(Expr::StringLiteral(key)) if says(key.value.to_str(), &it.value))
        }),
        Place::Keyword(it) => it.arguments.keywords.iter().any(|it| {
            it.arg.as_ref().is_some_and(|name| says(name.as_str(), &it.value))
        }),
        Place::Constant | Place::Parameter | Place::Option => false,
    }
}

/// The numbers that stand as literals in a place.
fn literals(value: &Spanned, place: Span, into: &mut Vec<Spanned>) {
    if !place.contains(value.span) && !matches!(value.value, Value::ByDefault(_)) {
        return;
    }
    match &value.value {
        Value::Int(0..) => into.push(value.clone()),
        Value::Str(text) => {
            if let Ok(number @ 0..) = text.trim().parse::<i64>() {
                into.push(Spanned::new(Value::Int(number), value.span));
            }
        }
        Value::List(items) => {
            for item in items {
                literals(item, place, into);
            }
        }
        Value::ByDefault(inner) if place.contains(inner.span) => {
            let mut inside = Vec::new();
            literals(inner, place, &mut inside);
            into.extend(inside.into_iter().map(|it| {
                let span = it.span;
                Spanned::new(Value::ByDefault(Box::new(it)), span)
            }));
        }
        Value::OneOf(values) => {
            for value in values {
                literals(value, place, into);
            }
        }
        _ => {}
    }
}

/// A quick look before the name is taken apart.
fn may_say_gpu(name: &str) -> bool {
    let says = |word: &str| {
        name.as_bytes().windows(word.len()).any(|it| it.eq_ignore_ascii_case(word.as_bytes()))
    };
    name.len() >= 4 && (says("gpu") || says("cuda") || says("nvml") || is_bare_device(name))
}

fn is_bare_device(name: &str) -> bool {
    matches!(name, "device_id" | "device_ids" | "device_index" | "deviceId")
}
