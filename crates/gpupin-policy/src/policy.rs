//! What a project declares, in `gpupin.toml` or `[tool.gpupin]`.
//!
//! [`Policy::parse`] checks a document against the table in [`keys`], lays a profile over it, adds
//! the defaults and builds the typed policy. Reading is strict, because a misspelt key that is
//! ignored silently is a GPU that is not pinned: unknown keys are errors, every key of every profile
//! is checked whether the profile is selected or not, and all problems of a file are reported
//! together. Whether a profile fits what it is laid over is asked of the selected one only.
//!
//! The JSON Schema and the reference page of the format come from the same table.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    document::Choice,
    problem::{Problem, did_you_mean, lines},
    selector::Selector,
    value::Bytes,
};

mod build;
mod keys;

/// What a project declares. The default is a project that declares nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The GPU this project must run on.
    pub gpu: Option<Selector>,
    /// GPUs this project must never touch.
    pub forbid: Vec<Selector>,
    pub pin: Pin,
    /// What every process of the project also gets.
    pub env: BTreeMap<String, String>,
    /// Parts of the project that run on another GPU, exempt from `forbid`.
    pub roles: BTreeMap<String, Role>,
    pub lint: LintPolicy,
    pub lease: LeasePolicy,
    pub run: RunPolicy,
    pub verify: VerifyPolicy,
    pub guard: GuardPolicy,
    /// Not interpreted yet.
    pub alerts: toml::Table,
    /// The names of all profiles the file has.
    pub profiles: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub as_: PinAs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub selector: Selector,
    /// The programs that play this role, as paths from the root of the project.
    pub entry_points: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintPolicy {
    /// `default`, `strict`, codes or names. Whether a rule exists is for the linter to say.
    pub select: Vec<String>,
    pub ignore: Vec<String>,
    /// Globs of files that are not scanned.
    pub exclude: Vec<String>,
    pub require_pin_in: RequirePinIn,
    pub style: PinStyle,
    /// Entry points beside those that are found.
    pub entry_points: Vec<String>,
    /// Globs of files and the codes or names of rules that do not count there.
    pub per_file_ignores: Vec<(String, Vec<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// How long to wait for the GPU.
    pub timeout: Duration,
    /// How many holders a GPU has at once.
    pub slots: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPolicy {
    pub on_missing: OnMissing,
    pub on_outside_pin: OnOutsidePin,
    pub on_violation: OnViolation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyPolicy {
    /// Command lines that exercise the project.
    pub commands: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardPolicy {
    /// How much memory may grow before it counts as a leak.
    pub leak_threshold: Bytes,
}

/// Declares an enum together with the texts the policy file has for it.
macro_rules! choices {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($variant:ident = $text:literal, $explanation:literal;)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $explanation] $variant,)+
        }

        impl $name {
            pub(crate) const CHOICES: &[Choice] =
                &[$(Choice { name: $text, doc: $explanation }),+];

            /// The text the policy file has for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    _ => unreachable!("the choice was checked"),
                }
            }
        }
    };
}

choices! {
    /// How the pin names the GPU.
    PinAs {
        Uuid = "uuid", "by UUID";
        Index = "index", "by index, with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, for programs that call `int()` on it";
    }
}

choices! {
    /// Which files must carry a pin.
    RequirePinIn {
        EntryPoints = "entry-points", "files that can be started as a program";
        EveryGpuFile = "every-gpu-file", "every file that uses a GPU";
    }
}

choices! {
    /// How `fix` pins a program.
    PinStyle {
        Header = "header", "a block that sets `os.environ` at the top of the file";
        Import = "import", "`import gpupin.auto`";
        External = "external", "no pin in code: programs start through `gpupin run`";
    }
}

choices! {
    /// What `run` does on a machine without the GPU.
    OnMissing {
        Error = "error", "do not start";
        Cpu = "cpu", "run without any GPU, and say so";
    }
}

choices! {
    /// What `run` does with a pin that a launcher has set already.
    OnOutsidePin {
        Error = "error", "do not start";
        Keep = "keep", "leave it as it is";
    }
}

choices! {
    /// What happens to a program that touches another GPU.
    OnViolation {
        Kill = "kill", "end it";
        Warn = "warn", "let it run, and say so";
    }
}

/// Which file a policy is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyFile {
    /// `gpupin.toml`: the policy is the whole document.
    Gpupin,
    /// `pyproject.toml`: the policy is the table `tool.gpupin`.
    Pyproject,
}

/// Why a policy could not be read. Without the path of the file, which only the caller knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Everything wrong in the file, in the order of the text; at least one problem.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    #[error("no profile `{profile}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownProfile { profile: String, known: Vec<String>, suggestion: Option<String> },
}

impl Policy {
    /// Reads the policy in `text`, with `profile` laid over it.
    ///
    /// `None` means that a `pyproject.toml` has no table for gpupin.
    pub fn parse(
        text: &str,
        origin: PolicyFile,
        profile: Option<&str>,
    ) -> Result<Option<Self>, PolicyError> {
        build::parse(text, origin, profile)
    }
}

impl Default for Policy {
    fn default() -> Self {
        build::undeclared()
    }
}

/// The JSON Schema of `gpupin.toml`.
pub fn policy_schema() -> serde_json::Value {
    crate::document::schema::profiled(keys::POLICY, keys::PROFILES)
}

/// The text of the file that holds [`policy_schema`].
pub fn policy_schema_text() -> String {
    format!("{:#}\n", policy_schema())
}

/// The reference page of `gpupin.toml`, as Markdown.
pub fn policy_reference() -> String {
    crate::document::reference::page(keys::POLICY, keys::PROFILES)
}

#[cfg(test)]
mod tests;
