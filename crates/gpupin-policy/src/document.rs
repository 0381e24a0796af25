//! TOML documents that are checked against a table of keys.
//!
//! A format is a table of [`Key`]s. The same table drives the check of a document, its defaults,
//! its JSON Schema ([`schema`]) and its reference page ([`mod@reference`]), so a key is added in one
//! place. [`check`] turns text into a tree of [`Node`]s in which every key is known and every value
//! has its shape, or into the list of everything that is wrong, with positions. The code that
//! builds typed values out of the tree can therefore not fail.

use std::{collections::BTreeMap, ops::Range, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::value::InvalidValue;

pub(crate) mod check;
pub(crate) mod reference;
pub(crate) mod schema;

/// A key a table may have.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) presence: Presence,
    /// A value as TOML text, for the documentation and the tests.
    pub(crate) example: &'static str,
    /// One sentence, imperative or noun phrase, without a period.
    pub(crate) doc: &'static str,
}

/// What it means when a key is absent.
pub(crate) enum Presence {
    Required,
    Optional,
    /// The same as this TOML text.
    Default(&'static str),
}

/// What the value of a key looks like.
pub(crate) enum Shape {
    Text(&'static Text),
    /// One of these texts.
    Choice(&'static [Choice]),
    /// A whole number of at least this much.
    Number(u32),
    List(&'static Self),
    /// A table with the keys of all these groups.
    Table(&'static [&'static [Key]]),
    /// A table with names of the user's choice.
    Map(&'static Text, &'static Self),
    /// A table nothing is known about.
    AnyTable,
}

impl Shape {
    /// The keys of the table this is, or of the tables in it.
    fn keys(&self) -> Option<&'static [&'static [Key]]> {
        match self {
            Self::Table(groups) => Some(groups),
            Self::List(shape) | Self::Map(_, shape) => shape.keys(),
            Self::Text(_) | Self::Choice(_) | Self::Number(_) | Self::AnyTable => None,
        }
    }
}

/// A kind of text.
pub(crate) struct Text {
    /// What it is, with an article, for messages and documentation.
    pub(crate) what: &'static str,
    /// A regular expression for the schema, at most as strict as `check`.
    pub(crate) pattern: Option<&'static str>,
    pub(crate) check: fn(&str) -> Result<(), InvalidValue>,
}

/// One of the texts a key accepts.
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
}

/// Checks a text by parsing it as `T`.
pub(crate) fn parses<T: FromStr<Err = InvalidValue>>(text: &str) -> Result<(), InvalidValue> {
    text.parse::<T>().map(drop)
}

/// A checked value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(u32),
    List(Vec<Node>),
    Table(Table),
    /// A value inside [`Shape::AnyTable`].
    Any(toml::Value),
}

pub(crate) type Table = BTreeMap<String, Node>;

impl Node {
    pub(crate) fn table(&self) -> &Table {
        match &self.value {
            Value::Table(table) => table,
            _ => unreachable!("the shape was checked"),
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => unreachable!("the shape was checked"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match &self.value {
            Value::Text(text) => text,
            _ => unreachable!("the shape was checked"),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        match &self.value {
            Value::Number(number) => *number,
            _ => unreachable!("the shape was checked"),
        }
    }

    pub(crate) fn any(&self) -> toml::Value {
        match &self.value {
            Value::Any(value) => value.clone(),
            Value::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, it)| (key.clone(), it.any())).collect())
            }
            _ => unreachable!("the shape was checked"),
        }
    }

    pub(crate) fn parsed<T: FromStr<Err = InvalidValue>>(&self) -> T {
        self.text().parse().expect("the shape was checked")
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.list().iter().map(|it| it.text().to_owned()).collect()
    }

    /// Lays `other` over this value: tables merge key by key, everything else is replaced.
    pub(crate) fn overlay(&mut self, other: &Self) {
        if let (Value::Table(table), Value::Table(over)) = (&mut self.value, &other.value) {
            for (key, node) in over {
                match table.get_mut(key) {
                    Some(existing) => existing.overlay(node),
                    None => drop(table.insert(key.clone(), node.clone())),
                }
            }
        } else {
            *self = other.clone();
        }
    }

    /// Adds the defaults of `keys` where this table lacks them.
    pub(crate) fn fill(&mut self, groups: &[&[Key]]) {
        let span = self.span.clone();
        let Value::Table(table) = &mut self.value else { unreachable!("the shape was checked") };
        for key in groups.iter().copied().flatten() {
            if let (Presence::Default(text), false) = (&key.presence, table.contains_key(key.name))
            {
                let text = format!("default = {text}");
                let document = DeTable::parse(&text).expect("defaults are TOML");
                let (_, value) = document.get_ref().iter().next().expect("it has one key");
                let mut problems = vec![];
                let node = check::value(value, &key.shape, key.name, &mut problems);
                let mut node = node.expect("defaults have the shape of their key");
                node.span = span.clone();
                table.insert(key.name.to_owned(), node);
            }
            if let Some(node) = table.get_mut(key.name) {
                node.fill_inside(&key.shape);
            }
        }
    }

    fn fill_inside(&mut self, shape: &Shape) {
        match (&mut self.value, shape) {
            (Value::Table(_), Shape::Table(groups)) => self.fill(groups),
            (Value::Table(table), Shape::Map(_, shape)) => {
                for node in table.values_mut() {
                    node.fill_inside(shape);
                }
            }
            (Value::List(items), Shape::List(shape)) => {
                for node in items {
                    node.fill_inside(shape);
                }
            }
            _ => {}
        }
    }
}

/// A spanned value of the TOML parser.
pub(crate) type Raw<'i> = Spanned<DeValue<'i>>;
