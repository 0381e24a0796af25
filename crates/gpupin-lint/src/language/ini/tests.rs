use crate::language::tests::check;

#[test]
fn settings_that_say_gpu_are_choices() {
    check(
        "config/audio.ini",
        "; cuda:3\n[microphone]\ndevice_index = 1\n[denoise]\ngpu_id = 1  ; the 3090\nmodel_device: \"cuda:2\" # gpupin: ignore[GP201] r\nCUDA_VISIBLE_DEVICES = 0\n",
        r#"
        choose gpu_id 1 Ordinal Setting
        choose model_device 2 Ordinal Setting
        set CUDA_VISIBLE_DEVICES = "0" Assign Loader
        ignore GP201 in ‹model_device: "cuda:2" # gpupin: ignore[GP201] r›
        "#,
    );
}

#[test]
fn tools_start_programs_with_variables() {
    check(
        "tox.ini",
        "[tox]\nenvlist = py\n[testenv:gpu]\nsetenv =\n    CUDA_VISIBLE_DEVICES = 1\n    # no\n    A=b\ncommands =\n    - pytest tests {posargs}\n    python x.py --device cuda:1\n[pytest]\nenv =\n    D:CUDA_VISIBLE_DEVICES=0\n",
        r#"
        scope
          set CUDA_VISIBLE_DEVICES = "1" Assign Container (testenv:gpu)
          set A = "b" Assign Container (testenv:gpu)
          start Pytest(["tests", "{posargs}"]) (testenv:gpu)
          start PythonFile("x.py") (testenv:gpu)
          choose --device 1 Ordinal Choose (testenv:gpu)
        set CUDA_VISIBLE_DEVICES = "0" IfUnset Loader
        "#,
    );
    check(
        "supervisord.conf",
        "[program:tts]\ncommand=python -m tts\ndirectory=/srv\nenvironment=CUDA_VISIBLE_DEVICES=\"1\",A='x'\n",
        r#"
        scope
          set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Container (program:tts)
          set A = "x"‹'x'› Assign Container (program:tts)
          start PythonModule("tts") (program:tts)
        "#,
    );
}

#[test]
fn console_scripts_are_entry_points() {
    check(
        "setup.cfg",
        "[options.entry_points]\nconsole_scripts =\n    serve = app.main:run [gpu]\n    other=app:Cli.main\n",
        "
        console serve = app.main:run
        console other = app:Cli.main
        ",
    );
}
