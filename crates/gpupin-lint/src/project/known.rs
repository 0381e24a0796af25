//! What a value can be.

use crate::{
    project::{Known, Literal, Project},
    span::Span,
    unit::UnitId,
    value::{Spanned, Value},
};

/// How far values are followed through names and nested expressions.
const DEPTH: u32 = 8;

/// How many possibilities one value may have; more is as good as unknown.
const MOST: usize = 8;

impl Project<'_> {
    /// What a value can be: empty when unknown, several when a condition decides.
    ///
    /// Follows names to other modules of the project, to a depth of 8.
    pub fn known(&self, unit: UnitId, value: &Spanned) -> Vec<Known> {
        self.evaluate(unit, &value.value, value.span, DEPTH)
    }

    fn evaluate(&self, unit: UnitId, value: &Value, span: Span, depth: u32) -> Vec<Known> {
        let one = |literal| vec![Known { literal, by_default: false, unit, span }];
        if depth == 0 {
            return Vec::new();
        }
        match value {
            Value::None => one(Literal::None),
            Value::Bool(it) => one(Literal::Bool(*it)),
            Value::Int(it) => one(Literal::Int(*it)),
            Value::Float(it) => one(Literal::Float(*it)),
            Value::Str(it) => one(Literal::Str(it.clone())),
            Value::NvmlIndex => one(Literal::NvmlIndex),
            Value::List(items) => {
                let items: Option<Vec<Known>> = items
                    .iter()
                    .map(|it| self.evaluate(unit, &it.value, it.span, depth - 1).into_iter().next())
                    .collect();
                items.map(|it| one(Literal::List(it))).unwrap_or_default()
            }
            Value::Text(parts) => self.text(unit, parts, span, depth),
            Value::Name(name) => {
                let Some((at, found)) = self.constant(unit, name) else {
                    return Vec::new();
                };
                self.evaluate(at, &found.value, found.span, depth - 1)
            }
            Value::ByDefault(inner) => {
                let mut known = self.evaluate(unit, &inner.value, inner.span, depth - 1);
                for it in &mut known {
                    it.by_default = true;
                }
                known
            }
            Value::OneOf(arms) => {
                let known: Vec<_> = arms
                    .iter()
                    .flat_map(|it| self.evaluate(unit, &it.value, it.span, depth - 1))
                    .collect();
                if known.len() > MOST { Vec::new() } else { known }
            }
            Value::Dict(_) | Value::Variable(_) | Value::Unknown => Vec::new(),
        }
    }

    /// Text put together: every combination of what the parts can be.
    ///
    /// The literal's place is the part that varies, if exactly one does: `f"cuda:{GPU}"` leads to `GPU = 1`.
    fn text(&self, unit: UnitId, parts: &[Value], span: Span, depth: u32) -> Vec<Known> {
        let mut texts =
            vec![Known { literal: Literal::Str(String::new()), by_default: false, unit, span }];
        let mut named = false;
        for part in parts {
            let constant = matches!(part, Value::Str(_));
            let choices = self.evaluate(unit, part, span, depth - 1);
            let mut longer = Vec::new();
            for text in &texts {
                for choice in &choices {
                    let (Literal::Str(head), tail) = (&text.literal, as_text(&choice.literal))
                    else {
                        continue;
                    };
                    let Some(tail) = tail else {
                        // An index from NVML taints the whole text.
                        if choice.literal == Literal::NvmlIndex {
                            return vec![Known {
                                literal: Literal::NvmlIndex,
                                by_default: false,
                                unit,
                                span,
                            }];
                        }
                        return Vec::new();
                    };
                    let (at, place) = if constant || named {
                        (text.unit, text.span)
                    } else {
                        (choice.unit, choice.span)
                    };
                    longer.push(Known {
                        literal: Literal::Str(format!("{head}{tail}")),
                        by_default: text.by_default || choice.by_default,
                        unit: at,
                        span: place,
                    });
                }
            }
            named |= !constant;
            if longer.len() > MOST {
                return Vec::new();
            }
            texts = longer;
        }
        texts
    }
}

fn as_text(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Str(it) => Some(it.clone()),
        Literal::Int(it) => Some(it.to_string()),
        Literal::Bool(true) => Some("True".to_owned()),
        Literal::Bool(false) => Some("False".to_owned()),
        Literal::None => Some("None".to_owned()),
        Literal::Float(_) | Literal::List(_) | Literal::NvmlIndex => None,
    }
}
