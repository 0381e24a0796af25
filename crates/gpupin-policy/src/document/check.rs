use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    document::{Key, Node, Presence, Raw, Shape, Table, Value},
    problem::{Problem, ProblemKind, nearest},
};

/// A problem whose position is still in bytes only.
pub(crate) type Found = (Range<usize>, ProblemKind);

/// The document as a table of the parser, or its syntax errors.
pub(crate) fn parse(text: &str) -> Result<Raw<'_>, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = table.span();
        return Ok(Raw::new(span, DeValue::Table(table.into_inner())));
    }
    let problem = |error: &toml::de::Error| {
        let message = error.message().to_owned();
        Problem::new(text, error.span().unwrap_or(0..0), ProblemKind::Syntax { message })
    };
    Err(errors.iter().map(problem).collect())
}

/// Checks a table against its keys. Returns what is right in it.
pub(crate) fn table(
    raw: &Raw<'_>,
    groups: &[&[Key]],
    path: &str,
    found: &mut Vec<Found>,
) -> Option<Node> {
    let DeValue::Table(entries) = raw.get_ref() else {
        return wrong_type(raw, path, "a table", found);
    };
    let keys = || groups.iter().copied().flatten();
    let mut checked = Table::new();
    for (name, raw) in entries {
        let inner = join(path, name.get_ref());
        if let Some(key) = keys().find(|key| key.name == name.get_ref()) {
            if let Some(node) = value(raw, &key.shape, &inner, found) {
                checked.insert(key.name.to_owned(), node);
            }
        } else {
            let suggestion = suggest_key(name.get_ref(), groups);
            found.push((name.span(), ProblemKind::UnknownKey { key: inner, suggestion }));
        }
    }
    for key in keys() {
        if matches!(key.presence, Presence::Required) && !has(entries, key.name) {
            found.push((raw.span(), ProblemKind::MissingKey { key: join(path, key.name) }));
        }
    }
    Some(Node { span: raw.span(), value: Value::Table(checked) })
}

/// Checks one value against its shape.
pub(crate) fn value(
    raw: &Raw<'_>,
    shape: &Shape,
    path: &str,
    found: &mut Vec<Found>,
) -> Option<Node> {
    let checked = match shape {
        Shape::Text(kind) => {
            let DeValue::String(text) = raw.get_ref() else {
                return wrong_type(raw, path, kind.what, found);
            };
            if let Err(reason) = (kind.check)(text) {
                let (key, value) = (path.to_owned(), text.to_string());
                let reason = reason.to_string();
                found.push((raw.span(), ProblemKind::InvalidValue { key, value, reason }));
                return None;
            }
            Value::Text(text.to_string())
        }
        Shape::Choice(choices) => {
            let names: Vec<_> = choices.iter().map(|it| it.name).collect();
            let expected = format!("`{}`", names.join("` or `"));
            let DeValue::String(text) = raw.get_ref() else {
                return wrong_type(raw, path, &expected, found);
            };
            if !names.contains(&text.as_ref()) {
                let (key, value) = (path.to_owned(), text.to_string());
                let suggestion = nearest(text, names);
                let kind = ProblemKind::UnknownChoice { key, value, expected, suggestion };
                found.push((raw.span(), kind));
                return None;
            }
            Value::Text(text.to_string())
        }
        Shape::Number(least) => {
            let expected = format!("a whole number of at least {least}");
            let DeValue::Integer(it) = raw.get_ref() else {
                return wrong_type(raw, path, &expected, found);
            };
            let number = u32::from_str_radix(it.as_str(), it.radix()).ok();
            let Some(number) = number.filter(|it| it >= least) else {
                let (key, value) = (path.to_owned(), it.as_str().to_owned());
                let reason = format!("expected {expected} and below 2³²");
                found.push((raw.span(), ProblemKind::InvalidValue { key, value, reason }));
                return None;
            };
            Value::Number(number)
        }
        Shape::List(shape) => {
            let DeValue::Array(items) = raw.get_ref() else {
                return wrong_type(raw, path, "a list", found);
            };
            let before = found.len();
            let check = |(index, item)| value(item, shape, &format!("{path}[{index}]"), found);
            let items: Vec<_> = items.iter().enumerate().filter_map(check).collect();
            if found.len() > before {
                return None;
            }
            Value::List(items)
        }
        Shape::Table(groups) => return table(raw, groups, path, found),
        Shape::Map(name_kind, shape) => {
            let DeValue::Table(entries) = raw.get_ref() else {
                return wrong_type(raw, path, "a table", found);
            };
            let mut checked = Table::new();
            for (name, raw) in entries {
                if let Err(reason) = (name_kind.check)(name.get_ref()) {
                    let (key, value) = (path.to_owned(), name.get_ref().to_string());
                    let reason = reason.to_string();
                    found.push((name.span(), ProblemKind::InvalidValue { key, value, reason }));
                }
                if let Some(node) = value(raw, shape, &join(path, name.get_ref()), found) {
                    checked.insert(name.get_ref().to_string(), node);
                }
            }
            Value::Table(checked)
        }
        Shape::AnyTable => {
            let DeValue::Table(entries) = raw.get_ref() else {
                return wrong_type(raw, path, "a table", found);
            };
            Value::Table(any_table(entries, path, found))
        }
    };
    Some(Node { span: raw.span(), value: checked })
}

fn any_table(entries: &DeTable<'_>, path: &str, found: &mut Vec<Found>) -> Table {
    let check = |(name, raw): (&Spanned<Cow<'_, str>>, &Raw<'_>)| {
        let node = any(raw, &join(path, name.get_ref()), found)?;
        Some((name.get_ref().to_string(), node))
    };
    entries.iter().filter_map(check).collect()
}

/// Takes any value. Tables stay tables, so that profiles merge with them.
fn any(raw: &Raw<'_>, path: &str, found: &mut Vec<Found>) -> Option<Node> {
    let plain = match raw.get_ref() {
        DeValue::Table(entries) => {
            let value = Value::Table(any_table(entries, path, found));
            return Some(Node { span: raw.span(), value });
        }
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(it) => match i64::from_str_radix(it.as_str(), it.radix()) {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => return wrong_type(raw, path, "a number of at most 64 bits", found),
        },
        DeValue::Float(it) => match it.as_str().parse() {
            Ok(number) => toml::Value::Float(number),
            Err(_) => return wrong_type(raw, path, "a number", found),
        },
        DeValue::Boolean(it) => toml::Value::Boolean(*it),
        DeValue::Datetime(it) => toml::Value::Datetime(*it),
        DeValue::Array(items) => {
            let items = items.iter().filter_map(|item| any(item, path, found));
            toml::Value::Array(items.map(|node| node.any()).collect())
        }
    };
    Some(Node { span: raw.span(), value: Value::Any(plain) })
}

fn wrong_type(raw: &Raw<'_>, path: &str, expected: &str, found: &mut Vec<Found>) -> Option<Node> {
    let kind = match raw.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    found.push((
        raw.span(),
        ProblemKind::WrongType { key: path.to_owned(), found: kind, expected: expected.to_owned() },
    ));
    None
}

/// The nearest key of the table; else, where a key of exactly this name belongs.
fn suggest_key(name: &str, groups: &[&[Key]]) -> Option<String> {
    let keys = || groups.iter().copied().flatten();
    nearest(name, keys().map(|key| key.name)).or_else(|| {
        keys().find_map(|key| {
            let inner = match &key.shape {
                // The name in between is the user's choice.
                Shape::Map(..) => return None,
                shape => shape.keys()?,
            };
            let belongs_here = inner.iter().copied().flatten().any(|it| it.name == name);
            belongs_here.then(|| format!("{}.{name}", key.name))
        })
    })
}

fn has(entries: &DeTable<'_>, name: &str) -> bool {
    entries.keys().any(|key| key.get_ref() == name)
}

pub(crate) fn join(path: &str, name: &str) -> String {
    let bare =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
