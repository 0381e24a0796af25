use expect_test::expect;

use crate::sandbox::Sandbox;

const LOCK: &str = include_str!("../../../../wire/gpupin.lock");

#[test]
fn flags_make_a_commented_policy() {
    let sandbox = Sandbox::new();
    let args = ["init", "--name", "RTX 3090", "--min-vram", "20 GiB", "--forbid", "RTX 5060 Ti"];
    let outcome = sandbox.gpupin(&args);
    expect![[r#"
        exit code: 0
        ----- stderr
        wrote `gpupin.toml`; `gpupin scan` finds what does not follow it
    "#]]
    .assert_eq(&outcome.whole());
    expect![[r##"
        # Which GPU this project runs on, by what it is and never by its index.

        [gpu]
        name = "RTX 3090"                  # exact, so never a "… Ti"; globs: "RTX 40*"
        min-vram = "20 GiB"                # GiB are 2^30 bytes, GB are 10^9
        # min-compute-capability = "8.6"
        # uuid = "GPU-8932f937"            # of one machine; a unique beginning will do

        # GPUs this project must never touch, even when the pinned one is busy.
        [[forbid]]
        name = "RTX 5060 Ti"

        # What every process of the project also gets.
        # [env]
        # PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:1024"

        # [lint]
        # select = ["default"]             # "default", "strict", codes or names; see `gpupin rules`
        # exclude = ["third_party/**"]

        # What differs in CI: `gpupin scan --profile ci`.
        # [profiles.ci]
        # lint.select = ["strict"]
    "##]]
    .assert_eq(&sandbox.read("gpupin.toml"));
}

#[test]
fn the_policy_is_one_that_scan_reads() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.gpupin(&["init", "--min-compute-capability", "8.6"]).code, 0);
    assert_eq!(sandbox.gpupin(&["scan"]).code, 0);
}

#[test]
fn a_policy_that_is_there_stays() {
    let sandbox = Sandbox::new().file("gpupin.toml", "# mine\n");
    let outcome = sandbox.gpupin(&["init", "--name", "RTX 3090"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `gpupin.toml` is there already

        hint: `--force` writes anyway
    "#]]
    .assert_eq(&outcome.whole());
    assert_eq!(sandbox.read("gpupin.toml"), "# mine\n");
    assert_eq!(sandbox.gpupin(&["init", "--name", "RTX 3090", "--force"]).code, 0);
    assert!(sandbox.read("gpupin.toml").contains("RTX 3090"));
}

#[test]
fn a_policy_in_pyproject_counts_as_one_that_is_there() {
    let sandbox = Sandbox::new().file("pyproject.toml", "[tool.gpupin.gpu]\nname = \"A\"\n");
    let outcome = sandbox.gpupin(&["init", "--name", "RTX 3090"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("[tool.gpupin]"), "{}", outcome.err);
}

#[test]
fn without_flags_and_terminal_the_recorded_gpus_are_suggested() {
    let outcome = Sandbox::new().file("gpupin.lock", LOCK).gpupin(&["init"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: nothing says which GPU the project must run on

        hint: say it by what it is: `--name`, `--min-vram`, `--min-compute-capability` or `--uuid`
        hint: `gpupin.lock` records `--name "RTX 5060 Ti"` and `--name "RTX 3090"`
    "#]]
    .assert_eq(&outcome.whole());
}

#[test]
fn a_wrong_value_writes_nothing() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.gpupin(&["init", "--min-vram", "20gb"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `gpu.min-vram` cannot be `20gb`: unknown unit `gb`, did you mean `GB`?

        hint: nothing was written
    "#]]
    .assert_eq(&outcome.whole());
    assert!(!sandbox.path().join("gpupin.toml").exists());
}

#[test]
fn a_selector_no_recorded_gpu_matches_is_told() {
    let outcome =
        Sandbox::new().file("gpupin.lock", LOCK).gpupin(&["init", "--min-vram", "80 GiB"]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.err.contains("no GPU of `"), "{}", outcome.err);
}
