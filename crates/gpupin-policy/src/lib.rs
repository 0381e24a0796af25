//! What is declared, and what it means.
//!
//! The crate answers two questions. Which GPU does the project mean? That is the [`Policy`], whose
//! [`Selector`]s are predicates on the [`Gpu`]s of an [`Inventory`]. And which GPU does a process
//! get? That is [`visibility`], a function of an inventory and an environment.
//!
//! Inventories come from a live machine or from `gpupin.lock` ([`LockFile`]), which records them so
//! that a machine without GPUs can answer for one that has them.
//!
//! **Invariant:** everything is a pure function of its arguments. Text comes in, values or lists of
//! [`Problem`]s come out; files, environment, clock and terminal are the caller's.
//!
//! **Invariant:** a GPU is referred to by UUID. An index or ordinal is an answer of [`visibility`]
//! and never a name.
//!
//! Both files are described by tables of keys (`document`), from which come the check of a file,
//! its defaults, its JSON Schema and its reference page.

mod document;
mod identity;
mod inventory;
mod lock_file;
mod policy;
mod problem;
mod selector;
mod value;

pub mod visibility;
pub use identity::{ComputeCapability, DriverVersion, GpuUuid, NvmlIndex, PciAddress};
pub use inventory::{Gpu, Inventory, Mig};
pub use lock_file::{LOCK_FILE_VERSION, LockFile, LockFileError};
pub use policy::{
    GuardPolicy, LeasePolicy, LintPolicy, OnMissing, OnOutsidePin, OnViolation, Pin, PinAs,
    PinStyle, Policy, PolicyError, PolicyFile, RequirePinIn, Role, RunPolicy, VerifyPolicy,
    policy_reference, policy_schema, policy_schema_text,
};
pub use problem::{Problem, ProblemKind};
pub use selector::{Mismatch, NamePattern, Selection, SelectionProblem, Selector, UuidPrefix};
pub use value::{Bytes, InvalidValue, duration};
