//! Static analysis of how a project chooses its GPU.
//!
//! Source text goes in, findings come out. The crate reads no file, prints nothing and knows no driver:
//! everything is a function of its arguments.
//!
//! The path of a scan:
//!
//! 1. [`survey`] looks at a file's bytes without parsing: can it matter, what does it import?
//! 2. [`language`] reads the files that matter into [`unit::Unit`]s: events, and the order they run in.
//!    One reader per language; what a library's call means stands in [`catalogue`].
//! 3. [`project`] puts units together: modules, constants across files, programs with their order ([`program`]).
//! 4. Every rule in [`RULES`] looks at one unit's events or at one program's order and reports [`finding::Finding`]s.
//!
//! **Invariant:** nothing here returns `Result`. Broken input is an input, and still gives findings.
//!
//! To add a rule see [`rules`], to add a language see [`language`].

mod allocator;
mod analysis;
pub mod baseline;
pub mod catalogue;
pub mod finding;
pub mod fix;
pub mod language;
mod meant;
pub mod needle;
pub mod program;
pub mod project;
pub mod rules;
pub mod selection;
pub mod source;
pub mod span;
mod suppress;
pub mod survey;
pub mod unit;
pub mod value;
mod variables;
mod workers;

#[cfg(test)]
mod tests;

pub use analysis::{Analysis, Options, analyze, order};
pub use language::read;
pub use program::role_of;
pub use rules::{RULES, Rule};
pub use workers::{Alone, Workers};
