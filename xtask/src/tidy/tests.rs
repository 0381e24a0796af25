use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use super::{files, has_extension, is_source, long_files, read};
use crate::{
    process::{cargo, stdout},
    readme,
};

/// Who may depend on whom. The directories of `crates` are compared with this list.
const LAYERS: &[(&str, &[&str])] = &[
    ("gpupin-policy", &[]),
    ("gpupin-lint", &["gpupin-policy"]),
    ("gpupin-device", &["gpupin-policy"]),
    ("gpupin-sim", &["gpupin-device", "gpupin-policy"]),
    ("gpupin-run", &["gpupin-policy", "gpupin-device"]),
    ("gpupin-monitor", &["gpupin-policy", "gpupin-device", "gpupin-run"]),
    (
        "gpupin",
        &[
            "gpupin-policy",
            "gpupin-lint",
            "gpupin-device",
            "gpupin-sim",
            "gpupin-run",
            "gpupin-monitor",
        ],
    ),
];

/// Crates that know no file, environment, clock, thread or terminal.
const PURE: &[&str] = &["gpupin-policy", "gpupin-lint"];

/// Fails with every complaint at once.
#[track_caller]
fn assert_none(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

#[test]
fn dependencies_point_down() {
    let mut metadata = cargo(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&stdout(&mut metadata).unwrap()).unwrap();
    let mut actual = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies: BTreeSet<_> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["kind"].is_null() && !it["path"].is_null())
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        actual.insert(package["name"].as_str().unwrap(), dependencies);
    }
    // Chores may use whatever they like: nothing depends on them.
    actual.remove("xtask");

    let listed: BTreeSet<_> = LAYERS.iter().map(|it| it.0).collect();
    assert_eq!(actual.keys().copied().collect::<BTreeSet<_>>(), listed, "`LAYERS` and `crates/`");
    for (name, allowed) in LAYERS {
        for dependency in &actual[name] {
            assert!(allowed.contains(dependency), "`{name}` may not depend on `{dependency}`");
        }
    }
}

/// Source text of a crate without comments and without what follows its unit tests.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines());
    numbered
        .take_while(|(_, line)| line.trim_start() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Files of a crate that end up in the product.
fn is_product(file: &str) -> bool {
    has_extension(file, "rs")
        && file.contains("/src/")
        && !file.ends_with("/tests.rs")
        && !file.contains("/tests/")
}

fn uses(in_crates: &[&str], forbidden: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in in_crates {
        let directory = format!("crates/{name}/src/");
        for file in files().unwrap() {
            if !file.starts_with(&directory) || !is_product(&file) {
                continue;
            }
            for (number, line) in product_lines(&read(&file).unwrap()) {
                complaints.extend(
                    forbidden
                        .iter()
                        .filter(|word| line.contains(*word))
                        .map(|word| format!("{file}:{number}: `{word}`")),
                );
            }
        }
    }
    complaints
}

#[test]
fn only_the_program_prints_reads_the_environment_and_exits() {
    let libraries: Vec<_> = LAYERS.iter().map(|it| it.0).filter(|name| *name != "gpupin").collect();
    let forbidden = [
        "std::env",
        "env::var",
        "env::args",
        "env::current_dir",
        "process::exit",
        "process::abort",
        "io::stdin",
        "io::stdout",
        "io::stderr",
        "println!",
        "eprint!",
    ];
    let mut complaints = uses(&libraries, &forbidden);
    // What foreign programs load has nobody who could give it parameters.
    complaints.retain(|it| !it.starts_with("crates/gpupin-sim/src/session.rs:"));
    assert_none("a library does what only `gpupin` may do", &complaints);
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let forbidden = [
        "std::fs",
        "fs::read",
        "fs::write",
        "std::net",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "SystemTime",
        "Instant::now",
    ];
    assert_none("a pure crate reaches outside", &uses(PURE, &forbidden));
}

#[test]
fn no_file_has_more_than_800_lines() {
    let too_long = long_files().unwrap().into_iter().filter(|(_, lines)| *lines > 800);
    let complaints: Vec<_> = too_long.map(|(file, lines)| format!("{file}: {lines}")).collect();
    assert_none("over 800 lines; look for the second subject", &complaints);
}

#[test]
fn nothing_is_left_over() {
    // In two pieces, or this file would find itself.
    let words = [
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
        ["FIX", "ME"],
        ["TO", "DO:"],
        ["HA", "CK:"],
        ["XX", "X:"],
        ["not yet", " implemented"],
    ];
    let words: Vec<_> = words.iter().map(|word| word.concat()).collect();
    let mut complaints = Vec::new();
    for file in files().unwrap().into_iter().filter(|file| is_source(file)) {
        for (number, line) in (1..).zip(read(&file).unwrap().lines()) {
            if words.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("left over", &complaints);
}

#[test]
fn only_tests_that_need_a_gpu_are_ignored() {
    let ignore = ["#[ign", "ore"].concat();
    let reason = format!("{ignore} = \"needs a GPU\"]");
    let mut complaints = Vec::new();
    for file in files().unwrap().into_iter().filter(|file| is_source(file)) {
        for (number, line) in (1..).zip(read(&file).unwrap().lines()) {
            if line.contains(&ignore) && !line.contains(&reason) {
                complaints.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("ignored for another reason than a missing GPU", &complaints);
}

/// A file no `mod` names is neither compiled nor tested, and nobody is told.
#[test]
fn every_source_file_is_a_module() {
    let files = files().unwrap();
    let mut complaints = Vec::new();
    for file in &files {
        let Some((directory, stem)) = module_of(file) else { continue };
        let parents = [
            format!("{directory}.rs"),
            format!("{directory}/mod.rs"),
            format!("{directory}/lib.rs"),
            format!("{directory}/main.rs"),
        ];
        let declared = parents.iter().filter(|parent| files.contains(parent)).any(|parent| {
            read(parent)
                .unwrap()
                .lines()
                .any(|line| line.trim_end().ends_with(&format!("mod {stem};")))
        });
        if !declared {
            complaints.push(file.clone());
        }
    }
    assert_none("no `mod` declares", &complaints);
}

/// The directory of the module that must declare this file, and the name it goes by there.
fn module_of(file: &str) -> Option<(&str, &str)> {
    let path = file.strip_suffix(".rs")?;
    let (directory, stem) = path.rsplit_once('/')?;
    let (_, inside) = path.split_once("/src/").or_else(|| path.split_once("/tests/"))?;
    let is_root = matches!(inside, "lib" | "main") || inside.starts_with("bin/");
    let is_test_binary = file.contains("/tests/") && (!inside.contains('/') || stem == "main");
    if is_root || is_test_binary {
        return None;
    }
    Some(if stem == "mod" { directory.rsplit_once('/')? } else { (directory, stem) })
}

#[test]
fn modules_are_declared_where_rust_looks_for_them() {
    let check = |file, expected| assert_eq!(module_of(file), expected, "{file}");
    check("crates/a/src/lib.rs", None);
    check("crates/a/src/main.rs", None);
    check("crates/a/src/b.rs", Some(("crates/a/src", "b")));
    check("crates/a/src/b/c.rs", Some(("crates/a/src/b", "c")));
    check("crates/a/src/b/mod.rs", Some(("crates/a/src", "b")));
    check("crates/a/tests/cli.rs", None);
    check("crates/a/tests/cli/main.rs", None);
    check("crates/a/tests/cli/scan.rs", Some(("crates/a/tests/cli", "scan")));
}

#[test]
fn every_command_has_a_test_of_its_words() {
    let files = files().unwrap();
    let mut complaints = Vec::new();
    for file in &files {
        let Some(command) = file.strip_prefix("crates/gpupin/src/commands/") else { continue };
        // Only the commands themselves; what lies deeper belongs to one of them.
        if has_extension(command, "rs") && !command.contains('/') {
            let test = format!("crates/gpupin/tests/cli/{command}");
            if !files.contains(&test) {
                complaints.push(format!("{file}: no `{test}`"));
            }
        }
    }
    assert_none("commands without a test", &complaints);
}

#[test]
fn documents_name_only_files_that_exist() {
    let files = files().unwrap();
    let mut complaints = Vec::new();
    for document in files.iter().filter(|file| is_document(file)) {
        let text = read(document).unwrap();
        for (number, path) in paths_in(&text) {
            if !names_a_file(&files, document, path) {
                complaints.push(format!("{document}:{number}: `{path}`"));
            }
        }
    }
    assert_none("documents name files that do not exist", &complaints);
}

/// Documents about this repository. Those about other things (rules, examples) talk of users' files.
fn is_document(file: &str) -> bool {
    has_extension(file, "md")
        && (!file.contains('/') || file.starts_with("docs/"))
        && !file.starts_with("docs/reference/")
}

/// What users' projects and builds contain, and this repository does not.
const ELSEWHERE: &[&str] = &[".gpupin/", "target/"];

/// Link targets, and code spans that look like a path, with the line they are on.
fn paths_in(markdown: &str) -> Vec<(usize, &str)> {
    let mut paths = Vec::new();
    let mut inside_block = false;
    for (number, line) in (1..).zip(markdown.lines()) {
        if line.trim_start().starts_with("```") {
            inside_block = !inside_block;
            continue;
        }
        if inside_block {
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2).filter(|span| looks_like_a_path(span));
        paths.extend(spans.map(|span| (number, span)));
        let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let targets = links.map(|link| link.split('#').next().unwrap_or_default());
        let local = targets.filter(|link| !link.is_empty() && !link.contains(':'));
        paths.extend(local.map(|link| (number, link)));
    }
    paths
}

fn looks_like_a_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let names_document =
        has_extension(span, "md") && span.starts_with(|c: char| c.is_ascii_uppercase());
    span.chars().all(plain)
        && (span.contains('/') || names_document)
        && !span.starts_with(['/', '-'])
        && !ELSEWHERE.iter().any(|prefix| span.starts_with(prefix))
}

/// A path counts from the root, from the document, or from inside a crate.
fn names_a_file(files: &[String], document: &str, path: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let beside = Path::new(document).parent().unwrap_or(Path::new("")).join(path);
    let is_there = |file: &str| {
        let inside = || file.starts_with("crates/") && file.contains(&format!("/{path}"));
        Path::new(file).starts_with(path) || Path::new(file).starts_with(&beside) || inside()
    };
    files.iter().any(|file| is_there(file))
}

#[test]
fn paths_are_told_from_other_code() {
    let check = |line, expected: &[&str]| {
        let found: Vec<_> = paths_in(line).into_iter().map(|it| it.1).collect();
        assert_eq!(found, expected, "{line}");
    };
    check("see `crates/gpupin` and [style](STYLE.md#tests)", &["crates/gpupin", "STYLE.md"]);
    check("a rule is `rules/<name>.rs`; run `cargo test`; `--flag`; `gpupin.toml`", &[]);
    check("`.gpupin/journal/` and `/etc/passwd` are elsewhere", &[]);
    check("```sh\ncat `no/such/file`\n```", &[]);
}

#[test]
fn a_missing_path_is_missed() {
    let files = ["crates/a/src/rules/b.rs".to_owned(), "STYLE.md".to_owned()];
    let check = |path, expected| {
        assert_eq!(names_a_file(&files, "docs/c.md", path), expected, "{path}");
    };
    check("STYLE.md", true);
    check("crates/a/", true);
    check("rules/b.rs", true);
    check("crates/b", false);
    check("rules/c.rs", false);
}

#[test]
fn architecture_names_every_crate_and_no_other() {
    let architecture = read("ARCHITECTURE.md").unwrap();
    let words = architecture.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
    let named: BTreeSet<_> =
        words.filter(|word| *word == "gpupin" || word.starts_with("gpupin-")).collect();
    assert_eq!(named, LAYERS.iter().map(|it| it.0).collect());
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let commands = readme::commands().unwrap();
    assert_eq!(commands.len(), 2, "the README has two commands: {commands:?}");
    let ci = read(".ci/run").unwrap();
    let runs = |command: &String| ci.lines().any(|line| line.trim().starts_with(command.as_str()));
    assert!(commands[0].starts_with("cargo run --release -- scan "), "{commands:?}");
    assert!(commands[1].starts_with("cargo test") && runs(&commands[1]), "{commands:?}");
}
