//! Test support, and the tests that hold for every rule.
//!
//! A fixture is one file or several, each behind a line `//- path`. Where a finding is expected, its
//! line ends with a comment `# error: GP103` (any comment leader; several codes with commas). These
//! comments are taken out before the file is read, so they also work where a language has none.
//!
//! `gpupin.toml` and `gpupin.lock` are the policy and the lock file. Without them a fixture gets
//! [`POLICY`] and [`LOCK`]: the project of DESIGN's example on a machine with two different GPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    panic::Location,
};

use gpupin_policy::{LockFile, Policy, PolicyFile};

use crate::{
    Alone, Analysis, Options, RULES, Rule, analyze,
    finding::{Finding, Safety},
    fix, language,
    rules::Check,
    selection::Selection,
    unit::{Unit, UnitId, Unread},
};

/// The policy of a fixture that has none.
const POLICY: &str = r#"
[gpu]
name = "RTX 3090"
min-vram = "20 GiB"

[[forbid]]
name = "RTX 5060 Ti"
"#;

/// The lock file of a fixture that has none: what is index 0 for NVML is not what CUDA would take first.
const LOCK: &str = r#"
version = 1

[[machine]]
host = "workstation"
driver = "580.65.06"

[[machine.gpu]]
index = 0
uuid = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"
name = "NVIDIA GeForce RTX 5060 Ti"
vram = "16 GiB"
compute-capability = "12.0"
pci = "0000:01:00.0"

[[machine.gpu]]
index = 1
uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
"#;

/// Runs the rule whose file calls this, and compares its findings with the fixture's comments.
#[track_caller]
pub(crate) fn check(fixture: &str) {
    let rule = rule_of_caller(Location::caller());
    check_with(&Selection::only([rule]), "main.py", fixture);
}

/// Runs every rule, the strict ones too.
#[track_caller]
pub(crate) fn check_all(fixture: &str) {
    check_with(&Selection::only(RULES), "main.py", fixture);
}

/// Compares the messages of the rule whose file calls this, each with its help behind ` | `.
#[track_caller]
pub(crate) fn check_message(fixture: &str, messages: &[&str]) {
    let rule = rule_of_caller(Location::caller());
    let case = Case::parse(fixture, "main.py");
    let render = |it: &Finding| match &it.help {
        Some(help) => format!("{} | {help}", it.message),
        None => it.message.clone(),
    };
    let actual: Vec<_> =
        case.analyze(&Selection::only([rule])).findings.iter().map(render).collect();
    assert_eq!(actual, messages, "in\n{fixture}");
}

/// Applies every fix of the rule whose file calls this, reads the result, and expects that nothing is left to fix.
#[track_caller]
pub(crate) fn check_fix(before: &str, after: &str) {
    let rule = rule_of_caller(Location::caller());
    let mut case = Case::parse(before, "main.py");
    let expected = Case::parse(after, "main.py");
    let found = case.findings_of(rule);
    let fixed = case.fix(&found);
    assert!(!fixed.applied.is_empty(), "nothing to fix in\n{before}");
    assert_eq!(fixed.left, [], "in\n{before}");
    let errors = case.syntax_errors();
    case.replace(&fixed.texts);
    for (fixed, expected) in case.units.iter().zip(&expected.units) {
        assert_eq!(fixed.source.text, expected.source.text, "in `{}`", fixed.source.path);
    }
    assert_eq!(case.syntax_errors(), errors, "new syntax errors in\n{after}");
    let again = case.findings_of(rule);
    let messages: Vec<_> = again.iter().map(|it| &it.message).collect();
    assert_eq!(again.len(), found.len() - fixed.applied.len(), "{messages:?} in\n{after}");
    assert!(again.iter().all(|it| it.fix.is_none()), "a second run would fix {messages:?}");
}

/// Compares the safety of each fix of the rule whose file calls this: why it is unsafe, `None` for safe ones.
#[track_caller]
pub(crate) fn check_safety(fixture: &str, why: &[Option<&str>]) {
    let rule = rule_of_caller(Location::caller());
    let found = Case::parse(fixture, "main.py").findings_of(rule);
    let fixes = found.iter().filter_map(|it| it.fix.as_ref());
    let actual: Vec<_> = fixes
        .map(|it| match &it.safety {
            Safety::Safe => None,
            Safety::Unsafe(why) => Some(why.as_str()),
        })
        .collect();
    assert_eq!(actual, why, "in\n{fixture}");
}

/// Expects findings of the rule whose file calls this, all without a fix.
#[track_caller]
pub(crate) fn check_no_fix(fixture: &str) {
    let rule = rule_of_caller(Location::caller());
    let found = Case::parse(fixture, "main.py").findings_of(rule);
    assert!(!found.is_empty(), "nothing was found in\n{fixture}");
    let fixes: Vec<_> = found.iter().filter_map(|it| it.fix.as_ref()).collect();
    assert!(fixes.is_empty(), "{fixes:?} in\n{fixture}");
}

/// A fixture, read.
pub(crate) struct Case {
    pub(crate) units: Vec<Unit>,
    pub(crate) policy: Policy,
    pub(crate) lock: LockFile,
    /// `path:line code`, sorted.
    expected: Vec<String>,
}

impl Case {
    /// Text in front of the first header is the file `default_path`.
    #[track_caller]
    pub(crate) fn parse(fixture: &str, default_path: &str) -> Self {
        let (mut policy, mut lock) = (POLICY.to_owned(), LOCK.to_owned());
        let (mut units, mut expected) = (Vec::new(), Vec::new());
        for (path, text) in files(fixture, default_path) {
            match path.as_str() {
                "gpupin.toml" => policy = text,
                "gpupin.lock" => lock = text,
                _ => {
                    let (text, codes) = take_expectations(&text);
                    expected.extend(
                        codes.into_iter().map(|(line, code)| format!("{path}:{line} {code}")),
                    );
                    let unit = language::read(&path, text.as_bytes());
                    units.push(unit.unwrap_or_else(|| panic!("no reader takes `{path}`")));
                }
            }
        }
        units.sort_by(|a, b| a.source.path.cmp(&b.source.path));
        expected.sort();
        let policy = Policy::parse(&policy, PolicyFile::Gpupin, None);
        let lock =
            if lock.trim().is_empty() { Ok(LockFile::default()) } else { LockFile::parse(&lock) };
        Self {
            units,
            policy: policy.expect("the fixture's policy is valid").unwrap_or_default(),
            lock: lock.expect("the fixture's lock file is valid"),
            expected,
        }
    }

    pub(crate) fn analyze(&self, selection: &Selection) -> Analysis {
        let options = Options { selection: selection.clone(), ..Options::default() };
        analyze(&self.units, &self.policy, &self.lock, &options, &Alone)
    }

    /// What one rule finds. Rules about suppressions need all others.
    fn findings_of(&self, rule: &'static Rule) -> Vec<Finding> {
        let selection = match rule.check {
            Check::Suppression(_) => Selection::only(RULES),
            Check::Unit(_) | Check::Program(_) | Check::Programs(_) | Check::Project(_) => {
                Selection::only([rule])
            }
        };
        let mut found = self.analyze(&selection).findings;
        found.retain(|it| it.rule.code == rule.code);
        found
    }

    fn fix(&self, found: &[Finding]) -> fix::Fixed {
        let found: Vec<_> = found.iter().collect();
        fix::apply(&self.units, &found, fix::Wanted::All, &BTreeSet::new())
    }

    /// Reads files anew that have other texts now.
    fn replace(&mut self, texts: &BTreeMap<UnitId, String>) {
        for (id, text) in texts {
            let unit = &mut self.units[id.0 as usize];
            let read = language::read(&unit.source.path, text.as_bytes());
            *unit = read.expect("the file was read before");
        }
    }

    /// By file. What a syntax error is worth, its file says too.
    fn syntax_errors(&self) -> Vec<(usize, Option<Unread>)> {
        self.units.iter().map(|it| (it.syntax_errors.len(), it.unread)).collect()
    }

    fn place(&self, unit: UnitId, finding: &Finding) -> String {
        let source = &self.units[unit.0 as usize].source;
        let line = source.place(finding.span.start).line;
        format!("{}:{line} {}", source.path, finding.rule.code)
    }
}

#[track_caller]
fn check_with(selection: &Selection, default_path: &str, fixture: &str) {
    let case = Case::parse(fixture, default_path);
    let analysis = case.analyze(selection);
    let mut actual: Vec<_> = analysis.findings.iter().map(|it| case.place(it.unit, it)).collect();
    actual.sort();
    let mut messages = String::new();
    for finding in &analysis.findings {
        writeln!(messages, "{}: {}", case.place(finding.unit, finding), finding.message).unwrap();
    }
    assert_eq!(actual, case.expected, "in\n{fixture}\n{messages}");
    for finding in analysis.findings.iter().chain(&analysis.suppressed) {
        check_shape(&case, finding);
    }
}

/// What holds for every finding.
#[track_caller]
fn check_shape(case: &Case, finding: &Finding) {
    let Finding { rule, message, .. } = finding;
    let mut letters = message.chars();
    let sentence = letters.next().is_none_or(char::is_uppercase)
        // `GPU` is spelt that way anywhere.
        && letters.next().is_none_or(char::is_lowercase);
    assert!(!sentence && !message.ends_with('.'), "`{message}`");
    assert_eq!(message.matches('`').count() % 2, 0, "`{message}`");
    let source = &case.units[finding.unit.0 as usize].source;
    assert!(
        source.text.get(finding.span.range()).is_some(),
        "a span outside of the text: {finding:?}"
    );
    // Without this the prefilter would lose the finding.
    let has = |it: &Unit| rule.may_find_in(&it.source);
    assert!(case.units.iter().any(has), "no file has a needle of {} for `{message}`", rule.code);
}

/// The rule whose file, `rules/<name>.rs`, has the test.
#[track_caller]
fn rule_of_caller(caller: &Location<'_>) -> &'static Rule {
    let path = caller.file();
    // The tests of a rule may fill files of their own: `rules/ordinal_outside_pin/edit/tests.rs`.
    let mut parts = path.trim_end_matches(".rs").rsplit(['/', '\\']);
    let rule = parts.find_map(|it| crate::rules::find(&it.replace('_', "-")));
    rule.unwrap_or_else(|| panic!("`{path}` is no rule's file"))
}

/// Splits a fixture at its `//- path` lines.
fn files(fixture: &str, default_path: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in fixture.strip_prefix('\n').unwrap_or(fixture).split_inclusive('\n') {
        if let Some(path) = line.strip_prefix("//- ") {
            files.push((path.trim().to_owned(), String::new()));
            continue;
        }
        if files.is_empty() {
            files.push((default_path.to_owned(), String::new()));
        }
        files.last_mut().expect("one was just pushed").1.push_str(line);
    }
    files
}

/// Takes the `# error: CODE` comments out; gives the text without them, and line and code of each.
fn take_expectations(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut rest, mut expected) = (String::new(), Vec::new());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let Some((before, codes)) = line.split_once("error: GP") else {
            rest.push_str(line);
            continue;
        };
        let before = before.trim_end();
        let leader = ["#", "//", "::", "rem", "REM", ";", "--"];
        let code = leader.iter().find_map(|it| before.strip_suffix(it));
        let code = code.unwrap_or_else(|| panic!("no comment in front of `error:` in `{line}`"));
        rest.push_str(code.trim_end());
        rest.push_str(if line.ends_with("\r\n") { "\r\n" } else { "\n" });
        for code in format!("GP{codes}").split(',') {
            expected.push((number + 1, code.trim().to_owned()));
        }
    }
    (rest, expected)
}

/// The fenced blocks of a page: language and text.
fn fences(markdown: &str) -> Vec<(&str, &str)> {
    let mut parts = markdown.split("\n```");
    parts.next();
    let mut blocks = Vec::new();
    while let Some(block) = parts.next() {
        blocks.push(block.split_once('\n').expect("a fence's first line ends"));
        parts.next();
    }
    blocks
}

/// What an example's file is called: its first line says it in a comment, or its language does.
fn example_path<'a>(language: &str, text: &'a str) -> &'a str {
    let first = text.lines().next().unwrap_or_default();
    let named = ["# ", "// ", "; ", "rem "].iter().find_map(|it| first.strip_prefix(it));
    if let Some(path) =
        named.filter(|it| !it.contains(' ') && (it.contains('.') || it.contains("file")))
    {
        return path;
    }
    match language {
        "python" => "main.py",
        "shell" => "run.sh",
        "powershell" => "run.ps1",
        "batch" => "run.bat",
        "dockerfile" => "Dockerfile",
        "makefile" => "Makefile",
        "dotenv" => ".env",
        "ini" => "settings.ini",
        "toml" => "settings.toml",
        "json" => "settings.json",
        "yaml" => "settings.yaml",
        _ => panic!("no file name for an example in `{language}`"),
    }
}

#[test]
fn documented_examples_hold() {
    for rule in RULES {
        let (mut flagged, mut clean) = (false, false);
        // A page may show the policy its examples are judged by.
        let mut policy = String::new();
        for (language, text) in fences(rule.docs) {
            // Explanations may show output or a policy in a fence.
            if matches!(language, "text" | "console" | "") {
                continue;
            }
            let path = example_path(language, text);
            if path == "gpupin.toml" {
                policy = format!("//- gpupin.toml\n{text}\n");
                continue;
            }
            let expects = text.contains("error: GP");
            flagged |= expects;
            clean |= !expects;
            check_with(&Selection::only([rule]), path, &format!("{policy}//- {path}\n{text}"));
        }
        assert!(flagged && clean, "{} needs a flagged and a clean example", rule.name);
    }
}

#[test]
fn pages_have_their_sections() {
    for rule in RULES {
        let title = format!("# {}\n", rule.name);
        assert!(rule.docs.starts_with(&title), "the page of {} begins with its name", rule.code);
        let summary = rule.summary();
        assert!(summary.ends_with('.') && !summary.contains('#'), "{}: `{summary}`", rule.code);
        for section in ["\n## Why\n", "\n## Example\n", "\nUse instead:\n", "\n## Fix safety\n"] {
            assert!(rule.docs.contains(section), "the page of {} lacks{section}", rule.code);
        }
    }
}

#[test]
fn every_rule_file_is_registered_in_order() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rules");
    for extension in ["rs", "md"] {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == extension))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().replace('_', "-"))
            .collect();
        files.sort();
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        names.sort();
        assert_eq!(files, names);
    }
    assert!(RULES.is_sorted_by(|a, b| a.code < b.code), "order `RULES` by code");
}

#[test]
fn expectations_are_taken_out_of_the_text() {
    let (text, expected) = take_expectations("a = 1\nb = 2  # error: GP201, GP103\r\nc\n");
    assert_eq!(text, "a = 1\nb = 2\r\nc\n");
    assert_eq!(expected, [(2, "GP201".to_owned()), (2, "GP103".to_owned())]);
}
