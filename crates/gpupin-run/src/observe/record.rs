use std::fmt;

use gpupin_device::{Kind, Silence};
use gpupin_policy::GpuUuid;
use serde::{Deserialize, Serialize};

/// A line of the raw samples: what was seen and when. The verdict follows from these and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the observation began.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Of which run these are, before anything else.
    Run(Origin),
    /// The GPUs the machine says it has, of which those with MIG count as one.
    Inventory(Vec<Named>),
    /// The machine did not say which GPUs it has.
    Silent(String),
    /// The instances of MIG on all GPUs.
    Instances(Vec<Named>),
    /// What the driver's accounting says: before the program started, whenever it says something else, and after the tree ended.
    /// In between only GPUs are asked whose accounting was on at first.
    Accounting(Vec<AccountingOf>),
    /// The same as in the accounting before.
    AccountingSame(bool),
    /// The processes on every GPU.
    Gpus(Vec<GpuSample>),
    /// The same as in the sample before.
    Same(bool),
    /// The tree is empty. Without this the observation was cut off.
    End(bool),
}

/// What was observed, and who was asked. Evidence says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    pub kind: Kind,
    pub source: String,
    pub command: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Named(pub GpuUuid);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountingOf {
    pub gpu: GpuUuid,
    pub list: List<Entry>,
}

/// A process as the driver's accounting has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub pid: u32,
    /// Microseconds since 1970; `None` if the driver lists the process and has no statistics of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl Entry {
    /// Whether both may be about one process.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let is_unknown = self.started.is_none() || other.started.is_none();
        self.pid == other.pid && (is_unknown || self.started == other.started)
    }
}

/// One GPU at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSample {
    pub gpu: GpuUuid,
    pub compute: List<Seen>,
    pub graphics: List<Seen>,
    pub mps: List<Seen>,
}

/// A list of the driver, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum List<T> {
    Is(Vec<T>),
    Silent {
        silent: String,
        /// There is no such list on this GPU or with this driver.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        inapplicable: bool,
    },
}

/// A process on a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub pid: u32,
    /// Clock ticks after boot; `None` if it had ended before it could be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    pub kin: Kin,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// GPU and compute instance, under MIG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<(u32, u32)>,
}

/// What a process is to the program that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kin {
    /// The program, or a descendant of it.
    Tree,
    Other,
    /// A process that computes for others: whose work it does cannot be told.
    MpsServer,
    /// It could not be looked at, so that it may be either.
    Unknown,
}

impl<T> List<T> {
    pub(super) fn silent(why: &Silence) -> Self {
        let inapplicable = matches!(why, Silence::Unsupported | Silence::TooOld);
        Self::Silent { silent: why.to_string(), inapplicable }
    }

    pub(super) fn entries(&self) -> &[T] {
        match self {
            Self::Is(entries) => entries,
            Self::Silent { .. } => &[],
        }
    }
}

impl GpuSample {
    pub(super) fn lists(&self) -> [(ListName, &List<Seen>); 3] {
        [
            (ListName::Compute, &self.compute),
            (ListName::Graphics, &self.graphics),
            (ListName::Mps, &self.mps),
        ]
    }
}

/// Which list of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListName {
    Compute,
    Graphics,
    Mps,
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute => "compute",
            Self::Graphics => "graphics",
            Self::Mps => "MPS",
        })
    }
}
