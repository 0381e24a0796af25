//! From units to findings.

use gpupin_policy::{LockFile, Policy};

use crate::{
    finding::Finding,
    project::Project,
    rules::{Check, RULES, Rule},
    unit::{Unit, UnitId},
};

/// What to look for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The selected rules, ordered by code.
    pub rules: Vec<&'static Rule>,
}

impl Default for Options {
    fn default() -> Self {
        Self { rules: RULES.iter().filter(|it| it.default).collect() }
    }
}

/// Findings, ordered by path and place.
#[derive(Debug, Default)]
pub struct Analysis {
    pub findings: Vec<Finding>,
    /// Findings that a suppression comment covers; SARIF shows them, marked.
    pub suppressed: Vec<Finding>,
    /// How many programs were ordered.
    pub programs: usize,
}

/// Judges a project. Units are expected in path order.
pub fn analyze(units: &[Unit], policy: &Policy, lock: &LockFile, options: &Options) -> Analysis {
    let project = Project { units, policy, lock, programs: Vec::new() };
    let mut findings = Vec::new();
    for rule in &options.rules {
        match rule.check {
            Check::Unit(check) => {
                for (id, unit) in (0..).map(UnitId).zip(units) {
                    check(rule, &project, id, unit, &mut findings);
                }
            }
            Check::Program(check) => {
                for program in &project.programs {
                    check(rule, &project, program, &mut findings);
                }
            }
        }
    }
    findings.sort_by_key(|it| (it.unit, it.span, it.rule.code));
    Analysis { findings, suppressed: Vec::new(), programs: project.programs.len() }
}
