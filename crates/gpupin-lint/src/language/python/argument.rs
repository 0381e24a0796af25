//! What an entry of the catalogue says about a call's arguments.

use super::{
    Reader,
    provenance::is_named,
    scope::{Bound, ScopeId},
    syntax::{Expr, ast, range_of},
};
use crate::{
    catalogue::{self, Api, Argument, Form, Freezes, Shape},
    unit::{Choice, Does, Freeze, Purpose, Spread, Step, Sureness},
    value::{Spanned, Value},
};

/// What arguments were found to say.
#[derive(Debug, Default)]
struct Said {
    ordinals: Vec<Spanned>,
    spreads: Vec<Spread>,
    /// Some argument names CUDA, with or without a number.
    cuda: Option<Sureness>,
    /// Some argument names every GPU that may be used: work spreads over these and no others.
    names_gpus: bool,
    /// Values that would have to be a device without a number.
    kinds: Vec<Spanned>,
}

impl<'a> Reader<'a, '_> {
    /// Emits what a call of an API does.
    pub(super) fn apply(
        &mut self,
        api: &'static Api,
        it: &'a ast::ExprCall,
        steps: &mut Vec<Step>,
    ) {
        let mut said = Said::default();
        for argument in api.arguments() {
            let value = it.arguments.find_keyword(argument.keyword).map(|it| &it.value);
            let value = value.or_else(|| it.arguments.find_positional(argument.position?));
            match value {
                Some(value) => self.read_argument(argument, value, it, &mut said),
                None => self.missing_argument(argument, it, &mut said),
            }
        }
        self.say(api, said, range_of(it), steps);
    }

    fn say(
        &mut self,
        api: &'static Api,
        said: Said,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if !said.ordinals.is_empty() {
            for ordinal in &said.ordinals {
                self.uses(ordinal);
            }
            let choice = Choice {
                only_with_more_than: self.context.more_than,
                refuses_number: false,
                ..Choice::new(api.title(), said.ordinals, api.numbering, api.purpose)
            };
            self.emit(steps, range.clone(), Does::Choose(choice));
        }
        if !said.kinds.is_empty() {
            let choice = Choice {
                only_with_more_than: self.context.more_than,
                refuses_number: true,
                ..Choice::new(api.title(), said.kinds, api.numbering, api.purpose)
            };
            self.emit(steps, range.clone(), Does::Choose(choice));
        }
        for spread in said.spreads.into_iter().filter(|_| !said.names_gpus) {
            self.emit(steps, range.clone(), Does::Spread(spread));
        }
        if api.spreads && !said.names_gpus {
            let spread = Spread::new(api.title(), None);
            self.emit(steps, range.clone(), Does::Spread(spread));
        }
        let sure = match api.freezes {
            Freezes::No => None,
            Freezes::Yes(sure) => Some(sure),
            Freezes::OnCuda(sure) => said.cuda.map(|it| it.max(sure)),
        };
        if let Some(sure) = sure {
            let by = format!("{}()", api.title());
            self.emit(steps, range, Does::Freeze(Freeze { by, sure }));
        }
    }

    /// `config.gpu_options.visible_device_list = "1"`.
    pub(super) fn assigned_api(
        &mut self,
        target: &'a ast::ExprAttribute,
        value: &'a Expr,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if catalogue::candidates(&target.attr).is_empty() {
            return;
        }
        let mut path =
            self.resolve(&target.value).and_then(|it| it.name.library_path().map(str::to_owned));
        if path.is_none()
            && let Expr::Attribute(owner) = &*target.value
        {
            path = Some(format!("?.{}", owner.attr));
        }
        let Some(path) = path else { return };
        let Some(api) = catalogue::find(&format!("{path}.{}", target.attr), Form::Assignment)
        else {
            return;
        };
        let mut said = Said::default();
        for argument in api.arguments() {
            let value = self.value(value);
            read_value(argument.shape, argument.keyword, value, &mut said);
        }
        self.say(api, said, range, steps);
    }

    /// `jax.devices()[1]`, `numba.cuda.gpus[1]`, directly or behind a name.
    pub(super) fn indexed(
        &mut self,
        it: &'a ast::ExprSubscript,
        whole: &'a Expr,
        steps: &mut Vec<Step>,
    ) {
        if !matches!(&*it.slice, Expr::NumberLiteral(_) | Expr::Name(_) | Expr::Attribute(_)) {
            return;
        }
        let Some(path) = self.indexed_path(&it.value, self.scope, 0) else { return };
        let Some(api) = catalogue::find(&path, Form::Index) else { return };
        let ordinal = self.value(&it.slice);
        if counts(&ordinal.value) {
            let said = Said { ordinals: vec![ordinal], ..Said::default() };
            self.say(api, said, range_of(whole), steps);
        }
    }

    fn indexed_path(&self, owner: &Expr, scope: ScopeId, depth: u32) -> Option<String> {
        if depth > 4 {
            return None;
        }
        match owner {
            Expr::Call(call) => {
                super::call::last_segment(&call.func)
                    .filter(|it| !catalogue::candidates(it).is_empty())?;
                let name = self.resolve_in(&call.func, scope, depth)?.name;
                // Only its GPUs, not `list_physical_devices("CPU")`.
                let keywords = call.arguments.keywords.iter().map(|it| &it.value);
                let asks_for_cpu = call.arguments.args.iter().chain(keywords).any(
                    |it| matches!(it, Expr::StringLiteral(it) if it.value.to_str().eq_ignore_ascii_case("cpu")),
                );
                name.library_path().filter(|_| !asks_for_cpu).map(str::to_owned)
            }
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, scope)?;
                match binding.bound {
                    Bound::Value(value) if !binding.again => {
                        self.indexed_path(value, binding.scope, depth + 1)
                    }
                    Bound::Import(ref name) | Bound::Foreign(ref name) => {
                        name.library_path().map(str::to_owned)
                    }
                    _ => None,
                }
            }
            Expr::Attribute(it) if !catalogue::candidates(&it.attr).is_empty() => {
                let name = self.resolve_in(owner, scope, depth)?.name;
                name.library_path().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// A `device=` of a library's function that has no entry of its own.
    pub(super) fn apply_device(
        &mut self,
        value: &'a Expr,
        path: &str,
        purpose: Purpose,
        steps: &mut Vec<Step>,
    ) {
        let range = range_of(value);
        let value_known = self.value(value);
        if matches!(value_known.value, Value::Int(0..)) {
            self.uses(&value_known);
            let choice = Choice {
                by: format!("{path}(device=…)"),
                ordinals: vec![value_known],
                numbering: catalogue::Numbering::Ordinal,
                purpose,
                only_with_more_than: self.context.more_than,
                refuses_number: false,
            };
            self.emit(steps, range.clone(), Does::Choose(choice));
        }
        if let Some(sure) = self.names_cuda(value, self.scope, 0) {
            let by = format!("{path}(device=\"cuda\")");
            self.emit(steps, range, Does::Freeze(Freeze { by, sure }));
        }
    }

    fn read_argument(
        &mut self,
        argument: &Argument,
        expression: &'a Expr,
        call: &'a ast::ExprCall,
        said: &mut Said,
    ) {
        // `device_index=1` counts for whatever `device` says.
        if matches!(argument.shape, Shape::Device | Shape::Kind)
            && argument.keyword != "device_index"
        {
            said.cuda = said.cuda.or_else(|| self.names_cuda(expression, self.scope, 0));
        }
        let value = self.value(expression);
        // A number that only the run tells.
        if matches!(argument.shape, Shape::Device | Shape::Number)
            && value.value == Value::Unknown
            && self.is_integer(expression)
        {
            said.ordinals.push(value);
            return;
        }
        // A text that stands here, or is put together here, speaks for itself.
        if argument.shape == Shape::Kind && matches!(expression, Expr::Name(_) | Expr::Attribute(_))
        {
            said.kinds.extend(names_device(&value.value).then_some(value));
            return;
        }
        if argument.shape == Shape::Strategy {
            if let Value::Str(name) = &value.value
                && takes_every_gpu(name)
                && !self.limits_devices(call)
            {
                let by = format!("{}=\"{name}\"", argument.keyword);
                said.spreads.push(Spread::new(by, None));
            }
            return;
        }
        said.names_gpus |= match argument.shape {
            Shape::Keys => self.has_literal_keys(expression),
            _ => {
                argument.lists_devices()
                    && value.value != Value::None
                    && !self.names_every_gpu(expression, 0)
            }
        };
        read_value(argument.shape, argument.keyword, value, said);
    }

    /// Whether an expression gives an integer, whatever it is: `int(…)`, an option with `type=int`, or a name of such.
    fn is_integer(&self, expression: &Expr) -> bool {
        match expression {
            Expr::Call(it) => is_named(&it.func, "int"),
            Expr::Attribute(it) => self.is_integer_option(it, self.scope),
            Expr::Name(it) => match self.scopes.lookup(&it.id, self.scope).map(|it| &it.bound) {
                Some(Bound::Value(Expr::Call(call))) => is_named(&call.func, "int"),
                // `range(2)`, not one of as many as there are.
                Some(Bound::Element(Expr::Call(call), None)) => {
                    is_named(&call.func, "range")
                        && call
                            .arguments
                            .args
                            .last()
                            .is_some_and(|it| matches!(self.value(it).value, Value::Int(2..)))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// `range(torch.cuda.device_count())`, or a list of it, or `jax.devices()`: names all there are.
    fn names_every_gpu(&self, expression: &Expr, depth: u32) -> bool {
        if depth > 4 {
            return false;
        }
        match expression {
            Expr::Call(call) if is_named(&call.func, "list") || is_named(&call.func, "range") => {
                call.arguments.args.last().is_some_and(|it| self.names_every_gpu(it, depth + 1))
            }
            Expr::ListComp(it) => {
                it.generators.first().is_some_and(|it| self.names_every_gpu(&it.iter, depth + 1))
            }
            Expr::Name(name) => {
                match self.scopes.lookup(&name.id, self.scope).map(|it| &it.bound) {
                    Some(Bound::Value(value)) => self.names_every_gpu(value, depth + 1),
                    _ => false,
                }
            }
            other => self.counts_gpus(other) || self.lists_gpus(other),
        }
    }

    /// `jax.devices()`, `numba.cuda.gpus`: every GPU there is, one by one.
    pub(super) fn lists_gpus(&self, expression: &Expr) -> bool {
        self.indexed_path(expression, self.scope, 0)
            .is_some_and(|path| catalogue::find(&path, Form::Index).is_some())
    }

    /// Whether a dictionary says in the text which keys it has, also behind a name whose later values are other amounts.
    fn has_literal_keys(&self, expression: &Expr) -> bool {
        let dictionary = match expression {
            Expr::Name(name) => {
                match self.scopes.lookup(&name.id, self.scope).map(|it| &it.bound) {
                    Some(Bound::Value(value)) => *value,
                    _ => return false,
                }
            }
            other => other,
        };
        matches!(dictionary, Expr::Dict(it) if !it.items.is_empty() && it.items.iter().all(|item| {
            matches!(item.key, Some(Expr::NumberLiteral(_) | Expr::StringLiteral(_)))
        }))
    }

    fn missing_argument(&mut self, argument: &Argument, call: &'a ast::ExprCall, said: &mut Said) {
        // Lightning takes every GPU unless told how many.
        if argument.shape == Shape::Devices
            && argument.keyword == "devices"
            && call.arguments.find_keyword("gpus").is_none()
            && let Some(accelerator) = call.arguments.find_keyword("accelerator")
            && let Some(text) = self.text_of(&accelerator.value)
            && matches!(text.as_str(), "gpu" | "cuda")
        {
            let by = format!("accelerator=\"{text}\"");
            said.spreads.push(Spread::new(by, None));
        }
    }

    /// `devices=1` or `devices=[1]` beside a strategy.
    fn limits_devices(&self, call: &ast::ExprCall) -> bool {
        ["devices", "gpus"].into_iter().any(|name| {
            call.arguments.find_keyword(name).is_some_and(|it| match self.value(&it.value).value {
                Value::Int(count) => count == 1,
                Value::List(items) => items.len() == 1,
                Value::Str(text) => text == "1" || text.ends_with(','),
                _ => true,
            })
        })
    }

    /// Whether an expression names a CUDA device, as far as the file tells: `"cuda"`, `torch.device("cuda")`,
    /// or a name bound to one. Uncertain when a condition decides.
    pub(super) fn names_cuda(
        &self,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Option<Sureness> {
        if depth > 8 {
            return None;
        }
        let next = depth + 1;
        match expression {
            Expr::StringLiteral(it) => {
                let text = it.value.to_str();
                (text == "cuda" || text.starts_with("cuda:")).then_some(Sureness::Sure)
            }
            Expr::NumberLiteral(_) => Some(Sureness::Sure),
            Expr::If(it) => self
                .names_cuda(&it.body, scope, next)
                .or_else(|| self.names_cuda(&it.orelse, scope, next))
                .map(|_| Sureness::Uncertain),
            Expr::FString(_) | Expr::BinOp(_) => match self.value_in(expression, scope, next).value
            {
                Value::Str(text) => text.starts_with("cuda").then_some(Sureness::Sure),
                Value::Text(parts) => {
                    let cuda =
                        matches!(parts.first(), Some(Value::Str(it)) if it.starts_with("cuda"));
                    cuda.then_some(Sureness::Sure)
                }
                _ => None,
            },
            Expr::Call(call) => {
                let segment = super::call::last_segment(&call.func)?;
                if segment != "device" {
                    return None;
                }
                self.names_cuda(call.arguments.find_argument_value("device", 0)?, scope, next)
            }
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, scope)?;
                match binding.bound {
                    Bound::Value(value) => {
                        let sure = self.names_cuda(value, binding.scope, next)?;
                        Some(if binding.is_sole() { sure } else { Sureness::Uncertain })
                    }
                    Bound::Parameter(parameter) => {
                        let default = parameter.default.as_deref()?;
                        if default.is_number_literal_expr() {
                            return None;
                        }
                        self.names_cuda(default, binding.scope, next).map(|_| Sureness::Uncertain)
                    }
                    _ => None,
                }
            }
            Expr::Attribute(it) => {
                let class = self.resolve_in(&it.value, scope, next)?;
                let class = self.class_by_path(&class.name.path)?;
                let binding = self.scopes.attribute(class, &it.attr)?;
                match binding.bound {
                    Bound::Value(value) => {
                        let sure = self.names_cuda(value, binding.scope, next)?;
                        Some(if binding.is_sole() { sure } else { Sureness::Uncertain })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn read_value(shape: Shape, keyword: &str, value: Spanned, said: &mut Said) {
    let spread = Spread::new;
    match (shape, &value.value) {
        (Shape::Device, Value::List(items)) => {
            for item in items {
                read_value(shape, keyword, item.clone(), said);
            }
        }
        (Shape::Device, Value::Str(text)) => said.ordinals.extend(numbers(text, value.span)),
        (Shape::Device, it) if counts(it) => said.ordinals.push(value),
        (Shape::Number, Value::Int(0..)) => said.ordinals.push(value),
        (Shape::DeviceMap, Value::Str(text)) if is_automatic(text) => {
            said.cuda = said.cuda.or(Some(Sureness::Sure));
            said.spreads.push(spread(format!("{keyword}=\"{text}\""), None));
        }
        (Shape::DeviceMap, Value::Dict(items)) => {
            for (_, item) in items {
                read_value(Shape::Device, keyword, item.clone(), said);
                if matches!(&item.value, Value::Int(0..))
                    || matches!(&item.value, Value::Str(it) if it.starts_with("cuda"))
                {
                    said.cuda = said.cuda.or(Some(Sureness::Sure));
                }
            }
        }
        (Shape::DeviceMap, Value::Int(0..)) => {
            said.cuda = said.cuda.or(Some(Sureness::Sure));
            said.ordinals.push(value);
        }
        (Shape::DeviceMap, Value::Str(text)) if text.starts_with("cuda") => {
            said.cuda = said.cuda.or(Some(Sureness::Sure));
        }
        (Shape::Keys, Value::Dict(items)) => {
            let keys = items.iter().map(|it| it.0.clone());
            said.ordinals.extend(keys.filter(|it| matches!(it.value, Value::Int(0..))));
        }
        (Shape::Providers, Value::List(items)) => {
            for item in items {
                read_value(shape, keyword, item.clone(), said);
            }
        }
        (Shape::Providers, Value::Dict(items)) => {
            let device = items.iter().find(|it| it.0.value == Value::Str("device_id".to_owned()));
            if let Some((_, ordinal)) = device {
                read_value(Shape::Device, keyword, ordinal.clone(), said);
            }
        }
        (Shape::Providers, Value::Str(text)) if is_cuda_provider(text) => {
            said.cuda = said.cuda.or(Some(Sureness::Sure));
        }
        (Shape::Uses, Value::Bool(true)) => said.cuda = said.cuda.or(Some(Sureness::Sure)),
        (Shape::Count, Value::Int(count)) if *count > 1 || *count == -1 => {
            let known = (*count > 1).then_some(*count);
            said.spreads.push(spread(format!("{keyword}={count}"), known));
        }
        (Shape::Shares, Value::List(items)) => {
            let is_none = |it: &Value| *it == Value::Int(0) || *it == Value::Float(0.0);
            let count = items.iter().filter(|it| !is_none(&it.value)).count();
            if count > 1 {
                said.spreads.push(spread(format!("{keyword}=[…]"), i64::try_from(count).ok()));
            }
        }
        (Shape::Devices, Value::Int(count)) if *count > 1 || *count == -1 => {
            let known = (*count > 1).then_some(*count);
            said.spreads.push(spread(format!("{keyword}={count}"), known));
        }
        (Shape::Devices, Value::List(items)) => {
            if items.len() > 1 {
                let count = i64::try_from(items.len()).ok();
                said.spreads.push(spread(format!("{keyword}=[…]"), count));
            }
            for item in items {
                read_value(Shape::Device, keyword, item.clone(), said);
            }
        }
        (Shape::Devices, Value::Str(text)) => match text.trim() {
            all @ ("-1" | "auto") => {
                said.spreads.push(spread(format!("{keyword}=\"{all}\""), None));
            }
            list if list.contains(',') => said.ordinals.extend(numbers(list, value.span)),
            count => {
                if let Ok(count @ 2..) = count.parse::<i64>() {
                    said.spreads.push(spread(format!("{keyword}=\"{count}\""), Some(count)));
                }
            }
        },
        (Shape::Mask, Value::Str(text)) => said.ordinals.extend(numbers(text, value.span)),
        (Shape::Mask, Value::List(items)) => {
            said.ordinals.extend(items.iter().filter(|it| counts(&it.value)).cloned());
        }
        (Shape::Mask, it) if counts(it) => said.ordinals.push(value),
        (Shape::Tail, Value::List(items)) => {
            for item in items {
                read_value(shape, keyword, item.clone(), said);
            }
        }
        (Shape::Tail, Value::Str(text)) => {
            said.cuda = said.cuda.or_else(|| {
                let lower = text.to_ascii_lowercase();
                (lower.contains("gpu") || lower.contains("cuda")).then_some(Sureness::Sure)
            });
            said.ordinals.extend(tail_numbers(text, value.span));
        }
        _ => {}
    }
}

/// Whether a value can be an ordinal. Negative numbers mean the CPU, or nothing.
fn counts(value: &Value) -> bool {
    match value {
        Value::Int(number) => *number >= 0,
        Value::Name(_) | Value::Variable(_) | Value::NvmlIndex => true,
        Value::ByDefault(inner) => counts(&inner.value),
        Value::OneOf(values) => values.iter().any(|it| counts(&it.value)),
        Value::Str(text) => text.bytes().all(|it| it.is_ascii_digit()) && !text.is_empty(),
        _ => false,
    }
}

/// Whether a value can be a device text with a number.
fn names_device(value: &Value) -> bool {
    match value {
        Value::Name(_) => true,
        Value::Str(text) => crate::language::settings::device_text(text).is_some(),
        Value::ByDefault(inner) => names_device(&inner.value),
        Value::OneOf(values) => values.iter().any(|it| names_device(&it.value)),
        _ => false,
    }
}

/// `"1"` and `"0,1"` as numbers.
fn numbers(text: &str, span: crate::span::Span) -> Vec<Spanned> {
    let parts: Option<Vec<i64>> = text
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .map(|it| it.parse().ok())
        .collect();
    let ordinals = parts.unwrap_or_default().into_iter().filter(|it| *it >= 0);
    ordinals.map(|it| Spanned::new(Value::Int(it), span)).collect()
}

/// `gpu:1`, `CUDA1`, and `CatBoost`'s `0:1` and `0-3`. Texts that name a device by themselves are told elsewhere.
fn tail_numbers(text: &str, span: crate::span::Span) -> Vec<Spanned> {
    let int = |it: i64| Spanned::new(Value::Int(it), span);
    if text.starts_with("cuda:") || text.starts_with('/') {
        return Vec::new();
    }
    if let Some(device) = crate::language::settings::device_text(text) {
        return vec![int(device.ordinal)];
    }
    if let Some(Ok(number)) = text.strip_prefix("CUDA").map(str::parse) {
        return vec![int(number)];
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last @ 0..=64)) = (first.parse::<i64>(), last.parse())
    {
        return (first..=last).map(int).collect();
    }
    let parts: Option<Vec<i64>> = text.split(':').map(|it| it.parse().ok()).collect();
    parts.unwrap_or_default().into_iter().map(int).collect()
}

fn is_automatic(text: &str) -> bool {
    matches!(text, "auto" | "balanced" | "balanced_low_0" | "sequential")
}

pub(super) fn is_cuda_provider(text: &str) -> bool {
    matches!(text, "CUDAExecutionProvider" | "TensorrtExecutionProvider" | "ROCMExecutionProvider")
}

fn takes_every_gpu(strategy: &str) -> bool {
    strategy == "dp" || ["ddp", "fsdp", "deepspeed"].iter().any(|it| strategy.starts_with(it))
}
