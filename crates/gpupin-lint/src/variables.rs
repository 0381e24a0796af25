//! Every place of a file that gives an environment variable a value.

use crate::{
    span::Span,
    unit::{ChildEnvironment, Does, Event, Reach, SetHow, Start, Unit},
    value::Spanned,
};

/// A variable and what it is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) event: &'a Event,
    pub(crate) name: &'a str,
    /// Where the name stands; a child's environment does not tell.
    pub(crate) name_span: Option<Span>,
    pub(crate) value: &'a Spanned,
    pub(crate) to: Recipient<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Recipient<'a> {
    Set(SetHow, Reach),
    Child(&'a Start),
    /// What a replaced environment is left with.
    Replaced,
}

impl Given<'_> {
    /// Only for one test or `with` block, where odd values are there on purpose.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.to, Recipient::Set(SetHow::Temporary, _))
    }

    /// A shell variable that no program sees.
    pub(crate) fn stays_in_shell(&self) -> bool {
        matches!(self.to, Recipient::Set(_, Reach::ShellOnly))
    }
}

/// All values given to variables, in source order; each place once.
pub(crate) fn given(unit: &Unit) -> Vec<Given<'_>> {
    let mut all: Vec<Given<'_>> = Vec::new();
    for event in &unit.events {
        match &event.does {
            Does::SetVariable(set) => all.push(Given {
                event,
                name: &set.name,
                name_span: Some(set.name_span),
                value: &set.value,
                to: Recipient::Set(set.how, set.reach),
            }),
            Does::ReplaceEnvironment { keeps, .. } => {
                all.extend(pairs(event, keeps, Recipient::Replaced));
            }
            Does::Start(start) => {
                let set = match &start.environment {
                    ChildEnvironment::Inherited(set)
                    | ChildEnvironment::Only(set)
                    | ChildEnvironment::Without { set, .. } => set,
                    ChildEnvironment::Unknown => continue,
                };
                // `X=1 python a.py` may be told both as a setting and with the child.
                let told = |it: &Given<'_>| {
                    all.iter()
                        .any(|other| other.name == it.name && other.value.span == it.value.span)
                };
                let new: Vec<_> =
                    pairs(event, set, Recipient::Child(start)).filter(|it| !told(it)).collect();
                all.extend(new);
            }
            _ => {}
        }
    }
    all
}

fn pairs<'a>(
    event: &'a Event,
    pairs: &'a [(String, Spanned)],
    to: Recipient<'a>,
) -> impl Iterator<Item = Given<'a>> {
    pairs.iter().map(move |(name, value)| Given { event, name, name_span: None, value, to })
}
