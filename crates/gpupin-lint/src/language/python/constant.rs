//! What an expression's value is, as far as one file tells.

use super::{
    Reader,
    format::{self, Piece},
    scope::{Binding, Bound, ScopeId},
    syntax::{BoolOp, Expr, Number, Operator, UnaryOp, ast, range_of},
};
use crate::{
    catalogue::{self, Answer, Form},
    value::{Name, Root, Spanned, Value},
};

mod called;

const MAX_DEPTH: u32 = 24;
/// Longer lists and dictionaries are data, not settings.
const MAX_ITEMS: usize = 64;

impl<'a> Reader<'a, '_> {
    /// The value of an expression of the current scope, and the place of the literal that gives it.
    pub(super) fn value(&self, expression: &Expr) -> Spanned {
        self.value_in(expression, self.scope, 0)
    }

    pub(super) fn text_of(&self, expression: &Expr) -> Option<String> {
        match self.value(expression).value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn value_in(&self, expression: &Expr, scope: ScopeId, depth: u32) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        if depth > MAX_DEPTH {
            return here(Value::Unknown);
        }
        let next = depth + 1;
        let value = match expression {
            Expr::StringLiteral(it) => Value::Str(it.value.to_str().to_owned()),
            Expr::NumberLiteral(it) => match &it.value {
                Number::Int(number) => number.as_i64().map_or(Value::Unknown, Value::Int),
                Number::Float(number) => Value::Float(*number),
                Number::Complex { .. } => Value::Unknown,
            },
            Expr::BooleanLiteral(it) => Value::Bool(it.value),
            Expr::NoneLiteral(_) => Value::None,
            Expr::UnaryOp(it) if it.op == UnaryOp::USub => {
                match self.value_in(&it.operand, scope, next).value {
                    Value::Int(number) => number.checked_neg().map_or(Value::Unknown, Value::Int),
                    Value::Float(number) => Value::Float(-number),
                    _ => Value::Unknown,
                }
            }
            Expr::List(ast::ExprList { elts, .. })
            | Expr::Tuple(ast::ExprTuple { elts, .. })
            | Expr::Set(ast::ExprSet { elts, .. }) => {
                if elts.len() > MAX_ITEMS || elts.iter().any(Expr::is_starred_expr) {
                    Value::Unknown
                } else {
                    Value::List(elts.iter().map(|it| self.value_in(it, scope, next)).collect())
                }
            }
            Expr::Dict(it) => self.dictionary(it, scope, next),
            Expr::ListComp(it) if self.selects_nvml(it, scope, next) => Value::NvmlIndex,
            Expr::FString(it) => {
                let pieces = format::pieces_of_f_string(it);
                return self.text(&pieces, expression, scope, next);
            }
            Expr::BinOp(it) => return self.operation(it, expression, scope, next),
            Expr::If(it) => Value::OneOf(vec![
                self.value_in(&it.body, scope, next),
                self.value_in(&it.orelse, scope, next),
            ]),
            Expr::BoolOp(it) => self.either(it, scope, next),
            Expr::Named(it) => return self.value_in(&it.value, scope, next),
            Expr::Name(it) => match self.scopes.lookup(&it.id, scope) {
                Some(binding) => {
                    let binding = binding.clone();
                    let value = self.bound_value(&binding, expression, next);
                    if value.value == Value::Unknown
                        && self.nvml_names.contains(&(binding.scope, it.id.as_str()))
                    {
                        return here(Value::NvmlIndex);
                    }
                    return value;
                }
                None if !self.scopes.star_imports.is_empty() => {
                    Value::Name(Name::here(it.id.as_str()))
                }
                None => Value::Unknown,
            },
            Expr::Attribute(it) => return self.attribute_value(it, expression, scope, next),
            Expr::Subscript(it) => return self.item_value(it, expression, scope, next),
            Expr::Call(it) => return self.call_value(it, expression, scope, next),
            Expr::Await(it) => return self.value_in(&it.value, scope, next),
            _ => Value::Unknown,
        };
        here(value)
    }

    fn dictionary(&self, it: &ast::ExprDict, scope: ScopeId, depth: u32) -> Value {
        if it.items.len() > MAX_ITEMS {
            return Value::Unknown;
        }
        let mut items = Vec::with_capacity(it.items.len());
        for item in &it.items {
            let value = self.value_in(&item.value, scope, depth);
            match &item.key {
                Some(key) => items.push((self.value_in(key, scope, depth), value)),
                None => match value.value {
                    Value::Dict(spread) => items.extend(spread),
                    _ => return Value::Unknown,
                },
            }
        }
        Value::Dict(items)
    }

    /// `os.getenv("ID") or "0"`: the last is what counts unless the user says otherwise.
    fn either(&self, it: &ast::ExprBoolOp, scope: ScopeId, depth: u32) -> Value {
        let mut values: Vec<_> =
            it.values.iter().map(|it| self.value_in(it, scope, depth)).collect();
        if it.op == BoolOp::Or
            && let Some(last) = values.pop()
        {
            let user_says = values.iter().all(|it| {
                matches!(it.value, Value::Variable(_) | Value::None | Value::ByDefault(_))
            });
            if user_says {
                return Value::ByDefault(Box::new(last));
            }
        }
        Value::Unknown
    }

    fn operation(&self, it: &ast::ExprBinOp, whole: &Expr, scope: ScopeId, depth: u32) -> Spanned {
        let unknown = Spanned::new(Value::Unknown, self.span(range_of(whole)));
        let left = self.value_in(&it.left, scope, depth);
        if it.op == Operator::Mod
            && let Value::Str(pattern) = &left.value
        {
            let arguments: Vec<&Expr> = match &*it.right {
                Expr::Tuple(tuple) => tuple.elts.iter().collect(),
                Expr::Dict(_) => return unknown,
                single => vec![single],
            };
            return match format::pieces_of_percent(pattern, &arguments) {
                Some(pieces) => self.text(&pieces, whole, scope, depth),
                None => unknown,
            };
        }
        let right = self.value_in(&it.right, scope, depth);
        let value = match (left.value, it.op, right.value) {
            (Value::Int(a), op, Value::Int(b)) => integer_operation(a, op, b),
            (Value::List(mut a), Operator::Add, Value::List(b)) => {
                a.extend(b);
                Value::List(a)
            }
            (Value::Dict(mut a), Operator::BitOr, Value::Dict(b)) => {
                a.extend(b);
                Value::Dict(a)
            }
            (a, Operator::Add, b) if is_text(&a) || is_text(&b) => joined(vec![a, b]),
            _ => Value::Unknown,
        };
        Spanned::new(value, unknown.span)
    }

    /// A text put together from pieces. Keeps the place of the one piece that is not literal, if there is one.
    pub(super) fn text(
        &self,
        pieces: &[Piece<'_>],
        whole: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let values = pieces
            .iter()
            .map(|it| match it {
                Piece::Literal(text) => Value::Str((*text).to_string()),
                Piece::Expression(it) => as_text(self.value_in(it, scope, depth + 1).value),
                Piece::Formatted => Value::Unknown,
            })
            .collect();
        Spanned::new(joined(values), self.span(range_of(whole)))
    }

    fn bound_value(&self, binding: &Binding<'a>, expression: &Expr, depth: u32) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        let sole = binding.is_sole();
        match &binding.bound {
            Bound::Import(name) => here(Value::Name(name.clone())),
            Bound::Foreign(name) => here(project_name(name.clone())),
            Bound::Value(value) if sole => self.value_in(value, binding.scope, depth),
            Bound::Item(value, position) if sole => {
                match self.value_in(value, binding.scope, depth).value {
                    Value::List(mut items) if *position < items.len() => {
                        items.swap_remove(*position)
                    }
                    _ => here(Value::Unknown),
                }
            }
            Bound::Element(iterated, position) => {
                let counts_nvml = self.counts_nvml(iterated, *position, binding.scope, depth);
                here(if counts_nvml { Value::NvmlIndex } else { Value::Unknown })
            }
            Bound::Parameter(parameter) if !binding.again => {
                if let Some(value) = self.options.parameter(parameter) {
                    return here(Value::ByDefault(Box::new(value.clone())));
                }
                match &parameter.default {
                    Some(default) => {
                        let value = self.value_in(default, binding.scope, depth);
                        match value.value {
                            Value::ByDefault(_) | Value::Unknown => here(value.value),
                            // Nothing was said, and the body decides what that means.
                            Value::None => here(Value::Unknown),
                            _ => here(Value::ByDefault(Box::new(value))),
                        }
                    }
                    None => here(Value::Unknown),
                }
            }

            _ => here(Value::Unknown),
        }
    }

    fn attribute_value(
        &self,
        it: &ast::ExprAttribute,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        let name = it.attr.as_str();
        if let Some(value) = self.option_value(it, scope) {
            return here(Value::ByDefault(Box::new(value)));
        }
        if matches!(name, "id" | "index") && self.is_nvml_object(&it.value, scope, depth) {
            return here(Value::NvmlIndex);
        }
        // What a run of `nvidia-smi` wrote.
        if name == "stdout"
            && let Expr::Call(call) = &*it.value
            && self.reads_nvidia_smi(call, scope, depth)
        {
            return here(Value::NvmlIndex);
        }
        // A member of an enum: `Gpu.MAIN.value`.
        if name == "value" && it.value.is_attribute_expr() {
            let member = self.value_in(&it.value, scope, depth);
            if matches!(member.value, Value::Int(_) | Value::Str(_)) {
                return member;
            }
        }
        let Some(owner) = self.resolve_in(&it.value, scope, depth) else {
            return here(Value::Unknown);
        };
        if owner.is_member {
            return here(Value::Unknown);
        }
        if owner.name.root == Root::Here
            && let Some(class) = self.class_by_path(&owner.name.path)
        {
            if let Some(binding) = self.scopes.attribute(class, name) {
                let binding = binding.clone();
                let value = self.bound_value(&binding, expression, depth);
                return self.constructed(&it.value, name, value, scope, depth);
            }
            // A base in another module may have it.
            if !self.bases.contains_key(&class) {
                return here(Value::Unknown);
            }
        }
        here(project_name(super::names::join(&owner.name, name)))
    }

    /// `config.gpu_id` after `config = Config(gpu_id=1)`: what the call says wins over the class's default.
    fn constructed(
        &self,
        owner: &Expr,
        name: &str,
        default: Spanned,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let Expr::Name(object) = owner else { return default };
        let Some(binding) = self.scopes.lookup(&object.id, scope) else { return default };
        let Bound::Value(Expr::Call(call)) = binding.bound else { return default };
        match call.arguments.find_keyword(name) {
            Some(keyword) => self.value_in(&keyword.value, binding.scope, depth + 1),
            None => default,
        }
    }

    fn item_value(
        &self,
        it: &ast::ExprSubscript,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        if self.is_environ_in(&it.value, scope) {
            return match self.value_in(&it.slice, scope, depth).value {
                Value::Str(name) => here(Value::Variable(name)),
                _ => here(Value::Unknown),
            };
        }
        if self.answer_in(&it.value, scope, depth) == Some(Answer::NvmlIndices) {
            return here(Value::NvmlIndex);
        }
        let key = self.value_in(&it.slice, scope, depth).value;
        let owner = self.value_in(&it.value, scope, depth).value;
        match (owner, key) {
            (Value::Dict(items), key) => {
                let found = items.into_iter().rev().find(|it| it.0.value == key);
                found.map_or_else(|| here(Value::Unknown), |it| it.1)
            }
            (Value::List(mut items), Value::Int(at)) => match usize::try_from(at) {
                Ok(at) if at < items.len() => items.swap_remove(at),
                _ => here(Value::Unknown),
            },
            // A line of what `nvidia-smi` wrote.
            (Value::NvmlIndex, _) => here(Value::NvmlIndex),
            (Value::Name(name), Value::Str(key)) if is_word(&key) => {
                here(project_name(super::names::join(&name, &key)))
            }
            _ => here(Value::Unknown),
        }
    }

    /// What a call answers, for provenance: `GPUtil.getAvailable()`, directly or by a name bound once to it.
    pub(super) fn answer_in(
        &self,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Option<Answer> {
        if depth > MAX_DEPTH {
            return None;
        }
        match expression {
            Expr::Call(call) => {
                let segment = match &*call.func {
                    Expr::Attribute(it) => Some(it.attr.as_str()),
                    _ => None,
                };
                if segment.is_some_and(|it| catalogue::candidates(it).is_empty()) {
                    return None;
                }
                let resolved = self.resolve_in(&call.func, scope, depth)?;
                let path = resolved.name.library_path()?;
                catalogue::find(path, Form::Call)?.answers
            }
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, scope)?;
                match binding.bound {
                    Bound::Value(value) if !binding.again => {
                        self.answer_in(value, binding.scope, depth + 1)
                    }
                    _ => None,
                }
            }
            Expr::Attribute(it) => {
                let class = self.resolve_in(&it.value, scope, depth)?;
                let class = self.class_by_path(&class.name.path)?;
                let binding = self.scopes.attribute(class, &it.attr)?;
                match binding.bound {
                    Bound::Value(value) if !binding.again => {
                        self.answer_in(value, binding.scope, depth + 1)
                    }
                    _ => None,
                }
            }
            Expr::Await(it) => self.answer_in(&it.value, scope, depth + 1),
            _ => None,
        }
    }
}

/// What libraries define is no constant of the project.
fn project_name(name: Name) -> Value {
    let is_foreign = name.root == Root::Absolute && super::call::is_foreign(&name.path);
    if is_foreign && name.path != "sys.executable" { Value::Unknown } else { Value::Name(name) }
}

fn integer_operation(a: i64, op: Operator, b: i64) -> Value {
    let result = match op {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mult => a.checked_mul(b),
        Operator::FloorDiv if b > 0 => a.checked_div_euclid(b),
        Operator::Mod if b > 0 => a.checked_rem_euclid(b),
        Operator::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        Operator::LShift if (0..62).contains(&b) => a.checked_mul(1 << b),
        _ => None,
    };
    result.map_or(Value::Unknown, Value::Int)
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::Text(_))
}

/// What `str()` makes of a value.
pub(super) fn as_text(value: Value) -> Value {
    match value {
        Value::Int(number) => Value::Str(number.to_string()),
        Value::Bool(true) => Value::Str("True".to_owned()),
        Value::Bool(false) => Value::Str("False".to_owned()),
        Value::None => Value::Str("None".to_owned()),
        Value::ByDefault(inner) => {
            Value::ByDefault(Box::new(Spanned::new(as_text(inner.value), inner.span)))
        }
        Value::OneOf(values) => Value::OneOf(
            values.into_iter().map(|it| Spanned::new(as_text(it.value), it.span)).collect(),
        ),
        Value::List(_) | Value::Dict(_) | Value::Float(_) => Value::Unknown,
        // What the name means may be a number.
        name @ Value::Name(_) => Value::Text(vec![name]),
        other => other,
    }
}

/// What `int()` makes of a value.
pub(super) fn as_integer(value: Value) -> Value {
    match value {
        Value::Str(text) => text.trim().parse().map_or(Value::Unknown, Value::Int),
        Value::ByDefault(inner) => {
            Value::ByDefault(Box::new(Spanned::new(as_integer(inner.value), inner.span)))
        }
        Value::OneOf(values) => Value::OneOf(
            values.into_iter().map(|it| Spanned::new(as_integer(it.value), it.span)).collect(),
        ),
        Value::Bool(it) => Value::Int(i64::from(it)),
        Value::Text(mut parts) if matches!(&*parts, [Value::Name(_)]) => parts.swap_remove(0),
        Value::List(_) | Value::Dict(_) | Value::Float(_) | Value::Text(_) => Value::Unknown,
        other => other,
    }
}

/// Texts in a row as one: literal neighbours melt, and a single part stays itself.
pub(super) fn joined(parts: Vec<Value>) -> Value {
    let mut merged: Vec<Value> = Vec::with_capacity(parts.len());
    let flat = parts.into_iter().flat_map(|it| match it {
        Value::Text(parts) => parts,
        other => vec![other],
    });
    for part in flat {
        match (merged.last_mut(), part) {
            (_, Value::Str(text)) if text.is_empty() => {}
            (Some(Value::Str(before)), Value::Str(text)) => before.push_str(&text),
            (_, part) => merged.push(part),
        }
    }
    match merged.len() {
        0 => Value::Str(String::new()),
        // What a name means may be a number, and this is its text.
        1 if !matches!(merged[0], Value::Name(_)) => merged.swap_remove(0),
        _ => Value::Text(merged),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}
