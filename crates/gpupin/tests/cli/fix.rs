//! `gpupin fix`: what it says, what it changes, and what it leaves alone. Which text a rule's fix makes is shown in
//! `gpupin-lint`.

use std::{fs, path::Path};

use expect_test::{Expect, expect};

use crate::sandbox::{Outcome, Sandbox};

const POLICY: &str = "[gpu]\nname = \"RTX 3090\"\n";
const LOCK: &str = include_str!("../../../../examples/assistant/gpupin.lock");
const PROGRAM: &str =
    "import torch\nif __name__ == \"__main__\":\n    torch.zeros(1).to(\"cuda:1\")\n";

fn project() -> Sandbox {
    Sandbox::new().file("gpupin.toml", POLICY).file("gpupin.lock", LOCK)
}

/// Every file below a directory, but what gpupin and git keep.
fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if name != ".gpupin" && name != ".git" {
                    directories.push(path);
                }
            } else {
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["fix"], args].concat()).whole());
}

#[test]
fn a_diff_shows_what_would_change_and_changes_nothing() {
    let sandbox = project().file("main.py", PROGRAM);
    let before = tree(sandbox.path());
    check(
        &sandbox,
        &["--diff"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            --- a/main.py
            +++ b/main.py
            @@ -1,3 +1,11 @@
            +# gpupin: begin of the pin, written by `gpupin fix`
            +import os
            +
            +os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            +# RTX 3090
            +os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
            +# gpupin: end of the pin
            +
             import torch
             if __name__ == "__main__":
            -    torch.zeros(1).to("cuda:1")
            +    torch.zeros(1).to("cuda:0")
            ----- stderr
            would fix 2 findings in 1 file: GP101 1, GP201 1
              main.py
        "#]],
    );
    check(
        &sandbox,
        &["--check"],
        &expect![[r#"
            exit code: 1
            ----- stderr
            would fix 2 findings in 1 file: GP101 1, GP201 1
              main.py
        "#]],
    );
    assert_eq!(tree(sandbox.path()), before);
    assert!(!sandbox.path().join(".gpupin").exists());
}

#[test]
fn what_was_fixed_is_as_scan_wants_it_and_undo_takes_it_back() {
    let sandbox = project().file("main.py", PROGRAM);
    let before = tree(sandbox.path());
    check(
        &sandbox,
        &[],
        &expect![[r#"
            exit code: 0
            ----- stderr
            fixed 2 findings in 1 file: GP101 1, GP201 1
              main.py
        "#]],
    );
    assert_eq!(sandbox.gpupin(&["scan"]).code, 0);
    let fixed = tree(sandbox.path());
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 0
        ----- stderr
        nothing to fix
    "#]],
    );
    assert_eq!(tree(sandbox.path()), fixed, "a second time changes nothing");
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
    assert_eq!(tree(sandbox.path()), before);
}

#[test]
fn the_example_is_fixed_and_restored() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/assistant");
    let files = tree(&example);
    let sandbox =
        files.iter().fold(Sandbox::new(), |sandbox, (name, bytes)| sandbox.file(name, bytes));
    check(
        &sandbox,
        &[],
        &expect![[r#"
            exit code: 1
            ----- stderr
            fixed 13 findings in 8 files: GP102 1, GP103 2, GP107 1, GP108 1, GP201 3, GP501 4, GP502 1
              assistant/__main__.py
              compose.yaml
              notebooks/latency.ipynb
              scripts/check_gpu.py
              scripts/finetune.py
              start.ps1
              start.sh
              tests/test_stt.py
            22 findings are left:
                 1  GP101 unpinned-entry-point: unsafe: line 36 of `scripts/check_gpu.py` may choose a GPU that is not there then
                    scripts/check_gpu.py:9
                 1  GP104 wrong-device-order: unsafe: where the two orders differ, it changes which GPU an index means: in a container other GPUs may be numbered
                    deploy/assistant-tts.service:9
                 1  GP105 pin-after-freeze: unsafe: in its container that GPU may not be there
                    assistant/tts.py:21
                 1  GP106 pin-after-import: unsafe: in its container that GPU may not be there
                    scripts/finetune.py:17
                 1  GP108 invalid-mask: unsafe: the setting takes effect, which can change the GPU that is used: in a container other GPUs may be numbered
                    .env:7
                 1  GP109 pin-dropped-in-child: unsafe: the mask may have been left out on purpose, for a child that is to use another GPU
                    assistant/orchestrator.py:38
                 1  GP111 pin-removed: unsafe: it may have been removed on purpose
                    scripts/bench_llm.py:10
                 7  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `assistant/orchestrator.py`
                    assistant/llm.py:38, assistant/llm.py:46, assistant/stt.py:26, config/assistant.yaml:7, config/assistant.yaml:14 and 2 more
                 1  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `scripts/bench_llm.py`
                    scripts/bench_llm.py:21
                 1  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `scripts/check_gpu.py`
                    scripts/check_gpu.py:37
                 1  GP202 index-used-as-ordinal: unsafe: where no pin is in effect, ordinal 0 can be another GPU than the one that was looked for
                    scripts/check_gpu.py:36
                 1  GP205 flag-replaces-mask: unsafe: the program then uses the GPUs of the mask it inherits, and the launcher may start another number of processes
                    start.sh:25
                 2  GP302 weak-verification: no fix is known
                    assistant/orchestrator.py:118, scripts/check_gpu.py:38
                 2  GP401 invalid-allocator-setting: unsafe: the setting takes effect, where PyTorch fails today
                    assistant/__main__.py:9, start.ps1:10
            `gpupin undo` takes the changes back
        "#]],
    );
    check(
        &sandbox,
        &["--unsafe-fixes", "--select", "strict"],
        &expect![[r#"
            exit code: 1
            ----- stderr
            fixed 22 findings in 14 files: GP101 1, GP104 1, GP105 1, GP106 1, GP108 1, GP109 1, GP111 1, GP201 9, GP202 1, GP204 1, GP205 1, GP401 2, GP403 1; and 1 that fixes brought: GP103 1
              .env
              assistant/__main__.py
              assistant/llm.py
              assistant/orchestrator.py
              assistant/settings.py
              assistant/tts.py
              config/assistant.yaml
              config/audio.ini
              deploy/assistant-tts.service
              scripts/bench_llm.py
              scripts/check_gpu.py
              scripts/finetune.py
              start.ps1
              start.sh
            9 findings are left:
                 1  GP110 computed-mask: no fix is known
                    .github/workflows/test.yml:22
                 1  GP112 hides-every-gpu: no fix is known
                    .github/workflows/test.yml:9
                 1  GP204 silent-cpu-fallback: no fix is known
                    assistant/vad.py:21
                 5  GP301 missing-verification: no fix is known
                    assistant/tts.py:22, notebooks/latency.ipynb:54, scripts/bench_llm.py:19, scripts/finetune.py:20, tests/test_stt.py:8
                 1  GP302 weak-verification: no fix is known
                    assistant/orchestrator.py:119
            `gpupin undo` takes the changes back
        "#]],
    );
    let fixed = tree(sandbox.path());
    sandbox.gpupin(&["fix", "--unsafe-fixes", "--select", "strict"]);
    assert_eq!(tree(sandbox.path()), fixed, "a second time changes nothing");
    for _ in 0..2 {
        let undone = sandbox.gpupin(&["undo"]);
        assert_eq!(undone.code, 0, "{}", undone.whole());
    }
    assert_eq!(tree(sandbox.path()), files);
}

#[test]
fn unsafe_fixes_wait_until_they_are_asked_for() {
    let sandbox = Sandbox::new().file("gpupin.toml", POLICY).file("main.py", PROGRAM);
    check(
        &sandbox,
        &["--diff"],
        &expect![[r#"
            exit code: 0
            ----- stderr
            nothing to fix
            2 findings are left:
                 1  GP101 unpinned-entry-point: unsafe: no mask is right on every recorded machine, and the program then needs the package `gpupin`
                    main.py:1
                 1  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `main.py`
                    main.py:3
        "#]],
    );
    check(
        &sandbox,
        &["--diff", "--unsafe-fixes"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            --- a/main.py
            +++ b/main.py
            @@ -1,3 +1,5 @@
            +import gpupin.auto  # pins the GPU of gpupin.toml
            +
             import torch
             if __name__ == "__main__":
            -    torch.zeros(1).to("cuda:1")
            +    torch.zeros(1).to("cuda:0")
            ----- stderr
            warning: `main.py` imports the package `gpupin` then, which the project does not declare as a dependency
            would fix 2 findings in 1 file: GP101 1, GP201 1
              main.py
        "#]],
    );
}

#[test]
fn a_package_that_a_fix_needs_and_nobody_declares_is_told() {
    let style = format!("{POLICY}[lint]\nstyle = \"import\"\n");
    let sandbox = project().file("gpupin.toml", style).file("app/main.py", PROGRAM);
    let args = &["fix", "--unsafe-fixes", "--check"];
    let told = |sandbox: &Sandbox| {
        let outcome = sandbox.gpupin(args);
        outcome.err.lines().filter(|it| it.starts_with("warning")).collect::<Vec<_>>().join("\n")
    };
    expect!["warning: `app/main.py` imports the package `gpupin` then, which the project does not declare as a dependency"].assert_eq(&told(&sandbox));
    let sandbox = sandbox.file("app/requirements.txt", "torch\n").file("setup.py", "");
    expect!["warning: `app/main.py` imports the package `gpupin` then, which the project does not declare as a dependency (looked at `app/requirements.txt`, `setup.py`)"].assert_eq(&told(&sandbox));
    let sandbox = sandbox.file("requirements-gpu.txt", "gpupin\n");
    assert_eq!(told(&sandbox), "");
}

#[test]
fn only_selected_rules_are_fixed() {
    let sandbox = project().file("main.py", PROGRAM);
    check(
        &sandbox,
        &["--select", "GP201", "--check"],
        &expect![[r#"
            exit code: 0
            ----- stderr
            nothing to fix
            1 finding is left:
                 1  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `main.py`
                    main.py:3
        "#]],
    );
    check(
        &sandbox,
        &["--ignore", "GP101", "--check"],
        &expect![[r#"
            exit code: 0
            ----- stderr
            nothing to fix
            1 finding is left:
                 1  GP201 ordinal-outside-pin: unsafe: ordinal 0 can be another GPU: no pin is certain in `main.py`
                    main.py:3
        "#]],
    );
}

#[test]
fn files_that_cannot_be_changed_are_named_and_the_rest_goes_on() {
    let sandbox = project().file("one.py", PROGRAM).file("two.py", PROGRAM);
    let path = sandbox.path().join("one.py");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    check(
        &sandbox,
        &[],
        &expect![[r#"
            exit code: 2
            ----- stderr
            warning: left `one.py` alone: read-only
            fixed 2 findings in 1 file: GP101 1, GP201 1
              two.py
            2 findings are left:
                 1  GP101 unpinned-entry-point: its fix was not made
                    one.py:1
                 1  GP201 ordinal-outside-pin: its fix was not made: it rests on the pin of `one.py`, which was not made
                    one.py:3
            `gpupin undo` takes the changes back
        "#]],
    );
    assert_eq!(sandbox.read("one.py"), PROGRAM);
    assert_ne!(sandbox.read("two.py"), PROGRAM);
}

#[test]
fn a_fix_that_would_bring_a_finding_is_not_made() {
    // `speak.py` is a program too, and imported by one whose GPU library comes first.
    let sandbox = project()
        .file(
            "main.py",
            "import torch\nimport speak\nif __name__ == \"__main__\":\n    speak.run()\n",
        )
        .file(
            "gpupin.toml",
            format!("{POLICY}[lint.per-file-ignores]\n\"main.py\" = [\"GP101\"]\n"),
        )
        .file("speak.py", format!("{PROGRAM}def run():\n    pass\n"));
    check(
        &sandbox,
        &["--unsafe-fixes"],
        &expect![[r#"
            exit code: 1
            ----- stderr
            nothing to fix
            2 findings are left:
                 1  GP101 unpinned-entry-point: its fix was not made: it would bring GP106 to `os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"` in `speak.py`: `CUDA_DEVICE_ORDER`, `CUDA_VISIBLE_DEVICES` are set after `import torch`: it works only while nothing before it touches the GPU
                    speak.py:1
                 1  GP201 ordinal-outside-pin: its fix was not made: it rests on the pin of `speak.py`, which was not made
                    speak.py:3
        "#]],
    );
    assert!(sandbox.read("speak.py").starts_with("import torch"));
}

#[test]
fn no_ordinal_changes_in_a_module_whose_programs_pin_is_refused() {
    let sandbox = project()
        .file("main.py", "import torch\nimport llm\nimport speak\nif __name__ == \"__main__\":\n    speak.run()\n")
        .file(
            "gpupin.toml",
            format!("{POLICY}[lint.per-file-ignores]\n\"main.py\" = [\"GP101\"]\n"),
        )
        .file("llm.py", "import torch\ndef load(x):\n    return x.to(\"cuda:1\")\n")
        .file("speak.py", format!("import llm\n{PROGRAM}def run():\n    pass\n"));
    let read_only = project()
        .file("main.py", "import llm\nif __name__ == \"__main__\":\n    llm.load(1)\n")
        .file("llm.py", "import torch\ndef load(x):\n    return x.to(\"cuda:1\")\n");
    let path = read_only.path().join("main.py");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    for sandbox in [&sandbox, &read_only] {
        let before = tree(sandbox.path());
        let outcome = sandbox.gpupin(&["fix", "--unsafe-fixes"]);
        assert!(outcome.err.contains("nothing to fix"), "{}", outcome.whole());
        assert!(outcome.err.contains("it rests on the pin of"), "{}", outcome.whole());
        assert_eq!(tree(sandbox.path()), before);
    }
}

#[test]
fn a_container_of_several_machines_is_told_to_have_no_fix_and_why() {
    let other = LOCK
        .replace("version = 1\n", "")
        .replace("workstation", "other")
        .replace("GPU-8932f937", "GPU-1111f937")
        .replace("GPU-5b1c0f6e", "GPU-2222f937");
    let sandbox = project()
        .file("gpupin.lock", format!("{LOCK}{other}"))
        .file("run.sh", "docker run --gpus all image\n");
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 1
        ----- stderr
        nothing to fix
        1 finding is left:
             1  GP501 container-gpu-unpinned: no fix: a UUID is one machine's, and `gpupin.lock` records 2 machines
                run.sh:1
    "#]],
    );
    assert!(sandbox.gpupin(&["scan", "--color", "never"]).out.contains("= no fix: a UUID is"));
}

#[test]
fn a_fix_that_would_bring_a_finding_keeps_no_other_back() {
    // Once the script pins it, what the program sets itself comes too late.
    let late = "import torch\ntorch.zeros(1).cuda()\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"0\"\n";
    let program = "import torch\ntorch.zeros(1).cuda()\n";
    let sandbox = project().file("a.py", program).file("b.py", late).file("c.py", program).file(
        "run.sh",
        ["a", "b", "c"].map(|it| format!("CUDA_VISIBLE_DEVICES=0 python {it}.py\n")).concat(),
    );
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 1
        ----- stderr
        fixed 2 findings in 1 file: GP103 2
          run.sh
        1 finding is left:
             1  GP103 missing-device-order: its fix was not made: it would bring GP105 to `os.environ["CUDA_VISIBLE_DEVICES"] = "0"` in `b.py`: `CUDA_VISIBLE_DEVICES` is set after `.cuda()` made CUDA read it: this does nothing
                run.sh:2
        `gpupin undo` takes the changes back
    "#]],
    );
    expect![[r#"
        CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 python a.py
        CUDA_VISIBLE_DEVICES=0 python b.py
        CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 python c.py
    "#]]
    .assert_eq(&sandbox.read("run.sh"));
}

#[test]
fn what_a_fix_cannot_touch_is_not_judged_with_each_try() {
    let mut sandbox = project()
        .file(
            "bad/main.py",
            "import torch\nimport speak\nif __name__ == \"__main__\":\n    speak.run()\n",
        )
        .file("bad/speak.py", format!("{PROGRAM}def run():\n    pass\n"))
        .file(
            "gpupin.toml",
            format!("{POLICY}[lint.per-file-ignores]\n\"bad/main.py\" = [\"GP101\"]\n"),
        );
    for other in ["a", "b", "c", "d", "e"] {
        sandbox = sandbox.file(&format!("{other}.py"), PROGRAM);
    }
    let outcome = sandbox.gpupin(&["fix", "--unsafe-fixes", "--verbose"]);
    let judged: Vec<&str> =
        outcome.err.lines().filter_map(|it| it.strip_prefix("verbose: judged ")).collect();
    assert!(!judged.is_empty() && judged.iter().all(|it| it.starts_with("2 files")), "{judged:?}");
    assert!(sandbox.read("bad/speak.py").starts_with("import torch"));
    for other in ["a", "b", "c", "d", "e"] {
        assert!(sandbox.read(&format!("{other}.py")).starts_with("# gpupin"), "{other}");
    }
    assert!(outcome.err.contains("2 findings are left"), "{}", outcome.err);
}

#[test]
fn a_finding_that_only_moves_is_not_brought() {
    // With a `conftest.py`, what is said of all tests is said there.
    let test = "import torch\ndef test_it():\n    torch.zeros(1).cuda()\n";
    let sandbox = project().file("tests/test_a.py", test).file("tests/test_b.py", test);
    check(
        &sandbox,
        &["--select", "strict"],
        &expect![[r#"
            exit code: 1
            ----- stderr
            fixed 1 finding in 1 file: GP101 1
              tests/conftest.py (new)
            1 finding is left:
                 1  GP301 missing-verification: no fix is known
                    tests/conftest.py:1
            `gpupin undo` takes the changes back
        "#]],
    );
}

#[test]
fn line_ends_marks_and_encodings_stay() {
    let text = PROGRAM.replace('\n', "\r\n");
    let marked = format!("\u{feff}{text}");
    let latin = [b"# coding: latin-1\nNAME = \"caf\xe9\"\n", PROGRAM.as_bytes()].concat();
    let sandbox = project().file("crlf.py", &text).file("bom.py", &marked).file("latin.py", &latin);
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    let bytes = |name: &str| fs::read(sandbox.path().join(name)).unwrap();
    assert!(!String::from_utf8(bytes("crlf.py")).unwrap().replace("\r\n", "").contains('\n'));
    assert!(bytes("bom.py").starts_with(b"\xef\xbb\xbf# gpupin: begin"));
    let fixed = bytes("latin.py");
    assert!(fixed.starts_with(b"# coding: latin-1\n\n# gpupin: begin"));
    assert!(fixed.windows(4).any(|it| it == b"caf\xe9"));
}

#[test]
fn uncommitted_changes_are_not_mixed_with_fixes() {
    let sandbox = project().file("main.py", PROGRAM).repository();
    sandbox.commit();
    let sandbox = sandbox.file("main.py", format!("{PROGRAM}# mine\n"));
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: git has uncommitted changes, with which fixes would mix: `main.py`

        hint: commit or stash them, or pass `--allow-dirty`
        hint: `gpupin fix --diff` shows what would change
    "#]],
    );
    sandbox.commit();
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    // What a fix left is not mine.
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    let sandbox = sandbox.file("main.py", PROGRAM);
    assert_eq!(sandbox.gpupin(&["fix"]).code, 2);
    assert_eq!(sandbox.gpupin(&["fix", "--allow-dirty"]).code, 0);
}

#[test]
fn only_changes_in_files_that_would_be_changed_are_in_the_way() {
    let sandbox = project()
        .file("app/a.py", PROGRAM)
        .file("app/notes.py", "x = 1\n")
        .file("other/b.py", PROGRAM)
        .repository();
    sandbox.commit();
    let sandbox =
        sandbox.file("other/b.py", format!("{PROGRAM}# more\n")).file("app/notes.py", "x = 2\n");
    let before = tree(sandbox.path());
    assert_eq!(sandbox.gpupin(&["fix", "other"]).code, 2);
    assert_eq!(sandbox.gpupin(&["fix"]).code, 2);
    assert_eq!(tree(sandbox.path()), before);
    assert_eq!(sandbox.gpupin(&["fix", "app"]).code, 0);
    let missing = sandbox.gpupin(&["fix", "missing"]);
    assert!(missing.err.contains("failed to read `missing`"), "{}", missing.whole());
}

#[test]
fn what_belongs_to_a_submodule_is_left_alone() {
    let sandbox =
        project().file("library/a.py", PROGRAM).file("library/.git", "gitdir: elsewhere\n");
    // Without a repository around it, it is one of the project's own.
    assert_eq!(sandbox.gpupin(&["fix", "--check"]).code, 1);
    // Of another repository's files, git cannot tell which are dirty.
    let sandbox = sandbox.repository();
    let outcome = sandbox.gpupin(&["fix", "--allow-dirty"]);
    let why = "left `library/a.py` alone: it belongs to the repository in `library`";
    assert!(outcome.err.contains(why), "{}", outcome.whole());
    assert_eq!(sandbox.read("library/a.py"), PROGRAM);
}

#[test]
fn a_diff_names_files_in_a_way_that_git_apply_takes() {
    let sandbox = project().file("a/one.py", PROGRAM).file("b/two.py", PROGRAM);
    let diff = sandbox.gpupin_in("a", &["fix", "--diff", ".", "../b"]).out;
    assert!(diff.contains("--- a/a/one.py\n"), "{diff}");
    assert!(diff.contains("--- a/b/two.py\n"), "{diff}");
    let diff = sandbox.gpupin_in("a", &["fix", "--diff"]).out;
    assert!(diff.contains("--- a/one.py\n"), "{diff}");
}

#[test]
fn json_tells_what_was_done_and_what_is_left() {
    let sandbox = project().file("main.py", PROGRAM).file("run.sh", "python main.py --gpu_ids 1\n");
    let document = sandbox.gpupin(&["fix", "--output-format", "json"]).json();
    expect![[r#"
        {
          "brought": [],
          "files": [
            "main.py"
          ],
          "fixed": [
            {
              "code": "GP101",
              "findings": 1,
              "path": "main.py"
            },
            {
              "code": "GP201",
              "findings": 1,
              "path": "main.py"
            }
          ],
          "left": [],
          "refused": [],
          "version": 1
        }
    "#]]
    .assert_eq(&format!("{document:#}\n"));
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let sandbox = project().file("main.py", PROGRAM);
    check(
        &sandbox,
        &["-i"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `--interactive` asks, and there is no terminal to answer from

        hint: `--diff` shows what would change
    "#]],
    );
}

/// Answers what is asked on a terminal of `script`.
#[track_caller]
fn answer(sandbox: &Sandbox, answers: &str) -> String {
    let gpupin = env!("CARGO_BIN_EXE_gpupin");
    let command = format!("{gpupin} fix --interactive");
    let mut script = std::process::Command::new("script");
    script.current_dir(sandbox.path()).args(["--quiet", "--return", "--command", &command]);
    Outcome::given(answers, script.arg("/dev/null")).out.replace('\r', "")
}

#[test]
fn on_a_terminal_each_fix_is_asked_for() {
    let sandbox = project().file("one.py", PROGRAM).file("two.py", PROGRAM);
    let said = answer(&sandbox, "n\nn\ny\ny\n");
    let question = "one.py:1:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts\n";
    assert!(said.contains(question), "{said}");
    assert!(said.contains("+import os\n"), "{said}");
    assert!(said.contains("Pin the RTX 3090 where the program starts? [y]es, [n]o,"), "{said}");
    assert_eq!(sandbox.read("one.py"), PROGRAM);
    assert!(sandbox.read("two.py").starts_with("# gpupin: begin"), "{said}");

    let sandbox = project().file("one.py", PROGRAM).file("two.py", PROGRAM);
    answer(&sandbox, "q\n");
    assert_eq!((sandbox.read("one.py"), sandbox.read("two.py")), (PROGRAM.into(), PROGRAM.into()));
    // The end of the input is no consent.
    answer(&sandbox, "");
    assert_eq!(sandbox.read("one.py"), PROGRAM);
    answer(&sandbox, "a\n");
    assert_ne!(sandbox.read("one.py"), PROGRAM);
    assert_ne!(sandbox.read("two.py"), PROGRAM);
}

#[test]
fn what_a_fix_brings_counts_whichever_rules_are_selected() {
    // The default of a mask is no certain one, and stays.
    let script = "export CUDA_DEVICE_ORDER=FASTEST_FIRST\nexport CUDA_VISIBLE_DEVICES=${GPU:-0}\npython main.py\n";
    let sandbox = project().file("run.sh", script).file("main.py", "import torch\n");
    let outcome = sandbox.gpupin(&["fix", "--unsafe-fixes", "--select", "GP104"]);
    assert!(outcome.err.contains("it would bring GP102"), "{}", outcome.whole());
    assert_eq!(sandbox.read("run.sh"), script);
}

#[test]
fn a_project_can_change_its_style() {
    let policy = |style: &str| {
        format!(
            "{POLICY}[env]\nPYTORCH_CUDA_ALLOC_CONF = \"max_split_size_mb:1024\"\n[lint]\nstyle = \"{style}\"\n"
        )
    };
    let sandbox = project().file("gpupin.toml", policy("header")).file("main.py", PROGRAM);
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    // Only a script that pins makes the block superfluous, and only where the package is one of the project's an import runs.
    let sandbox = sandbox.file("gpupin.toml", policy("external"));
    let outcome = sandbox.gpupin(&["fix"]);
    assert!(
        outcome.err.contains("unsafe: nothing seen here starts it through `gpupin run`"),
        "{}",
        outcome.whole()
    );
    let sandbox = sandbox.file("run.sh", "gpupin run -- python main.py\n");
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    assert_eq!(sandbox.read("main.py"), PROGRAM.replace("cuda:1", "cuda:0"));
    let sandbox = sandbox.file("run.sh", "python main.py\n").file("gpupin.toml", policy("import"));
    let outcome = sandbox.gpupin(&["fix"]);
    assert!(
        outcome.err.contains("unsafe: the package `gpupin` must be installed where it runs"),
        "{}",
        outcome.whole()
    );
    let sandbox =
        sandbox.file("pyproject.toml", "[project]\nname = \"a\"\ndependencies = [\"gpupin\"]\n");
    assert_eq!(sandbox.gpupin(&["fix"]).code, 0);
    assert!(sandbox.read("main.py").starts_with("import gpupin.auto"));
}
