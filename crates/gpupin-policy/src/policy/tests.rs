use std::time::Duration;

use toml::Table;

use super::{keys, *};
use crate::document::{Key, Presence, Shape};

const WIRE: &str = include_str!("../../../../wire/gpupin.toml");
const PATHS: (&str, &str) = ("docs/reference/gpupin.schema.json", "docs/reference/gpupin.toml.md");

#[track_caller]
fn read(text: &str) -> Policy {
    match Policy::parse(text, PolicyFile::Gpupin, None) {
        Ok(policy) => policy.unwrap(),
        Err(error) => panic!("{error}\nin\n{text}"),
    }
}

/// Compares what is wrong in `text` with `expected`, one problem a line.
#[track_caller]
fn check_problems(text: &str, expected: &str) {
    let error = Policy::parse(text, PolicyFile::Gpupin, None).unwrap_err();
    assert_eq!(error.to_string(), expected.trim(), "in\n{text}");
    let PolicyError::Invalid(problems) = error else { panic!("not about the file") };
    for problem in problems {
        assert!(text.get(problem.span.clone()).is_some(), "{problem} is outside its file");
    }
}

#[test]
fn every_key_of_the_design_is_read() {
    let policy = read(WIRE);
    let gpu = policy.gpu.unwrap();
    assert_eq!(
        gpu.to_string(),
        "RTX 3090 with UUID GPU-8932f937, PCI address 0000:02:00.0, at least 20 GiB, \
         compute capability 8.6 or higher"
    );
    assert_eq!(gpu.count, 1);
    assert_eq!(policy.forbid.len(), 1);
    assert_eq!(policy.forbid[0].name.as_ref().unwrap().as_str(), "RTX 5060 Ti");
    assert_eq!(policy.pin.as_, PinAs::Uuid);
    assert_eq!(policy.env["PYTORCH_CUDA_ALLOC_CONF"], "max_split_size_mb:1024");
    assert_eq!(policy.roles["tts"].entry_points, ["tts/server.py"]);
    assert_eq!(policy.lint.select, ["default"]);
    assert_eq!(policy.lint.exclude, ["third_party/**"]);
    assert_eq!(policy.lint.per_file_ignores, [("tests/legacy/**".into(), vec!["GP204".into()])]);
    assert_eq!(policy.lease, LeasePolicy { timeout: Duration::from_mins(10), slots: 1 });
    assert_eq!(policy.run.on_violation, OnViolation::Kill);
    assert_eq!(policy.verify.commands, ["python -m assistant --selftest"]);
    assert_eq!(policy.guard.leak_threshold.to_string(), "100 MB");
    assert_eq!(policy.profiles, ["ci"]);
}

#[test]
fn nothing_declared_is_the_default() {
    let policy = Policy::default();
    assert_eq!(read(""), policy);
    assert_eq!(policy.gpu, None);
    assert_eq!(policy.lint.select, ["default"]);
    assert_eq!(policy.lease.slots, 1);
}

#[test]
fn profiles_override_keys() {
    let text = r#"
env.A = "base"
env.B = "base"
gpu = { name = "RTX 3090", min-vram = "20 GiB" }
lint = { select = ["GP101", "GP102"], style = "import" }
alerts = { mail = { to = "me", subject = "leak" } }

[profiles.ci]
env.B = "ci"
lint.select = ["strict"]
gpu.min-vram = "8 GiB"
alerts.mail.to = "you"
run.on-missing = "cpu"
"#;
    let policy = Policy::parse(text, PolicyFile::Gpupin, Some("ci")).unwrap().unwrap();
    assert_eq!(policy.env.values().collect::<Vec<_>>(), ["base", "ci"]);
    assert_eq!(policy.lint.select, ["strict"]);
    assert_eq!(policy.lint.style, PinStyle::Import);
    assert_eq!(policy.gpu.unwrap().to_string(), "RTX 3090 with at least 8 GiB");
    assert_eq!(policy.run.on_missing, OnMissing::Cpu);
    assert_eq!(policy.alerts["mail"]["to"].as_str(), Some("you"));
    assert_eq!(policy.alerts["mail"]["subject"].as_str(), Some("leak"));
    assert_eq!(read(text).run.on_missing, OnMissing::Error);
}

#[test]
fn unknown_profile_is_named() {
    let error = Policy::parse("profiles.ci = {}", PolicyFile::Gpupin, Some("cii")).unwrap_err();
    assert_eq!(error.to_string(), "no profile `cii`, did you mean `ci`?");
}

#[test]
fn pyproject_holds_the_policy_in_its_table() {
    let parse = |text| Policy::parse(text, PolicyFile::Pyproject, None);
    assert_eq!(parse("[project]\nname = \"assistant\"\n"), Ok(None));
    assert_eq!(parse("tool = 1\n"), Ok(None));
    let text = "[project]\nname = \"assistant\"\n[tool.gpupin.gpu]\nname = \"RTX 3090\"\n";
    assert_eq!(parse(text).unwrap(), Some(read("gpu.name = \"RTX 3090\"")));
    let error = parse("[tool.gpupin]\ngpus = 1\n[tool.other]\nx = 1\n").unwrap_err();
    assert_eq!(error.to_string(), "2:1: unknown key `tool.gpupin.gpus`, did you mean `gpu`?");
}

#[test]
fn all_problems_are_reported_in_order() {
    check_problems(
        r#"
[gpu]
nmae = "RTX 3090"
min-vram = "20 gib"
min-compute-capability = 8.6
min_vram = "1 GiB"

[lease]
slots = 0
timeout = "10 minutes"

[profiles.ci.run]
on-violation = "kil"
"#,
        "
3:1: unknown key `gpu.nmae`, did you mean `name`?
4:12: `gpu.min-vram` cannot be `20 gib`: unknown unit `gib`, did you mean `GiB`?
5:26: `gpu.min-compute-capability` is a decimal number, expected a compute capability in quotes, such as \"8.6\"
6:1: unknown key `gpu.min_vram`, did you mean `min-vram`?
9:9: `lease.slots` is a number, expected a whole number of at least 1
10:11: `lease.timeout` cannot be `10 minutes`: expected a number and `ms`, `s`, `min`, `h` or `d`
13:16: `profiles.ci.run.on-violation` cannot be `kil`: expected `kill` or `warn`, did you mean `kill`?
",
    );
}

#[test]
fn key_at_the_wrong_place_is_told_where_it_belongs() {
    check_problems(
        "leak-threshold = \"1 GB\"\n",
        "1:1: unknown key `leak-threshold`, did you mean `guard.leak-threshold`?",
    );
    check_problems("colour = 1\n", "1:1: unknown key `colour`");
}

#[test]
fn syntax_errors_come_alone_and_with_a_position() {
    check_problems(
        "[gpu\nunknown = 1\n[lint\n",
        "
1:5: unclosed table, expected `]`
3:6: unclosed table, expected `]`
",
    );
}

#[test]
fn values_that_do_not_fit_together_are_problems() {
    check_problems(
        r#"
gpu = { min-vram = "24 GiB", max-vram = "16 GiB" }
[[forbid]]
[roles.tts]
entry-points = ["tts.py"]
"#,
        "
2:20: `gpu.min-vram` is higher than `max-vram`, so no GPU matches
3:1: `forbid[0]` has no condition, so it forbids every GPU
4:1: `roles.tts` has no condition that says which GPU it means
",
    );
}

#[test]
fn profile_is_judged_together_with_what_it_overrides() {
    read("roles.tts.name = \"RTX 5060 Ti\"\nprofiles.ci.roles.tts.entry-points = [\"tts.py\"]\n");
    check_problems(
        "gpu.min-vram = \"20 GiB\"\nprofiles.small.gpu.max-vram = \"16 GiB\"\n",
        "1:16: `profiles.small.gpu.min-vram` is higher than `max-vram`, so no GPU matches",
    );
    check_problems(
        "forbid = [{}]\nprofiles.a.pin.as = \"index\"\n",
        "1:11: `forbid[0]` has no condition, so it forbids every GPU",
    );
}

#[test]
fn policy_never_sets_the_mask() {
    check_problems(
        "[env]\nCUDA_VISIBLE_DEVICES = \"1\"\n\"A B\" = \"\"\n",
        "
2:1: `env` cannot be `CUDA_VISIBLE_DEVICES`: the pin sets it, declare the GPU in `gpu`
3:1: `env` cannot be `A B`: expected the name of an environment variable
",
    );
}

#[test]
fn columns_count_characters() {
    check_problems("[env]\n\"Äöü\" = 1\n", "2:9: `env.\"Äöü\"` is a number, expected a text");
}

/// Every key with its dotted path and the text that sets it to `value`.
fn every_key(groups: &[&'static [Key]], path: &str, visit: &mut dyn FnMut(&str, &Key)) {
    for key in groups.iter().copied().flatten() {
        let path =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        visit(&path, key);
        if let Shape::Table(inner) = &key.shape {
            every_key(inner, &path, visit);
        }
    }
}

#[test]
fn every_key_changes_the_policy() {
    every_key(&[keys::POLICY], "", &mut |path, key| {
        let policy = read(&format!("{path} = {}\n", key.example));
        let mut baseline = Policy::default();
        if path.starts_with("gpu.") {
            baseline.gpu = Some(Selector::default());
        }
        assert_ne!(policy, baseline, "`{path}` is read and then ignored");
        if let Presence::Default(text) = key.presence {
            assert_eq!(read(&format!("{path} = {text}\n")), baseline, "the default of `{path}`");
        }
    });
}

#[test]
fn every_key_of_the_wrong_type_is_a_problem() {
    every_key(&[keys::POLICY], "", &mut |path, _| {
        let error = Policy::parse(&format!("{path} = true\n"), PolicyFile::Gpupin, None);
        assert!(error.unwrap_err().to_string().contains("is true or false, expected"), "{path}");
    });
}

#[test]
fn published_schema_and_reference_are_current() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    for (path, expected) in [(PATHS.0, policy_schema_text()), (PATHS.1, policy_reference())] {
        let actual = std::fs::read_to_string(format!("{root}{path}")).unwrap_or_default();
        assert!(actual == expected, "`{path}` is out of date, run `cargo xtask docs`");
    }
}

#[test]
fn schema_knows_every_key_the_golden_file_uses() {
    fn covered(table: &Table, schema: &serde_json::Value, root: &serde_json::Value, path: &str) {
        let resolve = |schema: &serde_json::Value| match schema["$ref"].as_str() {
            Some(place) => root.pointer(place.trim_start_matches('#')).unwrap().clone(),
            None => schema.clone(),
        };
        for (key, value) in table {
            let path = format!("{path}.{key}");
            let known = schema["properties"].get(key).or(schema.get("additionalProperties"));
            let known = resolve(known.unwrap_or_else(|| panic!("{path} is not in the schema")));
            assert_ne!(known, false, "{path} is not in the schema");
            if let toml::Value::Table(inner) = value {
                covered(inner, &known, root, &path);
            }
        }
    }
    let schema = policy_schema();
    covered(&WIRE.parse().unwrap(), &schema, &schema, "");
}
