//! YAML: the tree that compose files, manifests, pipelines and settings are read from.
//!
//! The parser gives events; this makes a tree of them that keeps places, follows aliases and merge keys when
//! asked, and says how a decoded scalar lies in the file. An error ends the tree where it stands: what came before counts.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{UnitBuilder, settings, suppress};
use crate::{
    span::{Positions, Span},
    unit::{Block, Step, Unread},
    value::{Spanned, Value},
};

mod scalar;
#[cfg(test)]
mod tests;

/// Reads a settings file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let tree = Tree::parse(text, at, out);
    let mut steps = Vec::new();
    for document in &tree.documents {
        tree.settings(*document, out, &mut steps);
    }
    Block(steps)
}

/// How many entries merge keys may bring into one mapping.
const MERGED: usize = 100_000;

/// How deep collections may nest.
const DEEPEST: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(usize);

#[derive(Debug)]
pub(crate) struct Tree<'a> {
    text: &'a str,
    at: &'a Positions,
    nodes: Vec<Node>,
    pub(crate) documents: Vec<Id>,
}

#[derive(Debug)]
struct Node {
    /// In the parsed text.
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar { text: String, style: ScalarStyle },
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
    Alias(Option<Id>),
}

impl<'a> Tree<'a> {
    pub(crate) fn parse(text: &'a str, at: &'a Positions, out: &mut UnitBuilder) -> Self {
        let mut tree = Self { text, at, nodes: Vec::new(), documents: Vec::new() };
        let bytes = ByteOffsets::new(text);
        let mut anchors: HashMap<usize, Id> = HashMap::new();
        let mut open: Vec<(Id, Option<Id>)> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(found) => found,
                Err(error) => {
                    let place = bytes.at(error.marker().index());
                    let what = error.info().to_owned();
                    out.unread(Unread::Part, at.span(place..place), what);
                    break;
                }
            };
            let (start, end) = (bytes.at(span.start.index()), bytes.at(span.end.index()));
            let (kind, anchor) = match event {
                Event::Scalar(value, style, anchor, _) => {
                    (Kind::Scalar { text: value.into_owned(), style }, anchor)
                }
                Event::SequenceStart(anchor, _) => (Kind::Sequence(Vec::new()), anchor),
                Event::MappingStart(anchor, _) => (Kind::Mapping(Vec::new()), anchor),
                Event::Alias(anchor) => (Kind::Alias(anchors.get(&anchor).copied()), 0),
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some((closed, _)) = open.pop() {
                        tree.close(closed, end);
                    }
                    continue;
                }
                _ => continue,
            };
            let opens = matches!(kind, Kind::Sequence(_) | Kind::Mapping(_));
            let id = Id(tree.nodes.len());
            let end = match &kind {
                Kind::Scalar { style, .. } => scalar::end(text, start, end, *style),
                _ => end.max(start),
            };
            tree.nodes.push(Node { start, end, kind });
            if anchor > 0 {
                anchors.insert(anchor, id);
            }
            tree.attach(id, &mut open);
            if opens {
                if open.len() >= DEEPEST {
                    let what = "nested too deeply".to_owned();
                    out.unread(Unread::Part, at.span(start..start), what);
                    break;
                }
                open.push((id, None));
            }
        }
        while let Some((left_open, _)) = open.pop() {
            tree.close(left_open, text.len());
        }
        tree.suppressions(out);
        tree
    }

    /// Puts a node into the innermost open collection.
    fn attach(&mut self, id: Id, open: &mut [(Id, Option<Id>)]) {
        let Some((parent, key)) = open.last_mut() else {
            self.documents.push(id);
            return;
        };
        match &mut self.nodes[parent.0].kind {
            Kind::Sequence(items) => items.push(id),
            Kind::Mapping(entries) => match key.take() {
                Some(key) => entries.push((key, id)),
                None => *key = Some(id),
            },
            Kind::Scalar { .. } | Kind::Alias(_) => {}
        }
    }

    /// A block collection ends where its last entry ends, not where the next line begins.
    fn close(&mut self, id: Id, end: usize) {
        let last = match &self.nodes[id.0].kind {
            Kind::Sequence(items) => items.last().copied(),
            Kind::Mapping(entries) => entries.last().map(|it| it.1),
            _ => None,
        };
        let flow = self.text[self.nodes[id.0].start..].starts_with(['[', '{']);
        let end = match last {
            Some(last) if !flow => self.nodes[last.0].end,
            _ => end,
        };
        let node = &mut self.nodes[id.0];
        node.end = end.max(node.start);
        // `&anchor` belongs to no value.
        let first = match &node.kind {
            Kind::Mapping(entries) if !flow => entries.first().map(|it| it.0),
            _ => None,
        };
        if let Some(first) = first {
            self.nodes[id.0].start = self.nodes[first.0].start;
        }
    }

    fn suppressions(&self, out: &mut UnitBuilder) {
        if !self.text.contains("gpupin:") {
            return;
        }
        // Scalars come in the order of the text.
        let scalars = self.nodes.iter().filter(|it| matches!(it.kind, Kind::Scalar { .. }));
        let scalars: Vec<_> = scalars.map(|it| it.start..it.end).collect();
        let inside_scalar = |offset: usize| {
            let behind = scalars.partition_point(|it| it.start <= offset);
            behind > 0 && scalars[behind - 1].contains(&offset)
        };
        out.suppressions(suppress::scan(self.text, self.at, &["#"], inside_scalar));
    }

    /// The node behind aliases.
    fn resolve(&self, id: Id) -> &Node {
        let mut node = &self.nodes[id.0];
        // An anchor's value may be an alias itself; a cycle ends at the alias.
        for _ in 0..DEEPEST {
            match node.kind {
                Kind::Alias(Some(target)) => node = &self.nodes[target.0],
                _ => break,
            }
        }
        node
    }

    pub(crate) fn span(&self, id: Id) -> Span {
        let node = &self.nodes[id.0];
        self.at.span(node.start..node.end)
    }

    /// From the key to the end of the value.
    pub(crate) fn entry_span(&self, key: Id, value: Id) -> Span {
        let (key, value) = (&self.nodes[key.0], &self.nodes[value.0]);
        if value.start < key.start {
            return self.at.span(key.start..key.end);
        }
        self.at.span(key.start..value.end.max(key.end))
    }

    pub(crate) fn is_mapping(&self, id: Id) -> bool {
        matches!(self.resolve(id).kind, Kind::Mapping(_))
    }

    pub(crate) fn is_sequence(&self, id: Id) -> bool {
        matches!(self.resolve(id).kind, Kind::Sequence(_))
    }

    pub(crate) fn items(&self, id: Id) -> &[Id] {
        match &self.resolve(id).kind {
            Kind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The entries of a mapping, merge keys followed. Own entries win.
    pub(crate) fn entries(&self, id: Id) -> Vec<(Id, Id)> {
        let mut found = Vec::new();
        let mut budget = MERGED;
        self.collect_entries(id, 0, &mut budget, &mut found);
        found
    }

    fn collect_entries(&self, id: Id, depth: usize, budget: &mut usize, found: &mut Vec<(Id, Id)>) {
        let Kind::Mapping(entries) = &self.resolve(id).kind else { return };
        let is_merge = |it: &&(Id, Id)| self.text(it.0) == Some("<<");
        found.extend(entries.iter().filter(|it| !is_merge(it)));
        if depth > 4 || !entries.iter().any(|it| is_merge(&it)) {
            return;
        }
        let mut names: HashSet<Option<&str>> = found.iter().map(|it| self.text(it.0)).collect();
        for (_, value) in entries.iter().filter(is_merge) {
            let sources = if self.is_sequence(*value) { self.items(*value) } else { &[*value] };
            for source in sources {
                let mut inherited = Vec::new();
                self.collect_entries(*source, depth + 1, budget, &mut inherited);
                // Merging is bounded, so that mappings which merge each other end.
                *budget = budget.saturating_sub(inherited.len() + 1);
                if *budget == 0 {
                    return;
                }
                found.extend(inherited.into_iter().filter(|it| names.insert(self.text(it.0))));
            }
        }
    }

    pub(crate) fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.entry(id, key).map(|it| it.1)
    }

    pub(crate) fn entry(&self, id: Id, key: &str) -> Option<(Id, Id)> {
        self.entries(id).into_iter().find(|it| self.text(it.0) == Some(key))
    }

    /// The value at the end of a path of keys.
    pub(crate) fn at_path(&self, id: Id, path: &[&str]) -> Option<Id> {
        path.iter().try_fold(id, |id, key| self.get(id, key))
    }

    /// A scalar's decoded text.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match &self.resolve(id).kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A scalar as text, whatever it looks like: what an environment gets. `None` for null.
    pub(crate) fn string(&self, id: Id) -> Option<Spanned> {
        let node = self.resolve(id);
        match &node.kind {
            Kind::Scalar { text, style: ScalarStyle::Plain }
                if matches!(&**text, "" | "~" | "null") =>
            {
                None
            }
            Kind::Scalar { text, .. } => {
                let span = self.at.span(node.start..node.end);
                Some(Spanned::new(Value::Str(text.clone()), span))
            }
            _ => None,
        }
    }

    /// A value as settings see it: numbers and truth values where the text is plain.
    pub(crate) fn value(&self, id: Id) -> Spanned {
        let node = self.resolve(id);
        let value = match &node.kind {
            Kind::Scalar { text, style } => plain_value(text, *style),
            Kind::Sequence(items) => Value::List(
                items
                    .iter()
                    .filter(|it| matches!(self.resolve(**it).kind, Kind::Scalar { .. }))
                    .map(|it| self.value(*it))
                    .collect(),
            ),
            Kind::Mapping(_) | Kind::Alias(_) => Value::Unknown,
        };
        Spanned::new(value, self.at.span(node.start..node.end))
    }

    /// How a scalar's decoded text lies in the file.
    pub(crate) fn positions(&self, id: Id) -> Positions {
        let node = self.resolve(id);
        let Kind::Scalar { text, style } = &node.kind else {
            return Positions::fixed(self.span(id));
        };
        let raw = &self.text[node.start..node.end];
        let Some(lies) = scalar::lies(text, raw, *style) else {
            return Positions::fixed(self.at.span(node.start..node.end));
        };
        let place = |raw: usize| self.at.span(node.start + raw..node.start + raw).start;
        let placed = |list: Vec<(u32, usize)>| {
            list.into_iter().map(|(local, raw)| (local, place(raw))).collect()
        };
        Positions::escaped(placed(lies.pieces), placed(lies.escapes))
    }

    /// Settings that say GPU, wherever they stand in a value.
    pub(crate) fn settings(&self, id: Id, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
        // Aliases are not followed: what they name stands in the file and is read there.
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            match &self.nodes[id.0].kind {
                Kind::Sequence(items) => left.extend(items.iter().rev()),
                Kind::Mapping(entries) => {
                    for (key, value) in entries {
                        if let Some(name) = self.text(*key) {
                            let (name, key) = (name.to_owned(), self.span(*key));
                            steps.extend(settings::entry(&name, key, &self.value(*value), out));
                        }
                    }
                    left.extend(entries.iter().rev().map(|it| it.1));
                }
                Kind::Scalar { .. } | Kind::Alias(_) => {}
            }
        }
    }
}

fn plain_value(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Str(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::None,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Int(number),
            (_, Ok(number)) if text.starts_with(|it: char| it.is_ascii_digit() || it == '-') => {
                Value::Float(number)
            }
            _ => Value::Str(text.to_owned()),
        },
    }
}

/// The parser counts characters.
struct ByteOffsets {
    /// Byte offset of each character; empty when they are the same.
    offsets: Vec<u32>,
    len: usize,
}

impl ByteOffsets {
    fn new(text: &str) -> Self {
        let offsets = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|it| u32::try_from(it.0).unwrap_or(u32::MAX)).collect()
        };
        Self { offsets, len: text.len() }
    }

    fn at(&self, character: usize) -> usize {
        if self.offsets.is_empty() {
            return character.min(self.len);
        }
        self.offsets.get(character).map_or(self.len, |it| *it as usize)
    }
}
