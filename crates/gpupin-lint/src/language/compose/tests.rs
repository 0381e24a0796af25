use crate::language::tests::check;

#[test]
fn services_are_told_with_their_gpus_variables_and_program() {
    check(
        "compose.yaml",
        r#"
services:
  tts:
    build: .
    command: python -m assistant.tts --device cuda:1
    environment:
      - COQUI_TOS_AGREED=1
      - CUDA_VISIBLE_DEVICES=1
      - HF_TOKEN
    env_file: [.env, {path: ./gpu.env}]
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["1", 'GPU-8']  # two
              capabilities: [gpu]
  log:
    image: nvidia/cuda
    command: nvidia-smi --loop=60
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: all, capabilities: [gpu]}]}}}
"#,
        r#"
        scope
          gpus ids "1"‹"1"›,"GPU-8"‹'GPU-8'› (tts)
          load .env (tts)
          load gpu.env (tts)
          set COQUI_TOS_AGREED = "1" Assign Container (tts)
          set CUDA_VISIBLE_DEVICES = "1" Assign Container (tts)
          set HF_TOKEN = $HF_TOKEN‹HF_TOKEN› Assign Container (tts)
          start PythonModule("assistant.tts") (tts)
          choose --device 1 Ordinal Choose (tts)
        scope
          gpus All inspects (log)
        "#,
    );
}

#[test]
fn a_service_without_a_command_runs_what_its_dockerfile_says() {
    check(
        "compose.yaml",
        r#"
services:
  a: {build: ., gpus: all}
  b: {build: ./tts/, gpus: all}
  c: {build: {context: tts, dockerfile: gpu.Dockerfile}, gpus: all}
"#,
        r#"
        scope
          gpus All (a)
          start Script("Dockerfile") (a)
        scope
          gpus All (b)
          start Script("tts/Dockerfile") (b)
        scope
          gpus All (c)
          start Script("tts/gpu.Dockerfile") (c)
        "#,
    );
}

#[test]
fn every_way_to_ask_for_gpus_is_understood() {
    check(
        "compose.yaml",
        r#"
services:
  a: {image: x, gpus: all}
  b: {image: x, runtime: nvidia}
  c: {image: x, runtime: nvidia, environment: {NVIDIA_VISIBLE_DEVICES: "0,GPU-1"}}
  d: {image: x, devices: ["nvidia.com/gpu=1", /dev/snd]}
  e:
    image: x
    deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}
  f:
    image: x
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1}, {device_ids: ["9"], driver: cdi}]}}}
  g:
    image: x
    gpus: [{driver: nvidia, device_ids: ["${GPU:-1}"]}]
  h: {image: x, runtime: nvidia, environment: [NVIDIA_VISIBLE_DEVICES=void]}
  i: {image: x}
"#,
        r#"
        scope
          gpus All (a)
          start Unknown (a)
        scope
          gpus RuntimeOnly (b)
          start Unknown (b)
        scope
          gpus ids "0","GPU-1" (c)
          set NVIDIA_VISIBLE_DEVICES = "0,GPU-1"‹"0,GPU-1"› Assign Container (c)
          start Unknown (c)
        scope
          gpus ids "1" (d)
          start Unknown (d)
        scope
          gpus All (e)
          start Unknown (e)
        scope
          gpus Count(1) (f)
          start Unknown (f)
        scope
          gpus ids default "1"‹"${GPU:-1}"› (g)
          start Unknown (g)
        scope
          set NVIDIA_VISIBLE_DEVICES = "void" Assign Container (h)
          start Unknown (h)
        "#,
    );
}

#[test]
fn anchors_merge_keys_and_extends_are_followed() {
    check(
        "compose.yaml",
        r#"
x-env: &env
  CUDA_VISIBLE_DEVICES: "1"
  CUDA_DEVICE_ORDER: ${ORDER:-PCI_BUS_ID}
services:
  a:
    image: x
    environment: *env
  b:
    image: x
    environment:
      <<: *env
      CUDA_VISIBLE_DEVICES: 0
  c:
    extends: {service: b}
    environment: {A: é}
"#,
        r#"
        scope
          set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Container (a)
          set CUDA_DEVICE_ORDER = default "PCI_BUS_ID"‹${ORDER:-PCI_BUS_ID}› Assign Container (a)
          start Unknown (a)
        scope
          set CUDA_VISIBLE_DEVICES = "0" Assign Container (b)
          set CUDA_DEVICE_ORDER = default "PCI_BUS_ID"‹${ORDER:-PCI_BUS_ID}› Assign Container (b)
          start Unknown (b)
        scope
          set A = "é" Assign Container (c)
          set CUDA_VISIBLE_DEVICES = "0" Assign Container (c)
          set CUDA_DEVICE_ORDER = default "PCI_BUS_ID"‹${ORDER:-PCI_BUS_ID}› Assign Container (c)
          start Unknown (c)
        "#,
    );
}

#[test]
fn shell_text_in_a_command_is_read_as_shell() {
    check(
        "compose.yaml",
        r#"
services:
  a:
    image: x
    command: ["bash", "-c", "export CUDA_VISIBLE_DEVICES=1 && python /app/x.py"]
  b:
    image: x
    entrypoint: sh -c 'CUDA_VISIBLE_DEVICES=0 exec python y.py'
"#,
        r#"
        scope
          scope
            set CUDA_VISIBLE_DEVICES = "1" Assign Process (a)
            start PythonFile("/app/x.py") (a)
        scope
          scope
            start PythonFile("y.py") with CUDA_VISIBLE_DEVICES="0" (b)
            leave Exit
        "#,
    );
}

#[test]
fn a_broken_file_gives_what_stands_before_the_error() {
    check(
        "compose.yaml",
        "services:\n  a:\n    image: x\n    gpus: all\n  b: [\n",
        r#"
        scope
          gpus All (a)
          start Unknown (a)
        syntax: while parsing a node, did not find expected node content
        unread: Part
        "#,
    );
}

#[test]
fn comments_suppress_but_not_inside_texts() {
    check(
        "compose.yaml",
        "services:\n  a:\n    image: x\n    gpus: all  # gpupin: ignore[GP501] only one\n    labels: ['# gpupin: ignore[GP1]']\n",
        r#"
        scope
          gpus All (a)
          start Unknown (a)
        ignore GP501 in ‹    gpus: all  # gpupin: ignore[GP501] only one›
        "#,
    );
}
