use expect_test::expect;

use crate::sandbox::Sandbox;

#[test]
fn a_rule_is_found_by_code_and_by_name() {
    let sandbox = Sandbox::new();
    let by_code = sandbox.gpupin(&["rule", "gp103"]);
    assert_eq!(by_code.out, sandbox.gpupin(&["rule", "missing-device-order"]).out);
    let head: Vec<_> = by_code.out.lines().take(5).collect();
    expect![[r#"
        # GP103 missing-device-order

        *error, selected by default*

        A GPU is chosen by index while `CUDA_DEVICE_ORDER` is not set."#]]
    .assert_eq(&head.join("\n"));
}

#[test]
fn an_unknown_rule_is_an_error_with_the_nearest() {
    let outcome = Sandbox::new().gpupin(&["rule", "missing-gpu-order"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: no rule is called `missing-gpu-order`

        hint: did you mean `missing-device-order`?
    "#]]
    .assert_eq(&outcome.whole());
}

#[test]
fn json_holds_the_page() {
    let json = Sandbox::new().gpupin(&["rule", "GP103", "--output-format", "json"]).json();
    assert_eq!(json["name"], "missing-device-order");
    assert!(json["docs"].as_str().unwrap().starts_with("# missing-device-order"));
}
