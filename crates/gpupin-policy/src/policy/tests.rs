use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::Index};
use regex_lite::Regex;
use serde_json::Value as Json;
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
    check_problems_with(None, text, expected);
}

#[track_caller]
fn check_problems_with(profile: Option<&str>, text: &str, expected: &str) {
    let error = Policy::parse(text, PolicyFile::Gpupin, profile).unwrap_err();
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
9:9: `lease.slots` cannot be `0`: expected a whole number of at least 1 and below 2³²
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
fn a_gpu_that_nothing_is_said_about_is_not_declared() {
    let what = "says nothing about the GPU: add a condition such as `name = \"RTX 3090\"`";
    for (text, place) in [
        ("[pin]\nas = \"uuid\"\n[gpu]\n", "3:1: `gpu`"),
        ("gpu = {}\nprofiles.ci.gpu.name = \"Tesla T4\"\n", "1:7: `gpu`"),
    ] {
        check_problems(text, &format!("{place} {what}"));
    }
    let empty = "[profiles.ci.gpu]\n";
    let told = format!("1:1: `profiles.ci.gpu` {what}, with the profile `ci`");
    check_problems_with(Some("ci"), empty, &told);
    read(empty);
    // That any two will do is said.
    read("gpu.count = 2\n");
    read("gpu.name = \"RTX 3090\"\n[profiles.ci.gpu]\n");
}

#[test]
fn what_is_wanted_cannot_be_forbidden() {
    check_problems(
        r#"
gpu = { name = "GeForce RTX 3090", min-vram = "20 GiB", count = 2 }
[[forbid]]
name = "RTX 5060 Ti"
[[forbid]]
name = "nvidia rtx  3090"
[[forbid]]
min-vram = "20480 MiB"
[roles.tts]
name = "RTX 5060 Ti"
"#,
        "
5:1: `forbid[1]` forbids every GPU that `gpu` wants
7:1: `forbid[2]` forbids every GPU that `gpu` wants
",
    );
    check_problems(
        "gpu.uuid = \"GPU-8932F937\"\nforbid = [{ uuid = \"GPU-8932f9\" }]\n",
        "2:11: `forbid[0]` forbids every GPU that `gpu` wants",
    );
    check_problems_with(
        Some("ci"),
        "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"T4\" }]\nprofiles.ci.gpu.name = \"Tesla T4\"\n",
        "2:11: `forbid[0]` forbids every GPU that `profiles.ci.gpu` wants",
    );
    // Some of what is wanted is left.
    read(
        "gpu.name = \"RTX *\"\nforbid = [{ name = \"RTX 5060 Ti\" }, { max-vram = \"16 GiB\" }]\n",
    );
    read("gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 3090\", max-vram = \"16 GiB\" }]\n");
}

#[test]
fn profile_is_judged_together_with_what_it_overrides() {
    read("roles.tts.name = \"RTX 5060 Ti\"\nprofiles.ci.roles.tts.entry-points = [\"tts.py\"]\n");
    let small = "gpu.min-vram = \"20 GiB\"\nprofiles.small.gpu.max-vram = \"16 GiB\"\n";
    check_problems_with(
        Some("small"),
        small,
        "1:16: `gpu.min-vram` is higher than `max-vram`, so no GPU matches, with the profile `small`",
    );
    // Who does not choose it is not kept from the others.
    read(small);
    let other = format!("{small}profiles.other.pin.as = \"index\"\n");
    Policy::parse(&other, PolicyFile::Gpupin, Some("other")).unwrap();
    let pyproject =
        "[tool.gpupin]\ngpu.max-vram = \"16 GiB\"\nprofiles.a.gpu.min-vram = \"20 GiB\"\n";
    let error = Policy::parse(pyproject, PolicyFile::Pyproject, Some("a")).unwrap_err().to_string();
    assert!(error.contains("`tool.gpupin.profiles.a.gpu.min-vram` is higher"), "{error}");
    check_problems(
        "forbid = [{}]\nprofiles.a.pin.as = \"index\"\n",
        "1:11: `forbid[0]` has no condition, so it forbids every GPU",
    );
}

#[test]
fn policy_never_sets_the_mask() {
    check_problems(
        "[env]\nCUDA_VISIBLE_DEVICES = \"1\"\n\"A B\" = \"\"\nGPUPIN_PIN = \"GPU-1\"\n",
        "
2:1: `env` cannot be `CUDA_VISIBLE_DEVICES`: the pin sets it, declare the GPU in `gpu`
3:1: `env` cannot be `A B`: expected the name of an environment variable
4:1: `env` cannot be `GPUPIN_PIN`: names that begin with `GPUPIN_` are gpupin's own
",
    );
}

#[test]
fn columns_count_characters() {
    check_problems("[env]\n\"Äöü\" = 1\n", "2:9: `env.\"Äöü\"` is a number, expected a text");
}

#[test]
fn alerts_are_kept_as_they_are() {
    let text = "when = 2026-01-01\nlist = [1, 2.5, { a = true }]\n[deep.er]\nx = \"y\"\n";
    let policy = read(&format!("[alerts]\n{}", text.replace("[deep.er]", "[alerts.deep.er]")));
    assert_eq!(policy.alerts, text.parse().unwrap());
    check_problems(
        "alerts.x = 99999999999999999999",
        "1:12: `alerts.x` is a number, expected a number of at most 64 bits",
    );
}

#[test]
fn windows_files_are_read() {
    assert_eq!(read("\u{feff}[lease]\r\nslots = 2\r\n").lease.slots, 2);
    check_problems(
        "\u{feff}[lease]\r\nslot = 2\r\n",
        "2:1: unknown key `lease.slot`, did you mean `slots`?",
    );
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

/// Judges a value by the parts of JSON Schema that ours uses.
fn accepts(schema: &Json, value: &Json, root: &Json) -> bool {
    let schema = match schema["$ref"].as_str() {
        Some(place) => root.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().any(|it| it["const"] == *value);
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("string", Json::String(text)) => {
            schema["pattern"].as_str().is_none_or(|it| Regex::new(it).unwrap().is_match(text))
        }
        ("integer", Json::Number(number)) => number.as_u64() >= schema["minimum"].as_u64(),
        ("array", Json::Array(items)) => {
            items.iter().all(|item| accepts(&schema["items"], item, root))
        }
        ("object", Json::Object(entries)) => entries.iter().all(|(key, value)| {
            let names = &schema["propertyNames"];
            let others = || schema.get("additionalProperties");
            let named = names.is_null() || accepts(names, &Json::from(key.as_str()), root);
            named
                && match schema["properties"].get(key).or_else(others) {
                    Some(Json::Bool(allowed)) => *allowed,
                    Some(schema) => accepts(schema, value, root),
                    None => true,
                }
        }),
        _ => false,
    }
}

fn schema_accepts(text: &str) -> bool {
    let document: Table = text.parse().unwrap();
    let root = policy_schema();
    accepts(&root, &serde_json::to_value(document).unwrap(), &root)
}

#[test]
fn schema_accepts_what_the_program_reads() {
    assert!(schema_accepts(WIRE));
    for text in SPELLINGS {
        read(text);
        assert!(schema_accepts(text), "{text}");
    }
    every_key(&[keys::POLICY], "", &mut |path, key| {
        let text = format!("{path} = {}\n", key.example);
        assert!(schema_accepts(&text), "{text}");
        assert!(schema_accepts(&format!("profiles.ci.{text}")), "{text}");
    });
}

#[test]
fn schema_refuses_what_it_can_of_the_rest() {
    every_key(&[keys::POLICY], "", &mut |path, _| {
        assert!(!schema_accepts(&format!("{path} = true\n")), "{path}");
        assert!(
            !schema_accepts(&format!("{path}x = true\n")) || path.starts_with("alerts"),
            "{path}x"
        );
    });
    for text in [
        "lease.slots = 0",
        "gpu.min-vram = \"20\"",
        "gpu.uuid = \"GPU-\"",
        "pin.as = \"number\"",
        "lint.exclude = [\" \"]",
        "profiles.ci.profiles = {}",
    ] {
        assert!(Policy::parse(text, PolicyFile::Gpupin, None).is_err(), "{text}");
        assert!(!schema_accepts(text), "{text}");
    }
}

/// Ways to write values that are not the usual one.
const SPELLINGS: &[&str] = &[
    "gpu.pci = \"02:00.0\"",
    "gpu.pci = \"00000000:0A:1F.7\"",
    "gpu.uuid = \"MIG-GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01/1/0\"",
    "gpu.uuid = \"GPU-8932F937\"",
    "gpu.min-vram = \"20GiB\"",
    "gpu.min-vram = \"1.5  TB\"",
    "lease.timeout = \"1.5 h\"",
    "lease.timeout = \"500ms\"",
    "gpu.name = \"NVIDIA*\"",
    "env.CUDA_MODULE_LOADING = \"\"",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(
        text in prop_oneof![any::<String>(), "[\\[\\]{}=.,\"'#a-z0-9 \n-]{0,20}"],
        cut in 0..5_u8,
        at in any::<Index>(),
    ) {
        let starts: Vec<_> = WIRE.char_indices().map(|(start, _)| start).collect();
        let at = at.index(starts.len() - 4);
        let mut mangled = WIRE.to_owned();
        mangled.replace_range(starts[at]..starts[at + usize::from(cut)], &text);
        for text in [text, mangled] {
            for origin in [PolicyFile::Gpupin, PolicyFile::Pyproject] {
                if let Err(PolicyError::Invalid(problems)) = Policy::parse(&text, origin, None) {
                    prop_assert!(!problems.is_empty());
                    prop_assert!(problems.iter().all(|it| text.get(it.span.clone()).is_some()));
                }
            }
        }
    }

    #[test]
    fn profile_that_repeats_the_policy_changes_nothing(keep in vec(any::<bool>(), 16)) {
        // At least one key, so that there is a profile.
        let chosen = keys::POLICY.iter().zip(keep).filter(|(key, keep)| *keep || key.name == "gpu");
        let line = |prefix: &str, key: &Key| format!("{prefix}{} = {}\n", key.name, key.example);
        let base: String = chosen.clone().map(|(key, _)| line("", key)).collect();
        let over: String = chosen.map(|(key, _)| line("profiles.same.", key)).collect();
        let both = format!("{base}{over}");
        let with = Policy::parse(&both, PolicyFile::Gpupin, Some("same")).unwrap();
        let without = Policy::parse(&both, PolicyFile::Gpupin, None).unwrap();
        prop_assert_eq!(&with, &without);
        // And a profile alone is as good as the keys themselves.
        let alone = Policy::parse(&over, PolicyFile::Gpupin, Some("same")).unwrap();
        prop_assert_eq!(alone, with);
    }
}
