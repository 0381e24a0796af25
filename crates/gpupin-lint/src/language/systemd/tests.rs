use crate::language::tests::check;

#[test]
fn a_service_is_a_program_with_its_variables() {
    check(
        "deploy/tts.service",
        r#"[Unit]
Description=cuda:1 is not read
[Service]
WorkingDirectory=/opt/app
# Environment=CUDA_VISIBLE_DEVICES=3
ExecStart=-/opt/app/.venv/bin/python /opt/app/x.py \
    # a comment
    --device cuda:1
Environment=CUDA_DEVICE_ORDER=FASTEST_FIRST "CUDA_VISIBLE_DEVICES=0" B='1 2'  
EnvironmentFile=-/etc/tts.env
UnsetEnvironment=A
; gpupin: ignore[GP103] ok
Environment=C=1
"#,
        r#"
        set CUDA_DEVICE_ORDER = "FASTEST_FIRST" Assign Container (tts.service)
        set CUDA_VISIBLE_DEVICES = "0" Assign Container (tts.service)
        set B = "1 2" Assign Container (tts.service)
        set C = "1" Assign Container (tts.service)
        load /etc/tts.env (tts.service)
        unset A (tts.service)
        start PythonFile("x.py") (tts.service)
        choose --device 1 Ordinal Choose (tts.service)
        ignore GP103 in ‹Environment=C=1›
        "#,
    );
}

#[test]
fn podman_units_tell_their_gpus() {
    check(
        "x.container",
        "[Container]\nImage=x\nAddDevice=nvidia.com/gpu=1\nEnvironment=CUDA_VISIBLE_DEVICES=1\nExec=python -m app\n",
        r#"
        gpus ids "1" (x.container)
        set CUDA_VISIBLE_DEVICES = "1" Assign Container (x.container)
        start PythonModule("app") (x.container)
        "#,
    );
}
