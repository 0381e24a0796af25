use crate::tests::{check, check_fix, check_message, check_no_fix, check_safety};

#[test]
fn compose_requests_without_a_uuid_are_reported() {
    check_message(
        r#"
//- compose.yaml
services:
  all:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all
              capabilities: [gpu]
  one:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
  index:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["1"]
              capabilities: [gpu]
  runtime:
    image: a
    runtime: nvidia
"#,
        &[
            "`all` gets every GPU of the machine | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
            "`one` gets one GPU, whichever the runtime takes first | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
            "`index` gets its GPU by index 1 (the RTX 3090 when it was recorded), which can change when the machine starts | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
            "`runtime` has the NVIDIA runtime and does not say which GPU it gets | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
        ],
    );
}

#[test]
fn without_a_recorded_machine_nothing_is_named() {
    check_message(
        "
//- gpupin.lock
//- run.sh
docker run --gpus device=1 image
",
        &[
            "`image` gets its GPU by index 1, which can change when the machine starts | ask for the GPU by its UUID, as `nvidia-smi -L` prints it",
        ],
    );
}

#[test]
fn an_image_is_given_what_the_service_asks_for() {
    let compose = |image: &str| {
        format!(
            r#"
//- compose.yaml
services:
  tts:
    {image}
    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]}}]}}}}}}
//- Dockerfile
FROM python
ENV NVIDIA_VISIBLE_DEVICES=all
CMD ["python", "tts.py"]
"#
        )
    };
    check(&compose("build: ."));
    // Also where the service says what to run.
    check(&compose("build: .\n    command: python3 main.py"));
    let message = "`Dockerfile` gets every GPU of the machine | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`";
    check_message(&compose("image: other"), &[message]);
}

#[test]
fn a_uuid_is_a_pin() {
    check(
        r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
              capabilities: [gpu]
"#,
    );
}

#[test]
fn a_container_that_only_looks_is_fine() {
    check(
        r#"
//- compose.yaml
services:
  log:
    image: nvidia/cuda
    command: nvidia-smi --loop=60
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all
              capabilities: [gpu]
"#,
    );
}

#[test]
fn commands_that_start_containers_are_read() {
    check(
        r#"
//- run.sh
docker run --gpus all image  # error: GP501
docker run --gpus '"device=1"' image  # error: GP501
docker run --gpus '"device=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"' image
docker run -e NVIDIA_VISIBLE_DEVICES=all image  # error: GP501
docker run --gpus all nvidia/cuda nvidia-smi
docker run image
"#,
    );
}

#[test]
fn amounts_that_a_scheduler_fills_are_fine() {
    check(
        r#"
//- pod.yaml
apiVersion: v1
kind: Pod
metadata:
  name: a
spec:
  containers:
    - name: a
      image: a
      resources:
        limits:
          nvidia.com/gpu: 1
"#,
    );
}

#[test]
fn a_value_from_outside_is_not_judged_and_a_default_is() {
    check(
        r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["${GPU_UUID}"]
              capabilities: [gpu]
"#,
    );
    check_message(
        r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["${GPU:-0}"]
              capabilities: [gpu]
"#,
        &[
            "by default, `a` gets its GPU by index 0 (the RTX 5060 Ti when it was recorded), which can change when the machine starts | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
        ],
    );
}

#[test]
fn the_fix_writes_the_uuid_of_the_policys_gpu() {
    check_fix(
        r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
"#,
        r#"
//- compose.yaml
services:
  a:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
              capabilities: [gpu]
"#,
    );
}

const UUID: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

#[track_caller]
fn uuid_in(text: &str) -> String {
    text.replace("UUID", UUID)
}

#[test]
fn every_way_to_ask_in_a_compose_file_is_fixed() {
    check_fix(
        r#"
//- compose.yaml
services:
  all:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all  # every one
              capabilities: [gpu]
  one:
    image: a
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}
  neither:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              capabilities: [gpu]
  neither-in-one-line:
    image: a
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu]}]}}}
  several:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["0", "1"]
              capabilities: [gpu]
  lines:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - capabilities: [gpu]
              device_ids:
                - "1"
  short:
    image: a
    gpus: all
  cdi:
    image: a
    devices:
      - nvidia.com/gpu=all
  variable:
    image: a
    runtime: nvidia
    environment:
      - NVIDIA_VISIBLE_DEVICES=all
  mapping:
    image: a
    environment:
      NVIDIA_VISIBLE_DEVICES: all
  runtime:
    image: a
    runtime: nvidia
    command: python a.py
"#,
        &uuid_in(
            r#"
//- compose.yaml
services:
  all:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["UUID"]  # every one
              capabilities: [gpu]
  one:
    image: a
    deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["UUID"], capabilities: [gpu]}]}}}
  neither:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - device_ids: ["UUID"]
              driver: nvidia
              capabilities: [gpu]
  neither-in-one-line:
    image: a
    deploy: {resources: {reservations: {devices: [{device_ids: ["UUID"], driver: nvidia, capabilities: [gpu]}]}}}
  several:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["UUID"]
              capabilities: [gpu]
  lines:
    image: a
    deploy:
      resources:
        reservations:
          devices:
            - capabilities: [gpu]
              device_ids:
                - "UUID"
  short:
    image: a
    gpus: [{driver: nvidia, device_ids: ["UUID"]}]
  cdi:
    image: a
    devices:
      - nvidia.com/gpu=UUID
  variable:
    image: a
    runtime: nvidia
    environment:
      - NVIDIA_VISIBLE_DEVICES=UUID
  mapping:
    image: a
    environment:
      NVIDIA_VISIBLE_DEVICES: UUID
  runtime:
    image: a
    environment:
      NVIDIA_VISIBLE_DEVICES: UUID
    runtime: nvidia
    command: python a.py
"#,
        ),
    );
}

#[test]
fn every_way_to_ask_in_a_command_is_fixed() {
    check_fix(
        r#"
//- run.sh
docker run --gpus all image
docker run --rm --gpus=all --name all image
docker run --gpus 1 image
docker run --gpus device=1 image
docker run --gpus '"device=0,1"' image
docker run --gpus "device=1" image
docker run --gpus 'all,capabilities=utility' image
docker run --device nvidia.com/gpu=all image
docker run -e NVIDIA_VISIBLE_DEVICES=all image
docker run --runtime=nvidia image
docker run --runtime nvidia image
//- run.ps1
docker run --gpus all image
//- run.bat
docker run --gpus all image
//- Makefile
run:
	docker run --gpus all image
//- .github/workflows/a.yml
jobs:
  a:
    steps:
      - run: docker run --gpus all image
  b:
    container:
      image: x
      options: --gpus all
    steps:
      - run: python a.py
//- Dockerfile
FROM x
ENV NVIDIA_VISIBLE_DEVICES=all
CMD ["python", "a.py"]
//- start.py
import subprocess
subprocess.run(["docker", "run", "--gpus", "all", "image"])
subprocess.run(["docker", "run", "--gpus=all", "image"])
subprocess.run("docker run --gpus all image", shell=True)
"#,
        &uuid_in(
            r#"
//- run.sh
docker run --gpus device=UUID image
docker run --rm --gpus=device=UUID --name all image
docker run --gpus device=UUID image
docker run --gpus device=UUID image
docker run --gpus '"device=UUID"' image
docker run --gpus "device=UUID" image
docker run --gpus 'device=UUID,capabilities=utility' image
docker run --device nvidia.com/gpu=UUID image
docker run -e NVIDIA_VISIBLE_DEVICES=UUID image
docker run --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=UUID image
docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=UUID image
//- run.ps1
docker run --gpus device=UUID image
//- run.bat
docker run --gpus device=UUID image
//- Makefile
run:
	docker run --gpus device=UUID image
//- .github/workflows/a.yml
jobs:
  a:
    steps:
      - run: docker run --gpus device=UUID image
  b:
    container:
      image: x
      options: --gpus device=UUID
    steps:
      - run: python a.py
//- Dockerfile
FROM x
ENV NVIDIA_VISIBLE_DEVICES=UUID
CMD ["python", "a.py"]
//- start.py
import subprocess
subprocess.run(["docker", "run", "--gpus", "device=UUID", "image"])
subprocess.run(["docker", "run", "--gpus=device=UUID", "image"])
subprocess.run("docker run --gpus device=UUID image", shell=True)
"#,
        ),
    );
}

#[test]
fn a_runtime_beside_other_variables_is_for_its_author() {
    check_no_fix(
        r#"
//- compose.yaml
services:
  a:
    image: a
    environment:
      A: b
    runtime: nvidia
  b:
    image: a
    runtime: nvidia
    extends: a
"#,
    );
}

#[test]
fn without_one_machine_and_one_gpu_no_uuid_is_known() {
    check_no_fix("//- gpupin.lock\n//- run.sh\ndocker run --gpus all image\n");
    check_no_fix(
        "//- gpupin.toml\n[gpu]\nname = \"RTX *\"\ncount = 2\n//- run.sh\ndocker run --gpus all image\n",
    );
}

#[test]
fn the_fix_is_safe_where_no_mask_inside_contradicts() {
    let unsafe_because = Some("a mask inside the container may then leave another GPU, or none");
    check_safety("//- run.sh\ndocker run --gpus all image\n", &[None]);
    check_safety("//- run.sh\ndocker run --gpus all -e CUDA_VISIBLE_DEVICES=0 image\n", &[None]);
    check_safety(
        "//- run.sh\ndocker run --gpus all -e CUDA_VISIBLE_DEVICES=1 image\n",
        &[unsafe_because],
    );
    let own = |mask: &str| {
        format!(
            r#"
//- run.sh
docker run --gpus all image python a.py
//- a.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "{mask}"
import torch
torch.cuda.init()
"#
        )
    };
    check_safety(&own("0"), &[None]);
    check_safety(&own(UUID), &[None]);
    check_safety(&own("1"), &[unsafe_because]);
}

#[test]
fn a_file_of_variables_says_which_gpu_too() {
    let project = |value: &str| {
        format!(
            "//- compose.yaml\nservices:\n  a:\n    image: a\n    runtime: nvidia\n    env_file: gpu.env\n//- gpu.env\nNVIDIA_VISIBLE_DEVICES={value}\n"
        )
    };
    check_message(
        &project("1"),
        &[
            "`a` gets its GPU by index 1 (the RTX 3090 when it was recorded), which can change when the machine starts | ask for the GPU by its UUID: `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`",
        ],
    );
    check(&project("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"));
    check(&project("void"));
}
