use expect_test::{Expect, expect};

use crate::sandbox::Sandbox;

const MASK: &str = "export CUDA_VISIBLE_DEVICES=1\npython train.py\n";
const TRAIN: &str = "import torch\n\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";

fn project() -> Sandbox {
    Sandbox::new().file("run.sh", MASK).file("train.py", TRAIN)
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    let args = [&["scan"], args].concat();
    expected.assert_eq(&sandbox.gpupin(&args).whole());
}

#[test]
fn a_finding_is_shown_in_its_source() {
    check(
        &project(),
        &["--select", "GP103"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            error[GP103]: the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
             --> run.sh:1:8
              |
            1 | export CUDA_VISIBLE_DEVICES=1
              |        ^^^^^^^^^^^^^^^^^^^^^^
              |
              = note: concerns the program `train.py`
              = unsafe fix: Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first (where the two orders differ, it changes which GPU the program uses)

            ----- stderr
            found 1 error in 1 file, 1 with a fix (2 files scanned, 1 program ordered)
        "#]],
    );
}

#[test]
fn concise_is_one_line_per_finding() {
    check(
        &project(),
        &["--select", "GP103", "--output-format", "concise"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            run.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (2 files scanned, 1 program ordered)
        "#]],
    );
}

#[test]
fn nothing_found_is_success() {
    check(
        &Sandbox::new().file("a.sh", "echo hello\n"),
        &[],
        &expect![[r#"
            exit code: 0
            ----- stderr
            found nothing (1 file scanned, 0 programs ordered)
        "#]],
    );
}

#[test]
fn exit_zero_keeps_the_findings_and_not_the_code() {
    let outcome = project().gpupin(&["scan", "--select", "GP103", "--exit-zero"]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.out.contains("GP103"));
}

#[test]
fn quiet_leaves_the_summary_out() {
    let outcome = project().gpupin(&["scan", "--select", "GP103", "--quiet"]);
    assert_eq!(outcome.err, "");
}

#[test]
fn statistics_count_by_rule() {
    let sandbox = project().file("other.sh", MASK);
    check(
        &sandbox,
        &["--select", "GP103", "--statistics"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            2 × GP103 missing-device-order in 2 files
            ----- stderr
            found 2 errors in 2 files, 2 with a fix (3 files scanned, 1 program ordered)
        "#]],
    );
}

#[test]
fn statistics_have_no_machine_format() {
    check(
        &project(),
        &["--statistics", "--output-format", "json"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `--statistics` is for the formats `full` and `concise`

        hint: `--output-format json` has the same counts in `summary.by_rule`
    "#]],
    );
}

#[test]
fn json_lines_end_with_the_summary() {
    let outcome = project().gpupin(&["scan", "--select", "GP103", "--output-format", "jsonl"]);
    let lines: Vec<serde_json::Value> =
        outcome.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines[0]["code"], "GP103");
    assert_eq!(lines.last().unwrap()["summary"]["by_rule"]["GP103"], 1);
    assert!(lines.iter().all(|it| it["version"] == 1));
}

#[test]
fn the_policy_of_the_scanned_directory_counts() {
    let sandbox = Sandbox::new()
        .file("app/gpupin.toml", "lint.select = [\"GP205\"]\n")
        .file("app/run.sh", MASK);
    let outcome = sandbox.gpupin(&["scan", "app", "-v"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    assert!(outcome.err.contains("policy: `app/gpupin.toml`"), "{}", outcome.err);
    let outcome = sandbox.gpupin(&["scan", "app", "--no-policy"]);
    assert_eq!(outcome.code, 1);
}

#[test]
fn a_policy_that_cannot_be_read_does_not_leave_the_word_to_the_one_above() {
    let above = || {
        let sandbox = Sandbox::new().variable("PATH", std::env::var("PATH").unwrap());
        sandbox.file("gpupin.toml", "gpu.name = \"RTX 5060 Ti\"\n").file("app/main.py", "")
    };
    let place = "app/gpupin.toml";
    let ways: [(&[&str], &str); 4] = [
        (&["ln", "-s", "nowhere", place], "No such file or directory"),
        (&["ln", "-s", "/dev/zero", place], "it is not a plain file"),
        (&["mkdir", place], "it is not a plain file"),
        (&["mkfifo", place], "it is not a plain file"),
    ];
    for (way, why) in ways {
        let sandbox = above();
        assert_eq!(sandbox.run(way[0], "", &way[1..]).code, 0);
        for args in [&["scan", "app"][..], &["scan", "app", "--policy", place]] {
            let outcome = sandbox.gpupin(args);
            assert_eq!(outcome.code, 2, "{way:?}: {outcome:?}");
            assert!(outcome.err.contains("failed to read `app/gpupin.toml`"), "{outcome:?}");
            assert!(outcome.err.contains(why), "{outcome:?}");
        }
        let which = sandbox.gpupin_in("app", &["which", "--machine", "mixed"]);
        assert_eq!(which.code, 2, "{way:?}: {which:?}");
    }
    for name in ["pyproject.toml", "gpupin.lock"] {
        let place = format!("app/{name}");
        let mut sandbox = above();
        if name == "gpupin.lock" {
            sandbox = sandbox.file("app/gpupin.toml", "gpu.name = \"RTX 3090\"\n");
        }
        assert_eq!(sandbox.run("ln", "", &["-s", "nowhere", &place]).code, 0);
        let outcome = sandbox.gpupin(&["scan", "app"]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.err.contains(&format!("failed to read `{place}`")), "{outcome:?}");
    }
    let linked = above().file("policies/app.toml", "gpu.name = \"RTX 3090\"\n");
    assert_eq!(linked.run("ln", "", &["-s", "../policies/app.toml", place]).code, 0);
    let which = linked.gpupin_in("app", &["which", "--machine", "mixed"]);
    assert!(which.out.contains("RTX 3090"), "{which:?}");
}

#[test]
fn pyproject_may_hold_the_policy() {
    let table = "[tool.gpupin.lint]\nignore = [\"GP103\"]\n";
    let sandbox = project().file("pyproject.toml", table);
    let json = sandbox.gpupin(&["scan", "--output-format", "json"]).json();
    assert!(json["summary"]["by_rule"]["GP103"].is_null());
}

#[test]
fn a_wrong_policy_is_an_error_with_its_place() {
    check(
        &project().file("gpupin.toml", "[lint]\nselct = []\n"),
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: invalid policy `gpupin.toml`
          gpupin.toml:2:1: unknown key `lint.selct`, did you mean `select`?
    "#]],
    );
}

#[test]
fn a_policy_that_forbids_what_it_wants_is_an_error_with_a_hint() {
    let policy = "gpu.name = \"RTX 3090\"\n\n[[forbid]]\nname = \"rtx 3090\"\n";
    check(
        &project().file("gpupin.toml", policy),
        &[],
        &expect![[r#"
            exit code: 2
            ----- stderr
            error: invalid policy `gpupin.toml`
              gpupin.toml:3:1: `forbid[0]` forbids every GPU that `gpu` wants

            hint: `forbid` is for the other GPUs of the machine: remove the entry, or give it more conditions
        "#]],
    );
}

#[test]
fn an_unknown_profile_is_an_error_with_the_known_ones() {
    let policy = "[profiles.ci]\nlint.select = [\"strict\"]\n";
    check(
        &project().file("gpupin.toml", policy),
        &["--profile", "cl"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: no profile `cl`, did you mean `ci`?

        hint: `gpupin.toml` has the profiles `ci`
    "#]],
    );
}

#[test]
fn an_unknown_rule_is_an_error() {
    check(
        &project(),
        &["--select", "GP13"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: no rule is called `GP13`; did you mean `GP103`?

        hint: `gpupin rules` lists all rules
    "#]],
    );
}

#[test]
fn excluded_files_stay_out_even_when_named() {
    let sandbox = project()
        .file("gpupin.toml", "[lint]\nexclude = [\"old/**\"]\n")
        .file("old/run.sh", MASK)
        .file("sub/run.sh", MASK);
    let paths = |directory: &str, args: &[&str]| -> Vec<String> {
        let args = [&["scan", "--select", "GP103", "--output-format", "json"], args].concat();
        let json = sandbox.gpupin_in(directory, &args).json();
        let findings = json["findings"].as_array().unwrap();
        findings.iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("", &[]), ["run.sh", "sub/run.sh"]);
    assert_eq!(paths("", &["old/run.sh", "run.sh"]), ["run.sh"]);
    assert_eq!(paths("", &["--exclude", "sub"]), ["run.sh"]);
    assert_eq!(paths("sub", &[]), ["run.sh"], "relative to the working directory");
    assert_eq!(paths("sub", &["..", "--exclude", "run.sh"]), Vec::<String>::new());
    assert_eq!(paths("old", &["run.sh"]), Vec::<String>::new(), "globs are the root's");
}

#[test]
fn ignored_files_are_scanned_only_when_asked_for() {
    let sandbox = project().file(".gitignore", "run.sh\n").file(".git/HEAD", "");
    let code =
        |args: &[&str]| sandbox.gpupin(&[&["scan", "--select", "GP103"], args].concat()).code;
    assert_eq!(code(&[]), 0);
    assert_eq!(code(&["run.sh"]), 1);
    assert_eq!(code(&["--no-respect-gitignore"]), 1);
}

#[test]
fn other_peoples_packages_are_scanned_only_when_named() {
    let sandbox = Sandbox::new()
        .file(".venv/lib/run.sh", MASK)
        .file("venv/pyvenv.cfg", "")
        .file("venv/bin/run.sh", MASK)
        .file("node_modules/x/run.sh", MASK);
    assert_eq!(sandbox.gpupin(&["scan"]).code, 0);
    assert_eq!(sandbox.gpupin(&["scan", ".venv", "--select", "GP103"]).code, 1);
}

#[test]
fn a_missing_path_is_an_error() {
    check(
        &Sandbox::new(),
        &["nowhere"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: failed to read `nowhere`
          cause: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn the_report_can_go_to_a_file() {
    let sandbox = project();
    let args = ["scan", "--select", "GP103", "--color", "always", "--output-file", "report.txt"];
    let outcome = sandbox.gpupin(&args);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    let report = sandbox.read("report.txt");
    assert!(report.starts_with("error[GP103]: "), "no colour in files: {report}");
}

#[test]
fn threads_do_not_change_the_result() {
    let mut sandbox = Sandbox::new();
    for number in 0..50 {
        sandbox = sandbox.file(&format!("d{}/run{number}.sh", number % 7), MASK);
    }
    let scan = |threads| {
        let args = ["scan", "--select", "GP103", "--output-format", "json", "--threads", threads];
        sandbox.gpupin(&args).out
    };
    assert_eq!(scan("1"), scan("5"));
}

#[test]
fn the_survey_hides_nothing_that_spans_files() {
    let sandbox = Sandbox::new()
        .file("main.py", "import pin\nfrom app import run\nif __name__ == '__main__':\n    run()\n")
        .file("pin.py", "import os\nfrom config import MASK\nos.environ['CUDA_VISIBLE_DEVICES'] = MASK\n")
        .file("config.py", "from defaults import SECOND\nMASK = str(SECOND)\n")
        .file("defaults.py", "SECOND = 1\n")
        .file("app/__init__.py", "from .engine import run\n")
        .file(
            "app/engine.py",
            "import torch\nfrom defaults import SECOND\ndef run():\n    torch.cuda.set_device(SECOND)\n",
        )
        .file("unpinned.py", "from app import run\nif __name__ == '__main__':\n    run()\n")
        .file("serve.sh", "export CUDA_VISIBLE_DEVICES=0\npython unpinned.py\n")
        .file("alone.py", "import app\nif __name__ == '__main__':\n    app.run()\n")
        .file("tools/list.py", "print('nothing of a GPU')\n");
    let args = ["scan", "--select", "all", "--output-format", "json"];
    let filtered = sandbox.gpupin(&args).json();
    let unfiltered = sandbox.gpupin(&[&args[..], &["--no-prefilter"]].concat()).json();
    assert_eq!(filtered["findings"], unfiltered["findings"]);
    let codes: Vec<_> = filtered["summary"]["by_rule"].as_object().unwrap().keys().collect();
    for code in ["GP101", "GP103", "GP201"] {
        assert!(codes.iter().any(|it| *it == code), "{code} is not among {codes:?}");
    }
}

#[test]
fn the_survey_hides_no_mock_of_a_conftest() {
    let sandbox = Sandbox::new()
        .file("conftest.py", "import sys\nsys.modules['torch'] = object()\n")
        .file("tests/unit/test_a.py", "import torch\ndef test_a():\n    torch.zeros(1).cuda()\n")
        .file("main.py", "import torch\nif __name__ == '__main__':\n    torch.zeros(1).cuda()\n");
    let args = ["scan", "--select", "GP101", "--output-format", "concise"];
    let filtered = sandbox.gpupin(&args);
    let unfiltered = sandbox.gpupin(&[&args[..], &["--no-prefilter"]].concat());
    assert_eq!(filtered.out, unfiltered.out);
    assert!(filtered.out.starts_with("main.py:1:1: GP101"), "{}", filtered.out);
    assert_eq!(filtered.out.lines().count(), 1, "{}", filtered.out);
}

#[test]
fn a_baseline_leaves_only_what_is_new() {
    let sandbox = project();
    let accepted = sandbox.gpupin(&["scan", "--select", "GP103", "--write-baseline"]);
    expect![[r#"
        exit code: 0
        ----- stderr
        accepted 1 finding in `gpupin-baseline.json`
    "#]]
    .assert_eq(&accepted.whole());
    let again = ["scan", "--select", "GP103", "--baseline", "gpupin-baseline.json"];
    assert_eq!(sandbox.gpupin(&again).code, 0);
    let sandbox = sandbox.file("run.sh", format!("echo first\n{MASK}")).file("new.sh", MASK);
    let outcome = sandbox.gpupin(&again);
    assert_eq!(outcome.code, 1);
    assert!(outcome.out.contains("new.sh:1:8") && !outcome.out.contains("run.sh"));
}

#[test]
fn a_baseline_holds_from_every_directory() {
    let sandbox = Sandbox::new().file("gpupin.toml", "").file("app/run.sh", MASK);
    sandbox.gpupin(&["scan", "--write-baseline"]);
    let outcome = sandbox.gpupin_in("app", &["scan", "--baseline", "../gpupin-baseline.json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
}

#[test]
fn a_baseline_keeps_what_was_not_scanned() {
    let sandbox = project().file("gpupin.toml", "").file("app/run.sh", MASK);
    sandbox.gpupin(&["scan", "--write-baseline"]);
    let outcome = sandbox.gpupin_in("app", &["scan", "--write-baseline"]);
    expect![[r#"
        exit code: 0
        ----- stderr
        accepted 1 finding in `../gpupin-baseline.json`, beside 1 that it accepts of what was not scanned
    "#]]
    .assert_eq(&outcome.whole());
    let all = ["scan", "--baseline", "gpupin-baseline.json"];
    assert_eq!(sandbox.gpupin(&all).code, 0);
    let excluding = sandbox.gpupin(&["scan", "--write-baseline", "--exclude", "app"]);
    assert!(excluding.err.contains("beside 1"), "{}", excluding.whole());
    assert_eq!(sandbox.gpupin(&all).code, 0);
    let nothing_left = sandbox.file("app/run.sh", "").gpupin(&["scan", "--write-baseline", "app"]);
    assert!(nothing_left.err.contains("accepted 0 findings"), "{}", nothing_left.whole());
}

#[test]
fn a_name_for_a_baseline_follows_an_equals_sign() {
    check(
        &project(),
        &["--write-baseline", "accepted.json"],
        &expect![[r#"
            exit code: 2
            ----- stderr
            error: `accepted.json` does not exist

            hint: a name for the baseline follows `=`: `--write-baseline=accepted.json`
        "#]],
    );
}

#[test]
fn whatever_a_script_starts_is_a_program_for_a_filtered_scan_too() {
    let sandbox = Sandbox::new()
        .file("app/__init__.py", "")
        .file("app/main.py", "import torch\nmodel = torch.zeros(1).cuda()\napp = FastAPI()\n")
        .file("app/other.py", "import torch\ndef run():\n    torch.zeros(1).cuda()\n")
        .file("pyproject.toml", "[project.scripts]\nmy-serve = \"app.other:run\"\n")
        .file("start.sh", "exec uvicorn app.main:app --port 8000\n")
        .file("other.sh", "my-serve --port 1\n");
    let args = ["scan", "--output-format", "concise"];
    let filtered = sandbox.gpupin(&args);
    let whole = sandbox.gpupin(&[&args[..], &["--no-prefilter"]].concat());
    assert!(filtered.out.contains("app/main.py:1:1: GP101"), "{}", filtered.whole());
    assert_eq!(filtered.out, whole.out);
}

#[test]
fn a_project_in_which_nothing_is_started_is_not_called_pinned() {
    let sandbox = Sandbox::new().file("app.py", "import torch\ntorch.zeros(1).cuda()\n");
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (1 file scanned, 0 programs ordered)
        1 file imports a GPU library, and none was seen to be started, so no pin was asked for: name what you start in `lint.entry-points`
    "#]],
    );
}

#[test]
fn an_entry_point_that_is_no_file_is_told() {
    let policy = "[gpu]\nname = \"RTX 3090\"\n[lint]\nentry-points = [\"app.pyy\", \"./app.py\", \"tools/*.py\"]\n[roles.tts]\nname = \"RTX 5060 Ti\"\nentry-points = [\"ttss.py\"]\n";
    let sandbox = Sandbox::new().file("gpupin.toml", policy).file("app.py", "");
    let outcome = sandbox.gpupin(&["scan"]);
    expect![[r#"
        exit code: 0
        ----- stderr
        warning: `entry-points` of `[lint]` names `app.pyy`, and beside the policy there is no such file
        warning: `entry-points` of `[roles.tts]` names `ttss.py`, and beside the policy there is no such file
        found nothing (1 file scanned, 0 programs ordered)
    "#]].assert_eq(&outcome.whole());
}

#[test]
fn a_missing_baseline_tells_how_to_write_one() {
    check(
        &project(),
        &["--baseline", "nowhere.json"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: failed to read `nowhere.json`
          cause: No such file or directory (os error 2)

        hint: `gpupin scan --write-baseline` writes a baseline
    "#]],
    );
}

#[test]
fn files_of_every_kind_are_read() {
    const CHOICE: &str = "import torch\ntorch.zeros(1).to(\"cuda:1\")\n";
    let utf_16: Vec<u8> = "\u{feff}$env:CUDA_VISIBLE_DEVICES=\"1\"\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let deep = format!("x = {}1{}\n{CHOICE}", "(".repeat(20_000), ")".repeat(20_000));
    let noise: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let sandbox = Sandbox::new()
        .file("bom.py", format!("\u{feff}{}", CHOICE.replace('\n', "\r\n")))
        .file("broken.ipynb", "{\"cells\": [{\"cell_type\": \"code\", \"source\": [\"torch")
        .file("broken.yaml", "services:\n  a:\n\tb: {count: all\n")
        .file("deep.json", "[".repeat(100_000))
        .file("deep.py", deep)
        .file("empty.py", "")
        .file(
            "latin.py",
            b"# coding: latin-1\nx = '\xe9'; import torch; torch.zeros(1).to('cuda:1')\n",
        )
        .file("noise.py", noise)
        .file("utf16.ps1", utf_16);
    let args = ["scan", "--verbose", "--select", "GP201,GP103", "--output-format", "concise"];
    let outcome = sandbox.gpupin(&[&args[..], &["--no-prefilter"]].concat());
    assert_eq!(outcome.code, 1, "{}", outcome.whole());
    let paths: Vec<_> = outcome.out.lines().map(|it| it.split(':').next().unwrap()).collect();
    assert_eq!(paths, ["bom.py", "deep.py", "latin.py", "utf16.ps1"]);
    let noise = outcome.err.lines().filter(|it| it.contains("noise.py"));
    assert_eq!(noise.count(), 4, "three syntax errors and how many more");
    assert_eq!(outcome.out, sandbox.gpupin(&args).out, "the survey misses none of them");
}

#[test]
fn files_of_data_that_do_not_parse_are_warned_of() {
    let sandbox = Sandbox::new()
        .file("broken.ipynb", "{\"cells\": [{\"source\": [\"torch.cuda.set_device(1)\"")
        .file("compose.yaml", "services:\n  a:\n    runtime: nvidia\n\tb: {count: all\n")
        .file("settings.toml", "main_gpu = 1\nbroken\n")
        .file("broken.py", "import torch\ndef broken(\n")
        .file("of_no_interest.json", "{\"a\": \n");
    check(
        &sandbox,
        &["--select", "GP103,GP201,GP501", "--output-format", "concise"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            settings.toml:1:12: GP201 ordinal 1 of `main_gpu` picks a GPU by number, and no policy says which GPU is meant
            ----- stderr
            warning: could not parse `broken.ipynb`: 1:23: Unterminated array; nothing in it was checked
            warning: could not parse `compose.yaml`: 3:14: while scanning a plain scalar, found a tab; not all of it was checked
            warning: could not parse `settings.toml`: 2:7: key with no value, expected `=`; not all of it was checked
            found 1 warning in 1 file (5 files scanned, 0 programs ordered)
            1 file imports a GPU library, and none was seen to be started, so no pin was asked for: name what you start in `lint.entry-points`
        "#]],
    );
    assert_eq!(sandbox.gpupin(&["scan", "--quiet", "--select", "GP103"]).err, "");
}

#[test]
fn of_many_files_that_do_not_parse_a_few_are_told() {
    let mut sandbox = Sandbox::new();
    for number in 1..=7 {
        sandbox = sandbox.file(&format!("{number}.json"), "{\"main_gpu\": 1");
    }
    let warnings = |args: &[&str]| {
        let outcome = sandbox.gpupin(&[&["scan"], args].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.whole());
        let lines = outcome.err.lines().filter(|it| it.starts_with("warning: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let told = warnings(&[]);
    assert_eq!(told.len(), 6);
    assert_eq!(told[5], "warning: could not parse 2 more files, `--verbose` names them");
    assert_eq!(warnings(&["--verbose"]).len(), 7);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_scanned() {
    use std::os::unix::fs::symlink;

    let sandbox = project().file("dir/b.sh", MASK);
    // Links are only followed when they are named, so neither a loop nor a dangling one matters.
    symlink("..", sandbox.path().join("dir/loop")).unwrap();
    symlink("nowhere", sandbox.path().join("dangling.py")).unwrap();
    // Even the superuser gets an error here.
    symlink("/proc/self/mem", sandbox.path().join("broken.sh")).unwrap();
    let args = ["--select", "GP103", "--output-format", "concise", ".", "broken.sh"];
    check(
        &sandbox,
        &args,
        &expect![[r#"
            exit code: 2
            ----- stdout
            dir/b.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            run.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            error: failed to read `broken.sh`: Input/output error (os error 5)
            found 2 errors in 2 files, 2 with a fix (3 files scanned, 1 program ordered)
        "#]],
    );
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_an_error_and_not_waited_for() {
    let sandbox = Sandbox::new();
    let made = std::process::Command::new("mkfifo").arg(sandbox.path().join("pipe.py")).status();
    assert!(made.unwrap().success());
    let outcome = sandbox.gpupin(&["scan", "pipe.py"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("`pipe.py`: neither a file nor a directory"), "{}", outcome.err);
}
