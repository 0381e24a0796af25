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
    /// The same in the policy.
    #[error("no rule is called `{text}`, which `{key}` of the policy names{}", did_you_mean(suggestion.as_deref()))]
    UnknownInPolicy { key: String, text: String, suggestion: Option<String> },
    #[error("`{glob}` in `lint.per-file-ignores` of the policy is not a valid glob: {reason}")]
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
        let mut rules = match &overrides.select {
            Some(select) => matching(select, None, &mut errors),
            None => matching(&lint.select, Some("lint.select"), &mut errors),
        };
        rules.extend(matching(&overrides.extend_select, None, &mut errors));
        rules.sort_by_key(|it| it.code);
        rules.dedup_by_key(|it| it.code);
        let ignore = match &overrides.ignore {
            Some(ignore) => matching(ignore, None, &mut errors),
            None => matching(&lint.ignore, Some("lint.ignore"), &mut errors),
        };
        rules.retain(|it| !contains(&ignore, it));
        let mut not_in = Vec::new();
        for (glob, texts) in &lint.per_file_ignores {
            let rules = matching(texts, Some("lint.per-file-ignores"), &mut errors);
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

/// The rules that texts name, ordered by code. `key` is where in the policy they stand.
fn matching<'a>(
    texts: impl IntoIterator<Item = &'a String>,
    key: Option<&str>,
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
            let text = text.clone();
            errors.push(match key {
                Some(key) => {
                    SelectionError::UnknownInPolicy { key: key.to_owned(), text, suggestion }
                }
                None => SelectionError::UnknownRule { text, suggestion },
            });
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

#[cfg(test)]
mod tests {
    use gpupin_policy::{Policy, PolicyFile};

    use super::{Overrides, Selection, SelectionError};
    use crate::rules::{RULES, find};

    fn policy(lint: &str) -> Policy {
        let text = format!("[lint]\n{lint}\n");
        Policy::parse(&text, PolicyFile::Gpupin, None).unwrap().unwrap()
    }

    /// The codes that a policy and the command line select, those not default with `+`, missing default ones with `-`.
    #[track_caller]
    fn check(lint: &str, overrides: &Overrides, expected: &[&str]) {
        let selection = Selection::new(&policy(lint), overrides).unwrap();
        let mut actual = Vec::new();
        for rule in RULES {
            match (rule.default, selection.includes(rule, "a.py")) {
                (false, true) => actual.push(format!("+{}", rule.code)),
                (true, false) => actual.push(format!("-{}", rule.code)),
                _ => {}
            }
        }
        assert_eq!(actual, expected);
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn the_default_is_the_default() {
        check("", &Overrides::default(), &[]);
        let all = Selection::default().rules().map(|it| it.code).collect::<Vec<_>>();
        assert_eq!(all, RULES.iter().filter(|it| it.default).map(|it| it.code).collect::<Vec<_>>());
    }

    #[test]
    fn strict_adds_to_the_default() {
        let strict: Vec<_> =
            RULES.iter().filter(|it| !it.default).map(|it| format!("+{}", it.code)).collect();
        let strict: Vec<_> = strict.iter().map(String::as_str).collect();
        check("select = [\"strict\"]", &Overrides::default(), &strict);
        check("select = [\"all\"]", &Overrides::default(), &strict);
    }

    #[test]
    fn codes_names_and_prefixes_select() {
        let count = |select: &str| {
            let policy = policy(&format!("select = [\"{select}\"]"));
            let selection = Selection::new(&policy, &Overrides::default()).unwrap();
            selection.rules().map(|it| it.code).collect::<Vec<_>>()
        };
        assert_eq!(count("GP201"), ["GP201"]);
        assert_eq!(count("gp201"), ["GP201"]);
        assert_eq!(count("ordinal-outside-pin"), ["GP201"]);
        assert_eq!(count("GP50"), ["GP501", "GP502"]);
        assert_eq!(count("GP5"), ["GP501", "GP502"]);
    }

    #[test]
    fn what_is_ignored_is_out() {
        check("ignore = [\"GP201\"]", &Overrides::default(), &["-GP201"]);
        let overrides =
            Overrides { extend_select: texts(&["GP201", "GP110"]), ..Overrides::default() };
        check("ignore = [\"GP201\"]", &overrides, &["+GP110", "-GP201"]);
    }

    #[test]
    fn the_command_line_replaces_the_policy() {
        let overrides = Overrides {
            select: Some(texts(&["default"])),
            ignore: Some(Vec::new()),
            ..Overrides::default()
        };
        check("select = [\"GP201\"]\nignore = [\"GP103\"]", &overrides, &[]);
    }

    #[test]
    fn files_have_ignores_of_their_own() {
        let policy = policy(
            "per-file-ignores = { \"tests/legacy/**\" = [\"GP201\"], \"conftest.py\" = [\"GP1\"] }",
        );
        let selection = Selection::new(&policy, &Overrides::default()).unwrap();
        let counts = |code: &str, path: &str| selection.includes(find(code).unwrap(), path);
        assert!(!counts("GP201", "tests/legacy/a/b.py"));
        assert!(counts("GP201", "tests/new/b.py"));
        assert!(counts("GP103", "tests/legacy/a/b.py"));
        assert!(!counts("GP103", "conftest.py") && !counts("GP103", "a/b/conftest.py"));
        assert!(counts("GP103", "a/my_conftest.py"));
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_the_nearest() {
        let policy = policy(
            "select = [\"GP2O1\"]\nignore = [\"missing-device-orders\"]\nper-file-ignores = { \"a[\" = [\"whatever\"] }",
        );
        let errors = Selection::new(&policy, &Overrides::default()).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told[0],
            "no rule is called `GP2O1`, which `lint.select` of the policy names; did you mean `GP201`?"
        );
        assert_eq!(
            told[1],
            "no rule is called `missing-device-orders`, which `lint.ignore` of the policy names; did you mean `missing-device-order`?"
        );
        assert_eq!(
            told[2],
            "no rule is called `whatever`, which `lint.per-file-ignores` of the policy names"
        );
        let flags = Overrides { select: Some(vec!["GP2O1".to_owned()]), ..Overrides::default() };
        let errors = Selection::new(&Policy::default(), &flags).unwrap_err();
        assert_eq!(errors[0].to_string(), "no rule is called `GP2O1`; did you mean `GP201`?");
        let errors = Selection::new(&policy, &Overrides::default()).unwrap_err();
        assert!(matches!(&errors[3], SelectionError::Glob { glob, .. } if glob == "a["));
    }

    #[test]
    fn a_bare_gp_is_no_prefix() {
        assert!(Selection::new(&policy("select = [\"GP\"]"), &Overrides::default()).is_err());
    }
}
