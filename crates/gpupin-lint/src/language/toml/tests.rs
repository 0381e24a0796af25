use crate::language::tests::check;

#[test]
fn project_files_declare_scripts_and_tasks() {
    check(
        "pyproject.toml",
        r#"
[project.scripts]
assistant = "assistant.orchestrator:main"
[tool.poetry.scripts]
other = {reference = "a.b", type = "console"}
[tool.poe.tasks]
serve = "python -m app --device cuda:1"
train = {cmd = "python train.py", env = {CUDA_VISIBLE_DEVICES = "1"}}
both = ["serve", "train"]
[tool.hatch.envs.gpu.env-vars]
CUDA_VISIBLE_DEVICES = "0"
[tool.hatch.envs.gpu.scripts]
test = "pytest tests"
[tool.pytest.ini_options]
env = ["CUDA_VISIBLE_DEVICES=", "D:CUDA_DEVICE_ORDER=PCI_BUS_ID"]
"#,
        r#"
        scope
          scope
            start PythonModule("app")
            choose --device 1 Ordinal Choose
        scope
          set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Container
          scope
            start PythonFile("train.py")
        scope
          scope
            start Other("serve")
          scope
            start Other("train")
        scope
          set CUDA_VISIBLE_DEVICES = "0"‹"0"› Assign Container
          scope
            start Pytest(["tests"])
        set CUDA_VISIBLE_DEVICES = ""‹"CUDA_VISIBLE_DEVICES="› Assign Loader
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID" IfUnset Loader
        console assistant = assistant.orchestrator:main
        console other = a.b:
        "#,
    );
}

#[test]
fn settings_are_read_in_the_order_of_the_file() {
    check(
        "config.toml",
        "main_gpu = 1\n[z]\ngpu_ids = [0, 1]\n[a]\ndevice = 'cuda:1' # gpupin: ignore[GP201] r\ntext = \"# gpupin: ignore[GP1]\"\nCUDA_VISIBLE_DEVICES = 0\n",
        r#"
        choose main_gpu 1 Ordinal Setting
        choose gpu_ids 0,1 Ordinal Setting
        choose device 1 Ordinal Setting
        set CUDA_VISIBLE_DEVICES = "0" Assign Loader
        ignore GP201 in ‹device = 'cuda:1' # gpupin: ignore[GP201] r›
        "#,
    );
}

#[test]
fn broken_lines_do_not_hide_the_rest() {
    check(
        "config.toml",
        "gpu_id = 1\nx = = 2\ngpu_index = 3\n",
        r#"
        choose gpu_id 1 Ordinal Setting
        choose gpu_index 3 Ordinal Setting
        syntax: extra `=`, expected nothing
        syntax: unexpected key or value, expected newline, `#`
        unread: Part
        "#,
    );
}
