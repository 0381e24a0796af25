use crate::sandbox::Sandbox;

#[test]
fn every_rule_is_a_line() {
    let outcome = Sandbox::new().gpupin(&["rules"]);
    assert_eq!(outcome.code, 0);
    assert_eq!(outcome.out.lines().count(), gpupin_lint::RULES.len());
    let line = outcome.out.lines().find(|it| it.starts_with("GP103")).unwrap();
    let words: Vec<_> = line.split_whitespace().take(3).collect();
    assert_eq!(words, ["GP103", "missing-device-order", "error"]);
}

#[test]
fn json_says_which_rules_are_on_by_default() {
    let json = Sandbox::new().gpupin(&["rules", "--output-format", "json"]).json();
    assert_eq!(json["version"], 1);
    let default = |code: &str| {
        let rules = json["rules"].as_array().unwrap();
        rules.iter().find(|it| it["code"] == code).unwrap()["default"].clone()
    };
    assert_eq!(default("GP103"), true);
    assert_eq!(default("GP204"), false);
}
