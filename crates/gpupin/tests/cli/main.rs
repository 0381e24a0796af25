//! The program as its users meet it: one file per verb.
//!
//! These tests show wiring and words. What a rule finds is shown in `gpupin-lint`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod rule;
mod rules;
mod sandbox;
mod scan;
