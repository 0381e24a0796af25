//! The language server over the wire. A client library of others does the same in `xtask/lsp/test_lsp.py`.

use std::fs;

use serde_json::{Value, json};

use crate::{
    editor::{Editor, everything},
    sandbox::Sandbox,
};

const POLICY: &str = "[gpu]\nname = \"RTX 3090\"\n";

const MAIN: &str = "\
import os
os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"
os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"
import torch
from app.config import NUMBER
torch.cuda.set_device(NUMBER)
x = \"😀\"; y = torch.zeros(1, device=\"cuda:1\")
if __name__ == \"__main__\":
    print(y)
";

const COMPOSE: &str = "\
services:
  tts:
    image: tts
    environment:
      - CUDA_VISIBLE_DEVICES=1
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: [\"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"]
              capabilities: [gpu]
";

fn project() -> Sandbox {
    Sandbox::new()
        .file("gpupin.toml", POLICY)
        .file("gpupin.lock", include_str!("../../../../examples/assistant/gpupin.lock"))
        .file("app/__init__.py", "")
        .file("app/config.py", "NUMBER = 1\n")
        .file("app/main.py", MAIN)
}

fn open(sandbox: &Sandbox) -> Editor {
    Editor::open(sandbox, &Value::Null)
}

/// All edits of an action, each as `file line:character-line:character text`.
fn edits(editor: &Editor, action: &Value) -> Vec<String> {
    let mut edits = Vec::new();
    for document in action["edit"]["documentChanges"].as_array().unwrap() {
        let uri = document["textDocument"]["uri"].as_str().unwrap();
        let name = uri.strip_prefix(&format!("{}/", editor.uri(""))).unwrap();
        for edit in document["edits"].as_array().unwrap() {
            let (start, end) = (&edit["range"]["start"], &edit["range"]["end"]);
            edits.push(format!(
                "{name} {}:{}-{}:{} {}",
                start["line"],
                start["character"],
                end["line"],
                end["character"],
                edit["newText"].as_str().unwrap()
            ));
        }
    }
    edits
}

fn titles(actions: &[Value]) -> Vec<&str> {
    actions.iter().map(|it| it["title"].as_str().unwrap()).collect()
}

#[test]
fn findings_are_shown_in_files_that_are_not_open() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    let expected = ["app/main.py:5:22 GP201", "app/main.py:6:36 GP201"];
    assert_eq!(editor.diagnostics(), expected);
    let shown = editor.published("app/main.py");
    let first = &shown[0];
    assert_eq!((&first["severity"], &first["source"]), (&json!(1), &json!("gpupin")));
    assert_eq!(first["range"]["end"], json!({"line": 5, "character": 28}));
    assert!(first["message"].as_str().unwrap().starts_with("ordinal 1 of `torch.cuda.set_device`"));
    let related = &first["relatedInformation"][0];
    assert_eq!(related["location"]["uri"], json!(editor.uri("app/config.py")));
    assert_eq!(related["message"], "the number comes from here");
    assert_eq!(editor.end(true), (1, String::new()));
}

#[test]
fn a_change_in_one_file_changes_findings_in_another() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    editor.open_file("app/config.py", "NUMBER = 1\n");
    assert_eq!(editor.diagnostics().len(), 2);
    editor.change("app/config.py", Some([0, 9, 0, 10]), "0");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"]);
    let told = editor.publications;
    editor.change("app/config.py", Some([0, 0, 0, 0]), "# nothing to see\n");
    editor.diagnostics();
    assert_eq!(editor.publications - told, 1, "only the open file is told of again");

    // What was not saved is forgotten with the document.
    let document = json!({"textDocument": editor.document("app/config.py")});
    editor.notify("textDocument/didClose", &document);
    assert_eq!(editor.diagnostics().len(), 2);
}

#[test]
fn places_are_counted_as_the_editor_offers() {
    let sandbox = project();
    let mut editor = Editor::start(&sandbox);
    let mut capabilities = everything();
    capabilities["general"] = json!({"positionEncodings": ["utf-16", "utf-8"]});
    let result = editor.initialize(&json!({
        "processId": null, "rootUri": editor.uri(""), "capabilities": capabilities,
    }));
    assert_eq!(result["capabilities"]["positionEncoding"], "utf-8");
    assert_eq!(result["serverInfo"]["name"], "gpupin");
    let expected = ["app/main.py:5:22 GP201", "app/main.py:6:38 GP201"];
    assert_eq!(editor.diagnostics(), expected);
    editor.open_file("app/main.py", MAIN);
    editor.change("app/main.py", Some([6, 38, 6, 46]), "\"cuda:0\"");
    assert_eq!(editor.diagnostics(), ["app/main.py:5:22 GP201"]);
}

#[test]
fn a_mark_at_the_start_of_a_document_is_a_character() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    editor.open_file("run.sh", "\u{feff}export CUDA_VISIBLE_DEVICES=1\n");
    assert_eq!(editor.diagnostics()[2], "run.sh:0:8 GP103");
}

#[test]
fn the_page_of_a_rule_is_where_the_finding_is() {
    let sandbox = project().file("run.sh", "export CUDA_VISIBLE_DEVICES=1\n");
    let mut editor = open(&sandbox);
    let hover = editor.hover("run.sh", 0, 10);
    assert_eq!(hover["contents"]["kind"], "markdown");
    let text = hover["contents"]["value"].as_str().unwrap();
    let (help, page) = text.split_once("\n\n").unwrap();
    assert_eq!(help, "on `workstation` it may be the RTX 5060 Ti or the RTX 3090");
    assert!(page.starts_with("# GP103 missing-device-order\n\n*error, selected by default*\n"));
    assert_eq!(hover["range"]["start"], json!({"line": 0, "character": 7}));
    assert_eq!(editor.hover("run.sh", 0, 2), Value::Null);
    assert_eq!(editor.hover("app/config.py", 0, 0), Value::Null);
}

#[test]
fn fixes_and_suppressions_are_offered() {
    let sandbox = project().file("compose.yaml", COMPOSE);
    let mut editor = open(&sandbox);
    editor.open_file("app/main.py", MAIN);
    let actions = editor.actions("app/main.py", 5, &[]);
    let unsafe_fix =
        "Use ordinal 0, the pinned GPU (unsafe: the number may be used for something else too)";
    assert_eq!(titles(&actions)[0], unsafe_fix);
    assert_eq!(actions[0]["isPreferred"], Value::Null);

    let actions = editor.actions("app/main.py", 6, &[]);
    assert_eq!(
        titles(&actions),
        [
            "Use ordinal 0, the pinned GPU",
            "Suppress GP201 on this line",
            "Apply all safe fixes of gpupin in this file",
        ]
    );
    assert_eq!(actions[0]["kind"], "quickfix");
    assert_eq!(actions[0]["isPreferred"], json!(true));
    assert_eq!(actions[0]["diagnostics"][0]["code"], "GP201");
    assert_eq!(edits(&editor, &actions[0]), ["app/main.py 6:42-6:43 0"]);
    let version = &actions[0]["edit"]["documentChanges"][0]["textDocument"]["version"];
    assert_eq!(*version, json!(1));
    assert_eq!(edits(&editor, &actions[1]), ["app/main.py 6:45-6:45   # gpupin: ignore[GP201]"]);

    let actions = editor.actions("compose.yaml", 4, &[]);
    assert_eq!(
        titles(&actions),
        [
            "Use 0, the container's only GPU",
            "Suppress GP502 on this line",
            "Apply all safe fixes of gpupin in this file",
        ]
    );
    assert_eq!(actions[0]["isPreferred"], json!(true));
    assert_eq!(edits(&editor, &actions[0]), ["compose.yaml 4:29-4:30 0"]);
    let version = &actions[0]["edit"]["documentChanges"][0]["textDocument"]["version"];
    assert_eq!(*version, Value::Null, "it is not open");
}

#[test]
fn a_fix_that_makes_a_file_is_offered_to_who_can_make_one() {
    const TEST: &str = "import torch\ndef test_it():\n    torch.zeros(1).cuda()\n";
    let sandbox = project().file("tests/test_a.py", TEST).file("tests/test_b.py", TEST);
    let mut editor = open(&sandbox);
    let actions = editor.actions("tests/test_a.py", 0, &[]);
    assert_eq!(titles(&actions)[0], "Pin them in a new `tests/conftest.py`");
    let changes = actions[0]["edit"]["documentChanges"].as_array().unwrap();
    let uri = editor.uri("tests/conftest.py");
    assert_eq!((&changes[0]["kind"], &changes[0]["uri"]), (&json!("create"), &json!(uri)));
    assert_eq!(changes[1]["textDocument"]["uri"], json!(uri));
    let text = changes[1]["edits"][0]["newText"].as_str().unwrap();
    assert!(text.starts_with("# gpupin: begin of the pin"), "{text}");

    let mut editor = Editor::start(&sandbox);
    let mut capabilities = everything();
    capabilities["workspace"] = json!({"workspaceEdit": {"documentChanges": true}});
    editor.initialize(&json!({
        "processId": null, "rootUri": editor.uri(""), "capabilities": capabilities,
    }));
    let actions = editor.actions("tests/test_a.py", 0, &[]);
    assert_eq!(titles(&actions), ["Suppress GP101 on this line"]);
}

#[test]
fn only_the_kinds_asked_for_are_offered() {
    let sandbox = project().file("compose.yaml", COMPOSE);
    let mut editor = open(&sandbox);
    let all = ["Apply all safe fixes of gpupin in this file"];
    for only in ["source", "source.fixAll", "source.fixAll.gpupin"] {
        let actions = editor.actions("compose.yaml", 0, &[only]);
        assert_eq!(titles(&actions), all, "{only}");
        assert_eq!(actions[0]["kind"], "source.fixAll.gpupin");
        assert_eq!(edits(&editor, &actions[0]), ["compose.yaml 4:29-4:30 0"]);
    }
    for only in ["source.fix", "source.fixAll.gpupin.x", "refactor", "source.organizeImports"] {
        assert!(editor.actions("compose.yaml", 4, &[only]).is_empty(), "{only}");
    }
    assert_eq!(editor.actions("compose.yaml", 4, &["quickfix"]).len(), 2);
    // Which programs import it, nobody can see.
    let _sandbox = sandbox.file("lib.py", "import torch\nX = torch.zeros(1, device=\"cuda:1\")\n");
    editor.watched(1, "lib.py");
    assert_eq!(editor.actions("lib.py", 1, &["quickfix"]).len(), 2);
    assert!(editor.actions("lib.py", 1, &["source.fixAll"]).is_empty(), "none is safe");
}

/// A text of plain characters with the edits of an action made that are in its file.
fn edited(editor: &Editor, action: &Value, name: &str, text: &str) -> String {
    let documents = action["edit"]["documentChanges"].as_array().unwrap();
    let uri = editor.uri(name);
    let document = documents.iter().find(|it| it["textDocument"]["uri"] == uri).unwrap();
    let mut edits: Vec<_> = document["edits"].as_array().unwrap().iter().collect();
    edits.sort_by_key(|it| std::cmp::Reverse(it["range"]["start"]["line"].as_u64()));
    let offset = |place: &Value| {
        let line = usize::try_from(place["line"].as_u64().unwrap()).unwrap();
        let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        before + usize::try_from(place["character"].as_u64().unwrap()).unwrap()
    };
    let mut new = text.to_owned();
    for edit in edits {
        let range = offset(&edit["range"]["start"])..offset(&edit["range"]["end"]);
        new.replace_range(range, edit["newText"].as_str().unwrap());
    }
    new
}

#[test]
fn all_fixes_are_those_of_gpupin_fix_in_as_many_rounds() {
    // Only once the program is pinned is ordinal 0 certain.
    let program = "import os\nimport torch\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\nx = torch.zeros(1).to(\"cuda:1\")\nif __name__ == \"__main__\":\n    print(x)\n";
    let other = "import torch\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";
    let sandbox = project().file("speak.py", program).file("other.py", other);
    let mut editor = open(&sandbox);
    let before = editor.diagnostics();
    let all = editor.actions("speak.py", 0, &["source.fixAll"]);
    assert_eq!(editor.diagnostics(), before, "nothing was changed to find out");
    assert_eq!(titles(&all), ["Apply all safe fixes of gpupin in this file"]);
    assert_eq!(editor.actions("speak.py", 0, &["source.fixAll"]), all);
    let new = edited(&editor, &all[0], "speak.py", program);
    // Of a text that was not saved.
    let unsaved = format!("# mine\n{program}");
    editor.open_file("speak.py", &unsaved);
    let of_unsaved = editor.actions("speak.py", 0, &["source.fixAll"]);
    assert_eq!(edited(&editor, &of_unsaved[0], "speak.py", &unsaved), format!("# mine\n\n{new}"));
    assert_eq!(sandbox.gpupin(&["fix", "speak.py"]).code, 0);
    assert_eq!(sandbox.read("speak.py"), new);
    assert_eq!(sandbox.read("other.py"), other);
}

#[test]
fn all_fixes_make_a_file_where_that_can_be_done() {
    let test = "import torch\ndef test_it():\n    torch.zeros(1).cuda()\n";
    let sandbox = project().file("tests/test_a.py", test).file("tests/test_b.py", test);
    let mut editor = open(&sandbox);
    let all = editor.actions("tests/test_a.py", 0, &["source.fixAll"]);
    let changes = all[0]["edit"]["documentChanges"].as_array().unwrap();
    assert_eq!(changes[0]["kind"], "create");
    assert_eq!(changes[0]["uri"], editor.uri("tests/conftest.py"));
    assert!(
        !editor.actions("tests/test_a.py", 0, &["source.fixAll"]).is_empty(),
        "it is not there yet"
    );
}

#[test]
fn a_suppression_makes_its_finding_vanish() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    let suppressed = MAIN.replace("(NUMBER)", "(NUMBER)  # gpupin: ignore[GP205]");
    editor.open_file("app/main.py", &suppressed);
    let expected = ["app/main.py:5:22 GP201", "app/main.py:5:48 GP001", "app/main.py:6:36 GP201"];
    assert_eq!(editor.diagnostics(), expected);
    let published = editor.published("app/main.py");
    let unused = published.as_array().unwrap().iter().find(|it| it["code"] == "GP001").unwrap();
    assert_eq!(unused["tags"], json!([1]), "unnecessary");
    let actions = editor.actions("app/main.py", 5, &["quickfix"]);
    let about_comment = "Remove the comment";
    assert_eq!(titles(&actions)[1..], [about_comment, "Suppress GP201 on this line"]);
    assert_eq!(edits(&editor, &actions[2]), ["app/main.py 5:53-5:53 , GP201"]);
    editor.change("app/main.py", Some([5, 48, 5, 53]), "GP201");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"]);
}

#[test]
fn an_editor_that_can_little_is_given_little() {
    let sandbox = project().file("a.py", "x = 1  # gpupin: ignore[GP201]\n");
    let mut editor = Editor::start(&sandbox);
    editor.initialize(&json!({
        "processId": null, "rootUri": editor.uri(""), "capabilities": {},
    }));
    editor.diagnostics();
    assert!(editor.asked.is_empty());
    assert_eq!(editor.published("app/main.py")[0]["relatedInformation"], Value::Null);
    assert_eq!(editor.published("a.py")[0]["tags"], Value::Null);
    assert_eq!(editor.hover("app/main.py", 5, 24)["contents"]["kind"], "plaintext");
    assert!(editor.actions("app/main.py", 6, &[]).is_empty());
    let mut editor = Editor::start(&sandbox);
    let mut capabilities = everything();
    capabilities["workspace"] = json!({});
    editor.initialize(&json!({
        "processId": null, "rootUri": editor.uri(""), "capabilities": capabilities,
    }));
    let actions = editor.actions("app/main.py", 6, &[]);
    let changes = &actions[0]["edit"]["changes"][editor.uri("app/main.py")];
    assert_eq!(changes[0]["newText"], "0");
}

#[test]
fn files_that_change_on_disk_are_read_again() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    assert_eq!(editor.diagnostics().len(), 2);
    let asked = &editor.asked[0];
    assert_eq!(asked.method, "client/registerCapability");
    let registration = &asked.params["registrations"][0];
    assert_eq!(registration["method"], "workspace/didChangeWatchedFiles");
    assert_eq!(registration["registerOptions"]["watchers"][0]["globPattern"], "**/*");

    fs::write(sandbox.path().join("app/config.py"), "NUMBER = 0\n").unwrap();
    editor.watched(2, "app/config.py");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"]);

    let sandbox = sandbox.file("run.sh", "export CUDA_VISIBLE_DEVICES=1\n");
    editor.watched(1, "run.sh");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201", "run.sh:0:7 GP103"]);

    fs::remove_file(sandbox.path().join("app/main.py")).unwrap();
    editor.watched(3, "app/main.py");
    assert_eq!(editor.diagnostics(), ["run.sh:0:7 GP103"]);

    fs::write(sandbox.path().join(".gitignore"), "run.sh\n").unwrap();
    fs::create_dir(sandbox.path().join(".git")).unwrap();
    editor.watched(1, ".gitignore");
    assert!(editor.diagnostics().is_empty());
}

#[test]
fn a_file_is_found_when_it_is_opened_whether_it_is_on_disk_or_not() {
    const RUN: &str = "export CUDA_VISIBLE_DEVICES=1\n";
    let sandbox = project();
    let mut editor = open(&sandbox);
    editor.open_file("a.sh", RUN);
    assert_eq!(editor.diagnostics()[0], "a.sh:0:7 GP103");
    editor.open_file("new.sh", RUN);
    assert_eq!(editor.diagnostics()[3], "new.sh:0:7 GP103");
    let closed = json!({"textDocument": editor.document("new.sh")});
    editor.notify("textDocument/didClose", &closed);
    assert_eq!(editor.diagnostics().len(), 3);
    let sandbox = sandbox.file("a.sh", RUN);
    let saved = json!({"textDocument": editor.document("a.sh")});
    editor.notify("textDocument/didSave", &saved);
    assert_eq!(editor.diagnostics()[0], "a.sh:0:7 GP103");
    let _sandbox = sandbox.file("b.sh", RUN);
    editor.open_file("b.sh", RUN);
    assert_eq!(editor.diagnostics()[3], "b.sh:0:7 GP103");
}

#[test]
fn an_open_document_counts_whatever_is_on_disk() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    editor.open_file("app/config.py", "NUMBER = 0\n");
    editor.watched(2, "app/config.py");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"]);
    editor.watched(2, "gpupin.toml");
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"], "also after a new start");
}

#[test]
fn an_invalid_policy_is_told_and_mended() {
    let sandbox = project();
    let mut editor = open(&sandbox);
    editor.diagnostics();
    let sandbox = sandbox.file("gpupin.toml", "[gpu]\nnaem = \"RTX 3090\"\n");
    let told = sandbox.gpupin(&["scan"]).err;
    editor.watched(2, "gpupin.toml");
    let problem = "unknown key `gpu.naem`, did you mean `name`?";
    assert_eq!(editor.diagnostics(), [format!("gpupin.toml:1:0 {problem}")]);
    let end = json!({"line": 1, "character": 4});
    assert_eq!(editor.published("gpupin.toml")[0]["range"]["end"], end);
    assert_eq!(editor.shown, [told.trim_start_matches("error: ").trim_end()]);

    editor.open_file("app/config.py", "NUMBER = 0\n");
    editor.diagnostics();
    assert_eq!(editor.shown.len(), 1, "the same is told once");

    let _sandbox = sandbox.file("gpupin.toml", POLICY);
    let saved = json!({"textDocument": editor.document("gpupin.toml")});
    editor.notify("textDocument/didSave", &saved);
    assert_eq!(editor.diagnostics(), ["app/main.py:6:36 GP201"]);
}

#[test]
fn settings_are_the_flags_of_a_scan() {
    let policy = format!("{POLICY}[profiles.ci]\nlint.select = [\"GP204\"]\n");
    let sandbox = project().file("gpupin.toml", policy);
    let check = |options: Value, codes: &[&str], shown: &[&str]| {
        let mut editor = Editor::open(&sandbox, &options);
        let told = editor.diagnostics();
        let mut found: Vec<_> = told.iter().map(|it| it.rsplit(' ').next().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, codes, "{options}");
        assert_eq!(editor.shown, shown, "{options}");
    };
    check(json!({"ignore": ["GP201"]}), &[], &[]);
    check(json!({"select": ["GP301"]}), &["GP301"], &[]);
    check(json!({"extendSelect": ["missing-verification"]}), &["GP201", "GP201", "GP301"], &[]);
    check(json!({"profile": "ci", "extendSelect": ["GP301"]}), &["GP301"], &[]);
    check(
        json!({"profile": "cj"}),
        &[],
        &["no profile `cj`, did you mean `ci`?\nhint: `gpupin.toml` has the profiles `ci`"],
    );
    check(
        json!({"select": ["GP9"]}),
        &[],
        &["no rule is called `GP9`; did you mean `GP109`?\nhint: `gpupin rules` lists all rules"],
    );
    check(
        json!({"selct": []}),
        &["GP201", "GP201"],
        &[
            "invalid initialization options: unknown field `selct`, expected one of `select`, `extendSelect`, `ignore`, `profile`\nhint: the settings are `select`, `extendSelect`, `ignore` (lists of rules) and `profile`",
        ],
    );
}

#[test]
fn folders_are_projects_of_their_own() {
    const RUN: &str = "export CUDA_VISIBLE_DEVICES=1\n";
    let sandbox = Sandbox::new().file("a/run.sh", RUN).file("b/run.sh", RUN);
    let sandbox =
        sandbox.file("b/gpupin.toml", "lint.ignore = [\"GP103\"]\n").file("c/run.sh", RUN);
    let mut editor = Editor::start(&sandbox);
    let folder = |editor: &Editor, name| json!({"uri": editor.uri(name), "name": name});
    let folders = json!([folder(&editor, "a"), folder(&editor, "b")]);
    editor.initialize(&json!({
        "processId": null, "rootUri": null, "workspaceFolders": folders, "capabilities": everything(),
    }));
    assert_eq!(editor.diagnostics(), ["a/run.sh:0:7 GP103"]);

    let event = json!({"added": [folder(&editor, "")], "removed": [folder(&editor, "a")]});
    editor.notify("workspace/didChangeWorkspaceFolders", &json!({"event": event}));
    let expected = ["a/run.sh:0:7 GP103", "c/run.sh:0:7 GP103"];
    assert_eq!(editor.diagnostics(), expected, "the innermost folder counts for `b`");
}

#[test]
fn a_file_outside_of_all_folders_has_the_project_around_it() {
    const RUN: &str = "export CUDA_VISIBLE_DEVICES=1\n";
    let sandbox = Sandbox::new().file("a/gpupin.toml", POLICY).file("a/bin/run.sh", RUN);
    let sandbox = sandbox.file("a/other.sh", RUN).file("b/run.sh", RUN).file("b/other.sh", RUN);
    let mut editor = Editor::start(&sandbox);
    editor.initialize(&json!({"processId": null, "rootUri": null, "capabilities": everything()}));
    assert!(editor.diagnostics().is_empty());
    editor.open_file("b/run.sh", RUN);
    assert_eq!(editor.diagnostics(), ["b/run.sh:0:7 GP103"], "without a policy, the file alone");
    editor.open_file("a/bin/run.sh", RUN);
    editor.open_file("a/other.sh", "");
    assert_eq!(editor.diagnostics(), ["a/bin/run.sh:0:7 GP103", "b/run.sh:0:7 GP103"]);
    for name in ["a/bin/run.sh", "a/other.sh", "b/run.sh"] {
        let document = json!({"textDocument": editor.document(name)});
        editor.notify("textDocument/didClose", &document);
    }
    assert!(editor.diagnostics().is_empty(), "nobody asks for it any more");
}

#[test]
fn a_conversation_follows_the_specification() {
    let sandbox = project();
    let mut editor = Editor::start(&sandbox);
    let code = |editor: &mut Editor, method: &str, params: Value| {
        editor.request(method, &params).map_err(|it| it.code)
    };
    assert_eq!(code(&mut editor, "textDocument/hover", json!({})), Err(-32002));
    assert_eq!(code(&mut editor, "initialize", json!({"capabilities": 1})), Err(-32602));
    editor.initialize(&json!({"processId": null, "rootUri": null, "capabilities": {}}));
    assert_eq!(code(&mut editor, "initialize", json!({"capabilities": {}})), Err(-32600));
    assert_eq!(code(&mut editor, "textDocument/definition", json!({})), Err(-32601));
    assert_eq!(code(&mut editor, "textDocument/hover", json!({"position": 1})), Err(-32602));
    editor.notify("textDocument/didOpen", &json!({"textDocument": 1}));
    editor.notify("$/setTrace", &json!({"value": "off"}));
    editor.send_raw("{\"this is\": no message");
    assert_eq!(code(&mut editor, "shutdown", Value::Null), Ok(Value::Null));
    assert_eq!(code(&mut editor, "textDocument/hover", json!({})), Err(-32600));
    let (exit, said) = editor.end(true);
    assert_eq!(exit, 0);
    assert!(said.contains("error: `textDocument/didOpen`: invalid parameters"), "{said}");
    assert!(said.contains("error: failed to read a message"), "{said}");
}

#[test]
fn without_shutdown_the_exit_code_is_one() {
    for say_exit in [true, false] {
        let editor = Editor::start(&Sandbox::new());
        assert_eq!(editor.end(say_exit), (1, String::new()));
    }
}
