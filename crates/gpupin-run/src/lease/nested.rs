use std::{fmt, path::Path};

use gpupin_policy::GpuUuid;

use super::{
    directory::{Directory, DirectoryError, Found},
    ticket::{Name, milliseconds},
};

/// Of the value of the variable.
const VERSION: &str = "2";

/// The lease a process runs under, as [`VARIABLE`](super::VARIABLE) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The tickets that are live, at least one.
    pub(super) tickets: Vec<Stamped>,
}

/// A ticket and when it came. Its number alone may be used again when nobody is in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) name: Name,
    /// In milliseconds since 1970, as in its first line.
    pub(super) came: u64,
}

impl Stamped {
    fn parse(text: &str) -> Option<Self> {
        let (name, came) = text.split_once('@')?;
        Some(Self { name: Name::parse(name)?, came: came.parse().ok()? })
    }

    pub(super) fn is_live(&self, directory: &Directory) -> Result<bool, DirectoryError> {
        let name = self.name.to_string();
        let Found::Live(fd) = directory.probe(&name)? else { return Ok(false) };
        let (text, _) = directory.read(&name, fd)?;
        Ok(text.came.map(milliseconds) == Some(self.came))
    }
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.came)
    }
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
        let is_live = |it: &Stamped| it.is_live(directory).unwrap_or(false);
        let tickets: Vec<_> = tickets.into_iter().filter(is_live).collect();
        (!tickets.is_empty()).then_some(Self { tickets })
    }

    /// The GPUs that are held.
    pub fn gpus(&self) -> impl Iterator<Item = &GpuUuid> {
        self.tickets.iter().map(|it| &it.name.gpu)
    }
}

/// The value of the variable for these tickets.
pub(super) fn value<'a>(tickets: impl Iterator<Item = &'a Stamped>, path: &Path) -> String {
    let names: Vec<_> = tickets.map(Stamped::to_string).collect();
    format!("{VERSION}:{}:{}", names.join(","), path.display())
}

/// Tickets and directory of a value.
pub(super) fn parse(value: &str) -> Option<(Vec<Stamped>, &Path)> {
    let (tickets, path) = value.strip_prefix(VERSION)?.strip_prefix(':')?.split_once(':')?;
    Some((tickets.split(',').filter_map(Stamped::parse).collect(), Path::new(path)))
}
