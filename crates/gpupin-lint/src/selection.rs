//! Which rules count where.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use gpupin_policy::Policy;

use crate::rules::{self, RULES, Rule};

/// The selected rules.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Ordered by code.
    rules: Vec<&'static Rule>,
    /// Files, and the rules that do not count in them.
    not_in: Vec<(GlobSet, Vec<&'static Rule>)>,
}

/// What the command line says, over the policy.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Replaces the policy's `select`.
    pub select: Option<Vec<String>>,
    /// Adds to what is selected.
    pub extend_select: Vec<String>,
    /// Replaces the policy's `ignore`.
    pub ignore: Option<Vec<String>>,
}

/// Why rules could not be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error("no rule is called `{text}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownRule { text: String, suggestion: Option<String> },
    #[error("`{glob}` is not a valid glob: {reason}")]
    Glob { glob: String, reason: String },
}

impl Default for Selection {
    fn default() -> Self {
        Self { rules: RULES.iter().filter(|it| it.default).collect(), not_in: Vec::new() }
    }
}

impl Selection {
    /// What a policy selects, with the command line over it. All errors are returned together.
    ///
    /// A text selects `default` rules, `strict` (the default ones and the strict ones, which is all there
    /// is, as is `all`), one rule by code or name, or all whose code starts with it, such as `GP2`.
    /// What is ignored is out, however it was selected.
    pub fn new(policy: &Policy, overrides: &Overrides) -> Result<Self, Vec<SelectionError>> {
        let lint = &policy.lint;
        let mut errors = Vec::new();
        let select = overrides.select.as_ref().unwrap_or(&lint.select);
        let mut rules = matching(select.iter().chain(&overrides.extend_select), &mut errors);
        let ignore = matching(overrides.ignore.as_ref().unwrap_or(&lint.ignore), &mut errors);
        rules.retain(|it| !contains(&ignore, it));
        let mut not_in = Vec::new();
        for (glob, texts) in &lint.per_file_ignores {
            let rules = matching(texts, &mut errors);
            match compile(glob) {
                Ok(files) => not_in.push((files, rules)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { rules, not_in }) } else { Err(errors) }
    }

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

/// The rules that texts name, ordered by code.
fn matching<'a>(
    texts: impl IntoIterator<Item = &'a String>,
    errors: &mut Vec<SelectionError>,
) -> Vec<&'static Rule> {
    let mut selected: Vec<&'static Rule> = Vec::new();
    for text in texts {
        let before = selected.len();
        match text.as_str() {
            "all" | "strict" => selected.extend(RULES),
            "default" => selected.extend(RULES.iter().filter(|it| it.default)),
            text => {
                let code = text.to_ascii_uppercase();
                // The bare `GP` would be `all` by accident.
                let is_prefix = code.len() > 2 && code.starts_with("GP");
                let rules = RULES
                    .iter()
                    .filter(|it| it.name == text || (is_prefix && it.code.starts_with(&code)));
                selected.extend(rules);
            }
        }
        if selected.len() == before {
            let suggestion = rules::nearest(text).map(str::to_owned);
            errors.push(SelectionError::UnknownRule { text: text.clone(), suggestion });
        }
    }
    selected.sort_by_key(|it| it.code);
    selected.dedup_by_key(|it| it.code);
    selected
}

/// A glob over paths. One without a `/` means files of that name anywhere, as in `.gitignore`.
fn compile(glob: &str) -> Result<GlobSet, SelectionError> {
    let compile = || {
        let anywhere = format!("**/{glob}");
        let pattern = if glob.contains('/') { glob } else { &anywhere };
        let mut set = GlobSetBuilder::new();
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
        set.build()
    };
    compile().map_err(|error| SelectionError::Glob {
        glob: glob.to_owned(),
        reason: error.kind().to_string(),
    })
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|it| format!("; did you mean `{it}`?")).unwrap_or_default()
}
