//! The values of calls: `str(1)`, `", ".join(…)`, `settings.get("gpu", 1)`.

use super::{
    super::{
        Reader, format, options,
        scope::ScopeId,
        syntax::{Expr, ast, range_of},
    },
    as_integer, as_text, joined,
};
use crate::value::{Spanned, Value};

impl Reader<'_, '_> {
    pub(super) fn call_value(
        &self,
        it: &ast::ExprCall,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        let first = it.arguments.args.first();
        match &*it.func {
            Expr::Name(name) if self.scopes.lookup(&name.id, scope).is_none() => {
                let Some(first) = first else { return here(Value::Unknown) };
                match name.id.as_str() {
                    "str" | "repr" => {
                        let inner = self.value_in(first, scope, depth);
                        return Spanned::new(as_text(inner.value), inner.span);
                    }
                    "int" => {
                        let inner = self.value_in(first, scope, depth);
                        return Spanned::new(as_integer(inner.value), inner.span);
                    }
                    // The index with the most free memory, or all of them in that order.
                    "max" | "min" | "sorted" if self.counts_nvml(first, None, scope, depth) => {
                        return here(Value::NvmlIndex);
                    }
                    "list" | "tuple" | "sorted" | "set" => {
                        return match self.value_in(first, scope, depth) {
                            it @ Spanned { value: Value::List(_), .. } => it,
                            _ => here(Value::Unknown),
                        };
                    }
                    "dict" => {
                        let items = it.arguments.keywords.iter().filter_map(|it| {
                            let name = it.arg.as_ref()?;
                            let key = Spanned::new(
                                Value::Str(name.to_string()),
                                self.span(range_of(name)),
                            );
                            Some((key, self.value_in(&it.value, scope, depth)))
                        });
                        return here(Value::Dict(items.collect()));
                    }
                    _ => {}
                }
            }
            Expr::Name(name) if name.id == "field" || name.id == "Field" => {
                let default = it.arguments.find_keyword("default").map(|it| &it.value).or(first);
                return match default {
                    Some(default) => self.value_in(default, scope, depth),
                    None => here(Value::Unknown),
                };
            }
            Expr::Attribute(method) => {
                if let Some(value) = self.method_value(it, method, expression, scope, depth) {
                    return value;
                }
            }
            _ => {}
        }
        if self.is_environment_read(it, scope) {
            return self.environment_read(it, expression, scope, depth);
        }
        if let Some(default) = options::declared_default(it) {
            let is_declaration = self
                .resolve_in(&it.func, scope, depth)
                .is_some_and(|it| options::declares(&it.name));
            if is_declaration {
                let value = self.value_in(default, scope, depth);
                return here(Value::ByDefault(Box::new(value)));
            }
        }
        if let Some(value) = self.returned(it, scope, depth) {
            return value;
        }
        if self.reads_nvidia_smi(it, scope, depth)
            || self.picks_by_nvml(it, scope, depth)
            || self.returns_nvml_index(it, scope, depth)
        {
            return here(Value::NvmlIndex);
        }
        here(Value::Unknown)
    }

    fn method_value(
        &self,
        it: &ast::ExprCall,
        method: &ast::ExprAttribute,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Option<Spanned> {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        let first = it.arguments.args.first();
        match method.attr.as_str() {
            "format" => {
                let Value::Str(pattern) = self.value_in(&method.value, scope, depth).value else {
                    return None;
                };
                let pieces = format::pieces_of_format(&pattern, &it.arguments)?;
                Some(self.text(&pieces, expression, scope, depth))
            }
            "join" => {
                let Value::Str(separator) = self.value_in(&method.value, scope, depth).value else {
                    return None;
                };
                let items = match self.mapped_list(first?, scope, depth) {
                    Value::List(items) => items,
                    // Several of NVML's indices.
                    Value::NvmlIndex => return Some(here(Value::NvmlIndex)),
                    _ => return Some(here(Value::Unknown)),
                };
                let mut parts = Vec::with_capacity(items.len() * 2);
                for item in items {
                    if !parts.is_empty() {
                        parts.push(Value::Str(separator.clone()));
                    }
                    parts.push(as_text(item.value));
                }
                Some(here(joined(parts)))
            }
            "strip" | "lower" | "upper" if first.is_none() => {
                let inner = self.value_in(&method.value, scope, depth);
                let value = match (inner.value, method.attr.as_str()) {
                    (Value::Str(it), "strip") => Value::Str(it.trim().to_owned()),
                    (Value::Str(it), "lower") => Value::Str(it.to_lowercase()),
                    (Value::Str(it), _) => Value::Str(it.to_uppercase()),
                    (it @ (Value::Variable(_) | Value::NvmlIndex), _) => it,
                    _ => return None,
                };
                Some(Spanned::new(value, inner.span))
            }
            // Where in a list of one item per GPU the best stands.
            "index" if self.lists_each_of_nvml(&method.value, scope, depth) => {
                Some(here(Value::NvmlIndex))
            }
            "decode" | "read" | "rstrip" | "split" | "splitlines" => {
                let inner = self.value_in(&method.value, scope, depth);
                (inner.value == Value::NvmlIndex).then_some(inner)
            }
            "get" if !self.is_environ_in(&method.value, scope) => {
                let owner = self.value_in(&method.value, scope, depth).value;
                let key = self.value_in(first?, scope, depth).value;
                if let Value::Dict(items) = owner {
                    return items.into_iter().rev().find(|it| it.0.value == key).map(|it| it.1);
                }
                // A setting read from somewhere: its default counts unless the user says otherwise.
                let default = self.value_in(it.arguments.args.get(1)?, scope, depth);
                match default.value {
                    Value::Int(_) | Value::Str(_) | Value::List(_) => {
                        Some(here(Value::ByDefault(Box::new(default))))
                    }
                    _ => None,
                }
            }
            "copy" => match self.value_in(&method.value, scope, depth) {
                it @ Spanned { value: Value::Dict(_) | Value::List(_), .. } => Some(it),
                _ => None,
            },
            _ => None,
        }
    }

    /// `map(str, [0, 1])`, `[str(i) for i in (0, 1)]`, or a list as it stands.
    fn mapped_list(&self, expression: &Expr, scope: ScopeId, depth: u32) -> Value {
        let over = match expression {
            Expr::Call(call) if matches!(&*call.func, Expr::Name(it) if it.id == "map") => {
                call.arguments.args.get(1)
            }
            Expr::ListComp(ast::ExprListComp { elt, generators, .. })
            | Expr::Generator(ast::ExprGenerator { elt, generators, .. }) => match &**generators {
                [only] if only.ifs.is_empty() => {
                    let element = match &**elt {
                        Expr::Call(call) => call.arguments.args.first(),
                        other => Some(other),
                    };
                    let same = matches!((element, &only.target), (Some(Expr::Name(a)), Expr::Name(b)) if a.id == b.id);
                    same.then_some(&only.iter)
                }
                _ => None,
            },
            other => Some(other),
        };
        over.map_or(Value::Unknown, |it| {
            if let Some(range) = self.literal_range(it, scope, depth) {
                return range;
            }
            self.value_in(it, scope, depth).value
        })
    }

    fn literal_range(&self, expression: &Expr, scope: ScopeId, depth: u32) -> Option<Value> {
        let Expr::Call(call) = expression else { return None };
        if !matches!(&*call.func, Expr::Name(it) if it.id == "range") {
            return None;
        }
        let [Expr::NumberLiteral(_)] = &*call.arguments.args else { return None };
        let end = self.value_in(&call.arguments.args[0], scope, depth);
        let Value::Int(count @ 0..=64) = end.value else { return None };
        Some(Value::List((0..count).map(|it| Spanned::new(Value::Int(it), end.span)).collect()))
    }
}
