//! Every format of a report: against its schema, and against the golden file in `wire/`.

use std::collections::BTreeSet;

use expect_test::{expect, expect_file};
use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox};

/// Every shape a report can have: errors and warnings, other files, fixes of both kinds, a notebook,
/// a suppressed finding, a file that cannot be read, and a name that needs escaping everywhere.
fn project() -> Sandbox {
    let notebook = r#"{
 "cells": [
  {"cell_type": "markdown", "metadata": {}, "source": ["text"]},
  {"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
   "source": ["name = \"é\"\n", "import torch\n", "torch.zeros(1).to(\"cuda:1\")"]}
 ],
 "metadata": {}, "nbformat": 4, "nbformat_minor": 5
}
"#;
    Sandbox::new()
        .file("gpupin.toml", "gpu.name = \"RTX 3090\"\nlint.select = [\"GP103\", \"GP105\", \"GP201\"]\n")
        .file("app/late.py", "import os\nimport torch\n\nx = torch.zeros(1).cuda()\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n")
        .file("main.py", "import app.late\n\nif __name__ == \"__main__\":\n    print(app.late.x)\n")
        .file("a & b,%.py", "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\nimport torch\ntorch.zeros(1).cuda()\n")
        .file("notes.ipynb", notebook)
        .file("quiet.py", "import torch\ntorch.zeros(1).to(\"cuda:1\")  # gpupin: ignore[GP201] measured by hand\n")
}

fn scan(sandbox: &Sandbox, format: &str) -> Outcome {
    sandbox.gpupin(&["scan", "--output-format", format])
}

#[track_caller]
pub(crate) fn validate(schema: &str, instance: &Value) {
    let schema = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(instance).map(|it| format!("{}: {it}", it.instance_path())).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn json_follows_its_schema() {
    let outcome = scan(&project(), "json");
    let json = outcome.json();
    validate(include_str!("../../src/reference/scan.schema.json"), &json);
    let findings = json["findings"].as_array().unwrap();
    let has = |holds: &dyn Fn(&Value) -> bool| findings.iter().any(holds);
    assert!(has(&|it| !it["fix"].is_null()), "a fix is among them");
    assert!(has(&|it| it["cell"]["number"] == 1), "a notebook is among them");
    assert!(has(&|it| it["programs"] == json!(["main.py"])), "a program is among them");
    assert!(outcome.out.starts_with("{\n  \"version\": 1,"), "the version comes first");
    expect_file!["../../../../wire/scan.json"].assert_eq(&outcome.out);
}

#[test]
fn jsonl_has_the_same_findings() {
    let outcome = scan(&project(), "jsonl");
    let lines: Vec<Value> =
        outcome.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let (summary, findings) = lines.split_last().unwrap();
    let findings: Vec<_> = findings
        .iter()
        .map(|it| {
            let mut finding = it.clone();
            assert_eq!(finding.as_object_mut().unwrap().remove("version"), Some(json!(1)));
            finding
        })
        .collect();
    let whole = json!({ "version": 1, "findings": findings, "summary": summary["summary"] });
    assert_eq!(whole, scan(&project(), "json").json());
    expect_file!["../../../../wire/scan.jsonl"].assert_eq(&outcome.out);
}

#[test]
fn sarif_follows_its_schema() {
    let mut sarif = scan(&project(), "sarif").json();
    validate(include_str!("../schemas/sarif-2.1.0.schema.json"), &sarif);
    let run = &sarif["runs"][0];
    let results = run["results"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
    }
    let suppressed: Vec<_> = results.iter().filter(|it| !it["suppressions"].is_null()).collect();
    assert_eq!(suppressed.len(), 1, "what a comment suppresses stays in, marked");
    // The pages of the rules are no matter of the format.
    let driver = &mut sarif["runs"][0]["tool"]["driver"];
    for rule in driver["rules"].as_array_mut().unwrap() {
        rule["help"] = json!({ "text": "…", "markdown": "…" });
        rule["shortDescription"] = json!({ "text": "…" });
    }
    driver["semanticVersion"] = json!("…");
    let text = serde_json::to_string_pretty(&sarif).unwrap() + "\n";
    expect_file!["../../../../wire/scan.sarif"].assert_eq(&text);
}

#[test]
fn sarif_keeps_what_the_baseline_accepts() {
    let sandbox = project();
    sandbox.gpupin(&["scan", "--write-baseline"]);
    let args = ["scan", "--baseline", "gpupin-baseline.json", "--output-format", "sarif"];
    let outcome = sandbox.gpupin(&args);
    assert_eq!(outcome.code, 0);
    let sarif = outcome.json();
    validate(include_str!("../schemas/sarif-2.1.0.schema.json"), &sarif);
    let results = sarif["runs"][0]["results"].as_array().unwrap().clone();
    assert!(results.len() > 1 && results.iter().all(|it| !it["suppressions"].is_null()));
}

#[test]
fn fingerprints_survive_unrelated_edits() {
    let prints = |sandbox: &Sandbox| -> Vec<String> {
        let json = scan(sandbox, "gitlab").json();
        json.as_array().unwrap().iter().map(|it| it["fingerprint"].to_string()).collect()
    };
    let sandbox = project();
    let before = prints(&sandbox);
    let text = sandbox.read("a & b,%.py");
    let sandbox = sandbox.file("a & b,%.py", format!("# a comment\n\n{text}"));
    assert_eq!(prints(&sandbox), before);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), before.len());
}

#[test]
fn gitlab_follows_its_schema() {
    let json = scan(&project(), "gitlab").json();
    validate(include_str!("../schemas/gitlab-code-quality.schema.json"), &json);
    assert!(json.as_array().unwrap().len() > 2);
}

#[test]
fn github_escapes_paths() {
    let outcome = scan(&project(), "github");
    let (command, _) = outcome.out.split_once("::the mask").unwrap();
    expect!["::error title=gpupin GP103 missing-device-order,file=a & b%2C%25.py,line=2,col=1,endColumn=41,endLine=2"].assert_eq(command);
}

/// Checks that elements and attributes are those the XSD declares, nested as it says.
#[cfg(unix)]
#[test]
fn a_name_with_a_line_end_stays_on_its_line() {
    let text = "import torch\ntorch.zeros(1).to(\"cuda:1\")\n";
    let sandbox = Sandbox::new().file("a\nerror: b\u{1b}[31m.py", text);
    let concise = scan(&sandbox, "concise").out;
    assert!(concise.starts_with(r"a\nerror: b\u{1b}[31m.py:2:19: GP201 "), "{concise}");
    assert_eq!(concise.lines().count(), 1, "{concise}");
    let github = scan(&sandbox, "github").out;
    assert!(github.contains("file=a%0Aerror%3A b"), "{github}");
    assert_eq!(github.lines().count(), 1, "{github}");
    let full = scan(&sandbox, "full").out;
    assert!(full.contains(r"--> a\nerror: b\u{1b}[31m.py:2:19"), "{full}");
}

#[test]
fn junit_follows_its_schema() {
    let xsd = include_str!("../schemas/junit-10.xsd");
    let xsd = roxmltree::Document::parse(xsd).unwrap();
    let declared = |name: &str| {
        let root = xsd.root_element();
        root.children()
            .find(|it| it.has_tag_name_local("element") && it.attribute("name") == Some(name))
            .unwrap()
    };
    let text = scan(&project(), "junit").out;
    let document = roxmltree::Document::parse(&text).unwrap();
    for element in document.descendants().filter(roxmltree::Node::is_element) {
        let declaration = declared(element.tag_name().name());
        let inner = |tag, key| -> Vec<_> {
            let nodes = declaration.descendants().filter(|it| it.has_tag_name_local(tag));
            nodes.filter_map(|it| it.attribute(key)).collect()
        };
        let (attributes, children) = (inner("attribute", "name"), inner("element", "ref"));
        for attribute in element.attributes() {
            assert!(attributes.contains(&attribute.name()), "{}", attribute.name());
        }
        for child in element.children().filter(roxmltree::Node::is_element) {
            assert!(children.contains(&child.tag_name().name()), "{}", child.tag_name().name());
        }
        let required =
            declaration.descendants().filter(|it| it.attribute("use") == Some("required"));
        for attribute in required.filter_map(|it| it.attribute("name")) {
            assert!(element.attribute(attribute).is_some(), "{attribute} is required");
        }
    }
    let count = |name| document.descendants().filter(|it| it.has_tag_name_local(name)).count();
    let total = document.root_element().attribute("tests").unwrap();
    assert_eq!(total, count("testcase").to_string());
    assert_eq!(
        document.root_element().attribute("failures").unwrap(),
        count("failure").to_string()
    );
}

#[test]
fn a_clean_junit_report_has_a_test_that_passed() {
    let text = scan(&Sandbox::new(), "junit").out;
    let document = roxmltree::Document::parse(&text).unwrap();
    assert_eq!(document.root_element().attribute("tests"), Some("1"));
    assert_eq!(document.root_element().attribute("failures"), Some("0"));
}

#[test]
fn a_notebook_is_shown_by_cell() {
    let outcome = project().gpupin(&["scan", "notes.ipynb"]);
    expect![[r#"
        error[GP201]: `cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0`
         --> notes.ipynb:cell 1:3:19
          |
        3 | torch.zeros(1).to("cuda:1")
          |                   ^^^^^^^^
          |
          = unsafe fix: Use ordinal 0, the pinned GPU (ordinal 0 can be another GPU: no pin is certain in `notes.ipynb`)

    "#]]
    .assert_eq(&outcome.out);
}

#[test]
fn sources_of_every_kind_are_shown() {
    let long =
        format!("export A={} CUDA_VISIBLE_DEVICES=1 B={}\n", "x".repeat(200), "y".repeat(200));
    let sandbox = Sandbox::new()
        .file("long.sh", long)
        .file("tabs.sh", "if true; then\r\n\texport CUDA_VISIBLE_DEVICES=1\r\nfi\r\n")
        .file("wide.sh", "echo 日本語; export CUDA_VISIBLE_DEVICES=1 # \u{1b}[31m\n");
    let outcome = sandbox.gpupin(&["scan", "--select", "GP103"]);
    expect![[r#"
        error[GP103]: the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
         --> long.sh:1:211
          |
        1 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx CUDA_VISIBLE_DEVICES=1 B=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
          |                                                          ^^^^^^^^^^^^^^^^^^^^^^
          |
          = unsafe fix: Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first (where the two orders differ, it changes which GPU the program uses)

        error[GP103]: the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
         --> tabs.sh:2:9
          |
        2 |     export CUDA_VISIBLE_DEVICES=1
          |            ^^^^^^^^^^^^^^^^^^^^^^
          |
          = unsafe fix: Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first (where the two orders differ, it changes which GPU the program uses)

        error[GP103]: the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
         --> wide.sh:1:18
          |
        1 | echo 日本語; export CUDA_VISIBLE_DEVICES=1 # ␛[31m
          |                     ^^^^^^^^^^^^^^^^^^^^^^
          |
          = unsafe fix: Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first (where the two orders differ, it changes which GPU the program uses)

    "#]].assert_eq(&outcome.out);
}

trait LocalName {
    /// Whether it is an element of this name, whatever its namespace.
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
