use std::fmt;

/// How a figure was obtained. Figures of different kinds are never compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A driver said it about a GPU.
    Measured,
    /// Real work on something else than the GPU that is meant, such as a CPU.
    StandIn,
    /// A scene said it.
    Simulated,
    /// Calculated from other figures.
    Predicted,
    /// From the vendor's data sheet.
    Spec,
}

impl Kind {
    /// The one spelling, everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::StandIn => "stand-in",
            Self::Simulated => "simulated",
            Self::Predicted => "predicted",
            Self::Spec => "spec",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
