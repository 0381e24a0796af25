use std::fmt;

/// What a machine says to one question about one GPU, or why it does not say it.
pub type Answer<T> = Result<T, Silence>;

/// Why a machine does not answer. Never to be read as zero, nothing or idle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Silence {
    /// This GPU or driver has no such thing.
    #[error("not supported")]
    Unsupported,
    /// The library is too old for the question.
    #[error("the driver is too old")]
    TooOld,
    #[error("no permission")]
    NoPermission,
    /// The GPU fell off the bus (Xid 79).
    #[error("the GPU is lost")]
    Lost,
    /// The driver answers "not available" for this value now.
    #[error("not available")]
    NotAvailable,
    /// Anything else, in the driver's words.
    #[error("{0}")]
    Failed(String),
}

impl Silence {
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}
