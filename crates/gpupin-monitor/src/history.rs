//! What every GPU did before: moments, kept in one file of `SQLite`.
//!
//! - [`Store`] is the one writer: one transaction a moment, roll-ups of minutes and hours, retention;
//! - [`Reader`] asks, also while somebody writes, and from another process.
//!
//! **Rows, not blobs.** Samples as rows of a table without row numbers take 44 bytes each, as compressed blobs of a minute 10 (made-up
//! samples, `SQLite` 3.40, 2026-11-26). All samples are kept for two days unless somebody wants more, so the difference is some 25 MB for
//! four GPUs, and rows can be read by everybody who has `SQLite`. `cargo xtask bench history` measures the whole.
//!
//! **Crashes.** What a transaction wrote survives the end of the process, and a crash of the machine cannot damage the file, but may lose the
//! last seconds: they are not forced to the disk one by one. Which minutes and hours are still to be rolled up is part of the same
//! transaction as their samples, so that roll-ups are right after a crash, and after a clock that was set back.
//!
//! **Clocks.** All times are the moments' own. A clock that is set back writes over what has the same time, and is noted as an event. After one
//! that leapt ahead, nothing is deleted for its age during an hour: it may be set right again.
//!
//! **Invariant:** what is not known is `NULL`, counted as unknown, or a gap with its reason. It is never zero.
//!
//! **Invariant:** measured and simulated figures never share a file.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use gpupin_device::{Kind, Throttle};
use gpupin_policy::GpuUuid;

mod fold;
mod read;
mod retain;
mod roll;
mod schema;
mod store;
mod write;

pub use fold::Point;
pub use read::{
    Contents, Gap, GpuKept, LeaseKept, ProcessKept, ProcessPoint, Range, Reader, Resolution, Rows,
    Series, XidKept,
};
pub use store::{Store, StoreState};

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Every sample.
    pub raw: Duration,
    /// Roll-ups of a minute, processes and leases.
    pub minutes: Duration,
    /// Roll-ups of an hour, gaps, errors and events.
    pub hours: Duration,
    /// Bytes of the file. The oldest samples go first where it is reached.
    pub size: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            raw: Duration::from_secs(2 * DAY),
            minutes: Duration::from_secs(90 * DAY),
            hours: Duration::from_secs(5 * 365 * DAY),
            size: 1 << 30,
        }
    }
}

/// Why a history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("there is no history at `{}`", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` is not a history of gpupin", path.display())]
    Foreign { path: PathBuf },
    #[error("`{}` has version {found}, and this gpupin knows up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("`{}` has version {found}, which only its writer brings up to {known}", path.display())]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error("`{}` holds {held} figures, and {given} ones must not mix with them", path.display())]
    OtherKind { path: PathBuf, held: String, given: Kind },
    #[error("another gpupin writes `{}`", path.display())]
    InUse { path: PathBuf },
    #[error("failed to use `{}`", path.display())]
    Files { path: PathBuf, source: io::Error },
    #[error("failed to use `{}`", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
}

impl HistoryError {
    /// Whether it may pass without anybody changing the file: a full disk, a file system that is read-only, a lock.
    fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::Files { .. } => true,
            Self::Database { source, .. } => !matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }
}

/// What something is called in an error about this path.
fn database(path: &Path) -> impl Fn(rusqlite::Error) -> HistoryError {
    move |source| HistoryError::Database { path: path.to_owned(), source }
}

/// Something that happened: an alert, a verdict, a clock that was set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at: u64,
    /// `clock-jump` is the store's own.
    pub kind: String,
    pub gpu: Option<GpuUuid>,
    pub detail: serde_json::Value,
}

/// How finely something is kept.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Raw,
    Minute,
    Hour,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Milliseconds that one row is about.
    fn unit(self) -> u64 {
        match self {
            Self::Raw => 1,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The start of the minute or hour that a time is in.
    fn start(self, at: u64) -> u64 {
        at - at % self.unit()
    }

    fn coarser(self) -> Option<Self> {
        match self {
            Self::Raw => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => None,
        }
    }

    fn finer(self) -> Option<Self> {
        match self {
            Self::Raw => None,
            Self::Minute => Some(Self::Raw),
            Self::Hour => Some(Self::Minute),
        }
    }
}

/// What is kept of a GPU as a number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    // The numbers stand in files.
    /// Bytes.
    MemoryUsed = 0,
    /// Percent.
    Utilization = 1,
    /// Degrees Celsius.
    Temperature = 2,
    /// Milliwatts.
    Power = 3,
    /// Megahertz.
    SmClock = 4,
    /// Megahertz.
    MemoryClock = 5,
    PcieGeneration = 6,
    /// Lanes.
    PcieWidth = 7,
    /// 1 while heat or the power supply keeps the clocks down, else 0: the average is the share of such samples.
    Slowed = 8,
    /// Since the driver was loaded.
    CorrectedErrors = 9,
    /// Since the driver was loaded.
    UncorrectedErrors = 10,
}

impl Metric {
    pub const ALL: [Self; 11] = [
        Self::MemoryUsed,
        Self::Utilization,
        Self::Temperature,
        Self::Power,
        Self::SmClock,
        Self::MemoryClock,
        Self::PcieGeneration,
        Self::PcieWidth,
        Self::Slowed,
        Self::CorrectedErrors,
        Self::UncorrectedErrors,
    ];

    /// Its one name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryUsed => "memory-used",
            Self::Utilization => "utilization",
            Self::Temperature => "temperature",
            Self::Power => "power",
            Self::SmClock => "sm-clock",
            Self::MemoryClock => "memory-clock",
            Self::PcieGeneration => "pcie-generation",
            Self::PcieWidth => "pcie-width",
            Self::Slowed => "slowed",
            Self::CorrectedErrors => "corrected-errors",
            Self::UncorrectedErrors => "uncorrected-errors",
        }
    }

    /// The metric of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    fn code(self) -> i64 {
        self as i64
    }

    /// What it is of a row of `samples`, as SQL.
    fn sql(self) -> String {
        match self {
            Self::Slowed => format!("(throttle & {SLOWED} <> 0)"),
            _ => self.as_str().replace('-', "_"),
        }
    }
}

/// The bits of those reasons that are no ordinary work, as `health` has them.
const SLOWED: u64 = 1 << Throttle::HwSlowdown as u64
    | 1 << Throttle::SwThermalSlowdown as u64
    | 1 << Throttle::HwThermalSlowdown as u64
    | 1 << Throttle::HwPowerBrake as u64;

/// As `SQLite` has integers. What does not fit is the largest that does.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What was written by [`integer`]. A negative number was not.
fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
