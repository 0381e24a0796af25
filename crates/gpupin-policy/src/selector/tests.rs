use super::*;
use crate::lock_file::LockFile;

fn workstation() -> Inventory {
    let text = include_str!("../../../../wire/gpupin.lock");
    LockFile::parse(text).unwrap().machine("workstation").unwrap().clone()
}

fn named(name: &str) -> Selector {
    Selector { name: Some(name.parse().unwrap()), ..Selector::default() }
}

fn with_uuid(prefix: &str) -> Selector {
    Selector { uuid: Some(prefix.parse().unwrap()), ..Selector::default() }
}

#[track_caller]
fn check_name(pattern: &str, name: &str, matches: bool) {
    let pattern: NamePattern = pattern.parse().unwrap();
    assert_eq!(pattern.matches(name), matches, "`{pattern}` and `{name}`");
}

#[test]
fn names_are_exact_after_vendor_words() {
    let name = "NVIDIA GeForce RTX 3090";
    for pattern in ["RTX 3090", "rtx 3090", "GeForce RTX 3090", "NVIDIA GeForce RTX  3090"] {
        check_name(pattern, name, true);
        check_name(pattern, &format!("{name} Ti"), false);
        check_name(pattern, &format!("{name} Laptop GPU"), false);
    }
    for pattern in ["3090", "RTX", "RTX3090", "RTX 309", "RTX 3090 Ti"] {
        check_name(pattern, name, false);
    }
    check_name("T4", "Tesla T4", true);
}

#[test]
fn names_can_be_globs() {
    for (pattern, matches) in [
        ("RTX 30*", true),
        ("RTX 40*", false),
        ("*3090", true),
        ("*", true),
        ("rtx ??90", true),
        ("RTX ?90", false),
        ("NVIDIA*", true),
        ("*r*x*3*0*", true),
        ("*3090*x", false),
        ("RTX [3]090", false),
    ] {
        check_name(pattern, "NVIDIA GeForce RTX 3090", matches);
    }
    check_name("*3090", "NVIDIA GeForce RTX 3090 Ti", false);
    assert!("NVIDIA GeForce".parse::<NamePattern>().is_err());
}

#[test]
fn uuid_is_the_beginning_of_one() {
    let machine = workstation();
    for (prefix, found) in [
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", vec![1]),
        ("GPU-8932F", vec![1]),
        ("GPU-5", vec![0]),
        ("MIG-8932", vec![]),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f60", vec![]),
    ] {
        let selector = with_uuid(prefix);
        let found: Vec<_> = found.into_iter().map(|it: usize| &machine.gpus[it]).collect();
        assert_eq!(selector.select(&machine).matching, found, "{prefix}");
    }
    for text in ["", "GPU-", "8932", "GPU-x", "GPU-8932…", "gpu-8932"] {
        assert!(text.parse::<UuidPrefix>().is_err(), "{text}");
    }
}

#[test]
fn uuid_prefix_of_two_gpus_is_a_problem() {
    let mut machine = workstation();
    machine.gpus[0].uuid = "GPU-8932f937-0000-0000-0000-000000000000".parse().unwrap();
    let problem = with_uuid("GPU-8932f937").select(&machine).problem().unwrap();
    assert_eq!(
        problem.to_string(),
        "the UUID prefix `GPU-8932f937` is not unique: 2 GPUs start with it"
    );
    assert_eq!(with_uuid("GPU-8932f937-d").select(&machine).problem(), None);
}

#[test]
fn every_condition_that_fails_is_told() {
    let machine = workstation();
    let selector = Selector {
        pci: Some("02:00.0".parse().unwrap()),
        min_vram: Some("20 GiB".parse().unwrap()),
        max_compute_capability: Some("9.0".parse().unwrap()),
        ..named("RTX 3090")
    };
    let selection = selector.select(&machine);
    assert_eq!(selection.matching, [&machine.gpus[1]]);
    let [(gpu, mismatches)] = selection.excluded.as_slice() else { panic!("one is excluded") };
    assert_eq!(gpu.short_name(), "RTX 5060 Ti");
    let reasons: Vec<_> = mismatches.iter().map(Mismatch::to_string).collect();
    assert_eq!(
        reasons,
        [
            "its name is `RTX 5060 Ti`, not `RTX 3090`",
            "it is at `0000:01:00.0`, not `0000:02:00.0`",
            "its VRAM is 16 GiB, less than 20 GiB",
            "its compute capability is 12.0, higher than 9.0",
        ]
    );
    assert_eq!(selection.problem(), None);
    assert!(selector.matches(&machine.gpus[1]) && !selector.matches(&machine.gpus[0]));
}

#[test]
fn bounds_include_themselves() {
    let machine = workstation();
    let bytes = |text: &str| Some(text.parse().unwrap());
    let capability = |text: &str| Some(text.parse().unwrap());
    for (selector, found) in [
        (Selector { min_vram: bytes("24 GiB"), ..Selector::default() }, 1),
        (Selector { min_vram: bytes("25.8 GB"), ..Selector::default() }, 0),
        (Selector { max_vram: bytes("16 GiB"), ..Selector::default() }, 1),
        (Selector { max_vram: bytes("16 GB"), ..Selector::default() }, 0),
        (Selector { min_compute_capability: capability("8.6"), ..Selector::default() }, 2),
        (Selector { min_compute_capability: capability("9.0"), ..Selector::default() }, 1),
        (Selector { max_compute_capability: capability("8.6"), ..Selector::default() }, 1),
        (Selector { max_compute_capability: capability("8.5"), ..Selector::default() }, 0),
    ] {
        assert_eq!(selector.select(&machine).matching.len(), found, "{selector}");
    }
}

#[test]
fn count_is_how_many_must_match() {
    let machine = workstation();
    let count = |count, selector| Selector { count, ..selector };
    for (selector, problem) in [
        (count(2, Selector::default()), None),
        (count(3, Selector::default()), Some("3 GPUs are wanted and 2 match")),
        (count(1, named("RTX*")), None),
        (count(2, named("RTX 3090")), Some("2 GPUs are wanted and 1 match")),
        (count(2, named("H100")), Some("no GPU matches")),
    ] {
        let actual = selector.select(&machine).problem().map(|it| it.to_string());
        assert_eq!(actual.as_deref(), problem, "{selector}");
    }
}

#[test]
fn selectors_print_as_what_they_mean() {
    let selector = Selector {
        min_vram: Some("20 GiB".parse().unwrap()),
        max_vram: Some("1.5 TB".parse().unwrap()),
        ..named("RTX 30*")
    };
    assert_eq!(selector.to_string(), "RTX 30* with at least 20 GiB, at most 1.5 TB");
    assert_eq!(Selector { count: 2, ..Selector::default() }.to_string(), "2 × any GPU");
}
