//! Which rules count where.

use globset::GlobSet;

use crate::rules::{RULES, Rule};

/// The selected rules.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Ordered by code.
    rules: Vec<&'static Rule>,
    /// Files, and the rules that do not count in them.
    not_in: Vec<(GlobSet, Vec<&'static Rule>)>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { rules: RULES.iter().filter(|it| it.default).collect(), not_in: Vec::new() }
    }
}

impl Selection {
    /// Exactly these rules, in every file.
    pub fn only(rules: impl IntoIterator<Item = &'static Rule>) -> Self {
        let mut rules: Vec<_> = rules.into_iter().collect();
        rules.sort_by_key(|it| it.code);
        Self { rules, not_in: Vec::new() }
    }

    /// The selected rules, ordered by code.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().copied()
    }

    /// Whether a rule counts in the file at `path`.
    pub fn includes(&self, rule: &Rule, path: &str) -> bool {
        let ignored =
            |(files, rules): &(GlobSet, Vec<_>)| contains(rules, rule) && files.is_match(path);
        contains(&self.rules, rule) && !self.not_in.iter().any(ignored)
    }
}

fn contains(rules: &[&Rule], rule: &Rule) -> bool {
    rules.iter().any(|it| it.code == rule.code)
}
