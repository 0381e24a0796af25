use crate::language::tests::check;

#[test]
fn settings_that_say_gpu_are_choices() {
    check(
        "config.json",
        r#"{
  // which one
  "stt": {"gpu_index": 1, "device_index": 3, "device": "cuda:1"},
  "devices": ["cuda:0"], "llm": [{"main_gpu": "2"}],
  "env": {"CUDA_VISIBLE_DEVICES": "1"}, // gpupin: ignore[GP103] as told
}"#,
        r#"
        choose gpu_index 1 Ordinal Setting
        choose device 1 Ordinal Setting
        choose devices 0 Ordinal Setting
        choose main_gpu 2 Ordinal Setting
        set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Loader
        ignore GP103 in ‹  "env": {"CUDA_VISIBLE_DEVICES": "1"}, // gpupin: ignore[GP103] as told›
        "#,
    );
}

#[test]
fn debug_configurations_are_programs() {
    check(
        ".vscode/launch.json",
        r#"{"configurations": [{"name": "run", "type": "debugpy", "program": "${workspaceFolder}/src/x.py",
  "args": ["--device", "cuda:1"], "env": {"CUDA_VISIBLE_DEVICES": "1"}, "envFile": "${workspaceFolder}/.env"},
  {"name": "m", "type": "python", "module": "app"}]}"#,
        r#"
        scope
          load .env (run)
          set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Container (run)
          start PythonFile("src/x.py") (run)
          choose --device 1 Ordinal Choose (run)
        scope
          start PythonModule("app") (m)
        "#,
    );
}

#[test]
fn package_scripts_and_development_containers_are_read() {
    check(
        "package.json",
        r#"{"scripts": {"start": "CUDA_VISIBLE_DEVICES=1 python x.py", "lint": "eslint"}}"#,
        r#"
        scope
          start PythonFile("x.py") with CUDA_VISIBLE_DEVICES="1"
        scope
          start Other("eslint")
        "#,
    );
    check(
        ".devcontainer/devcontainer.json",
        r#"{"runArgs": ["--gpus", "all", "-e", "A=1"], "containerEnv": {"CUDA_VISIBLE_DEVICES": "0"}}"#,
        r#"
        scope
          gpus All (devcontainer)
          set A = "1" Assign Container (devcontainer)
          start Unknown only A="1" (devcontainer)
        set CUDA_VISIBLE_DEVICES = "0"‹"0"› Assign Container (devcontainer)
        "#,
    );
}

#[test]
fn broken_json_is_told() {
    check("a.json", "{\"gpu_id\": 1", "syntax: Unterminated object\nunread: Everything");
}
