use std::path::Path;

use gpupin_policy::GpuUuid;

use super::{
    directory::{Directory, Found},
    ticket::Name,
};

/// Of the value of the variable.
const VERSION: &str = "1";

/// The lease a process runs under, as [`VARIABLE`](super::VARIABLE) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The tickets that are live, at least one.
    pub(super) tickets: Vec<Name>,
}

impl Outer {
    /// What the variable's value means in a directory; `None` if none of its tickets is live, or it is of another directory.
    ///
    /// Whoever forges it takes part in somebody's lease without asking, which anybody can do who asks for no lease at all.
    pub fn find(directory: &Directory, value: &str) -> Option<Self> {
        let (tickets, path) = parse(value)?;
        if !directory.is(path) {
            return None;
        }
        let is_live = |it: &Name| matches!(directory.probe(&it.to_string()), Ok(Found::Live(_)));
        let tickets: Vec<_> = tickets.into_iter().filter(is_live).collect();
        (!tickets.is_empty()).then_some(Self { tickets })
    }

    /// The GPUs that are held.
    pub fn gpus(&self) -> impl Iterator<Item = &GpuUuid> {
        self.tickets.iter().map(|it| &it.gpu)
    }
}

/// The value of the variable for these tickets.
pub(super) fn value<'a>(tickets: impl Iterator<Item = &'a Name>, path: &Path) -> String {
    let names: Vec<_> = tickets.map(Name::to_string).collect();
    format!("{VERSION}:{}:{}", names.join(","), path.display())
}

/// Tickets and directory of a value.
pub(super) fn parse(value: &str) -> Option<(Vec<Name>, &Path)> {
    let (tickets, path) = value.strip_prefix(VERSION)?.strip_prefix(':')?.split_once(':')?;
    Some((tickets.split(',').filter_map(Name::parse).collect(), Path::new(path)))
}
