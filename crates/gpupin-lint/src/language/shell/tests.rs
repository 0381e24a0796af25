use crate::language::tests::check;

#[test]
fn a_variable_before_a_command_reaches_that_command_only() {
    check(
        "a.sh",
        "CUDA_VISIBLE_DEVICES=1 python x.py\npython y.py\n",
        r#"
        start PythonFile("x.py") with CUDA_VISIBLE_DEVICES="1"
        start PythonFile("y.py")
        "#,
    );
}

#[test]
fn exported_variables_reach_children_and_plain_ones_do_not() {
    check(
        "a.sh",
        "CUDA_VISIBLE_DEVICES=0\nexport CUDA_VISIBLE_DEVICES\nexport A=\"x y\" B='z'\nCUDA_VISIBLE_DEVICES=1\ndeclare -x C=3\nOTHER=4\n",
        r#"
        set CUDA_VISIBLE_DEVICES = "0" Assign ShellOnly
        set CUDA_VISIBLE_DEVICES = "0" Assign Process
        set A = "x y"‹"x y"› Assign Process
        set B = "z"‹'z'› Assign Process
        set CUDA_VISIBLE_DEVICES = "1" Assign Process
        set C = "3" Assign Process
        "#,
    );
}

#[test]
fn set_a_exports_all_that_follows() {
    check(
        "a.sh",
        "set -a\nsource .env\nA=1\nset +a\nB=2\nset -euo pipefail\nCUDA_VISIBLE_DEVICES=1",
        r#"
        load .env
        set A = "1" Assign Process
        set CUDA_VISIBLE_DEVICES = "1" Assign ShellOnly
        "#,
    );
}

#[test]
fn defaults_are_kept_apart_from_values() {
    check(
        "a.sh",
        r#"export CUDA_VISIBLE_DEVICES="${GPU:-1}"
export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID}
: "${CUDA_VISIBLE_DEVICES:=0}"
GPU_ID=${1:-2}
CUDA_VISIBLE_DEVICES=$GPU_ID python x.py --device cuda:${GPU_ID}
CUDA_VISIBLE_DEVICES=$UNKNOWN python x.py
"#,
        r#"
        set CUDA_VISIBLE_DEVICES = default "1"‹"${GPU:-1}"› Assign Process
        set CUDA_DEVICE_ORDER = default "PCI_BUS_ID"‹${CUDA_DEVICE_ORDER:-PCI_BUS_ID}› IfUnset Process
        set CUDA_VISIBLE_DEVICES = "0" IfUnset Process
        set GPU_ID = default "2"‹${1:-2}› Assign ShellOnly
        start PythonFile("x.py") with CUDA_VISIBLE_DEVICES=default "2"‹$GPU_ID›
        choose --device default 2‹cuda:${GPU_ID}›‹cuda:${GPU_ID}› Ordinal Choose
        start PythonFile("x.py") with CUDA_VISIBLE_DEVICES=$UNKNOWN‹$UNKNOWN›
        "#,
    );
}

#[test]
fn loops_give_one_of_several_values() {
    check(
        "a.sh",
        "for gpu in 0 1; do\n  CUDA_VISIBLE_DEVICES=$gpu python x.py &\ndone\n",
        r#"
        loop
          start PythonFile("x.py") with CUDA_VISIBLE_DEVICES=one of ["0" "1"]‹$gpu›
        "#,
    );
}

#[test]
fn what_nvidia_smi_prints_is_an_index_of_its_order() {
    check(
        "a.sh",
        "export CUDA_VISIBLE_DEVICES=$(nvidia-smi --query-gpu=index,memory.free --format=csv | sort | head -1)\nexport CUDA_VISIBLE_DEVICES=$(python pick.py)\n",
        "
        set CUDA_VISIBLE_DEVICES = NvmlIndex‹$(nvidia-smi --query-gpu=index,memory.free --format=csv | sort | head -1)› Assign Process
        scope
          start PythonFile(\"pick.py\")
        set CUDA_VISIBLE_DEVICES = Unknown‹$(python pick.py)› Assign Process
        ",
    );
}

#[test]
fn here_documents_and_comments_are_no_code() {
    check(
        "a.sh",
        "cat <<EOF > x.env\nexport CUDA_VISIBLE_DEVICES=3\nEOF\n# export CUDA_VISIBLE_DEVICES=4\necho \"export CUDA_VISIBLE_DEVICES=5\"\n",
        "",
    );
}

#[test]
fn wrappers_are_taken_off_and_their_effect_is_kept() {
    check(
        "a.sh",
        "env -u A CUDA_VISIBLE_DEVICES=1 nohup python -u x.py &\nenv -i X=1 python x.py\nsudo python x.py\nsudo -E python x.py\ntimeout 60 srun --gres=gpu:1 python x.py\nuv run --with torch python x.py\n",
        r#"
        start PythonFile("x.py") without A CUDA_VISIBLE_DEVICES="1"
        start PythonFile("x.py") only X="1"
        start PythonFile("x.py") only
        start PythonFile("x.py")
        start PythonFile("x.py")
        start PythonFile("x.py")
        "#,
    );
}

#[test]
fn launchers_are_seen_through() {
    check(
        "a.sh",
        r#"torchrun --nproc_per_node 2 train.py --x 1
python -m torch.distributed.run --nproc_per_node=1 -m app.train
accelerate launch --num_processes 1 --gpu_ids 1 scripts/finetune.py
deepspeed --include localhost:1 train.py
python -m pytest -m gpu tests/test_stt.py::test_a
pytest -x tests
uvicorn app.main:app --port 1
python main.py --cuda-device 1
./run.sh && bash tools/x.sh
gpupin run -- python x.py
"$PYTHON" x.py
${PYTHON:-python3} -m app
.venv/bin/python3.11 x.py
"#,
        r#"
        start PythonFile("train.py")
        start PythonModule("app.train")
        start PythonFile("scripts/finetune.py")
        start PythonFile("train.py")
        start Pytest(["tests/test_stt.py"])
        start Pytest(["tests"])
        start PythonModule("app.main")
        start PythonFile("main.py")
        start Script("run.sh")
        start Script("tools/x.sh")
        start gpupin(PythonFile("x.py"))
        start PythonFile("x.py")
        start PythonModule("app")
        start PythonFile("x.py")
        "#,
    );
}

#[test]
fn flags_that_say_gpu_are_choices() {
    check(
        "a.sh",
        "python x.py --device=cuda:1 --gpu-id 2 --device_index 3 --batch 4\nllama-server --main-gpu 1\n",
        r#"
        start PythonFile("x.py")
        choose --device 1 Ordinal Choose
        choose --gpu-id 2 Ordinal Setting
        start Other("llama-server")
        choose --main-gpu 1 Ordinal Setting
        "#,
    );
}

#[test]
fn tests_decide_branches() {
    check(
        "a.sh",
        r#"if [ -z "$CUDA_VISIBLE_DEVICES" ]; then export CUDA_VISIBLE_DEVICES=1; fi
[ -n "${CUDA_VISIBLE_DEVICES:-}" ] || export CUDA_VISIBLE_DEVICES=2
[[ -v A ]] && export A=1
if grep -q x y; then export B=1; elif [ "$C" != "" ]; then export B=2; else export B=3; fi
case "$1" in a|b) export D=1 ;; *) export D=2 ;; esac
"#,
        r#"
        if CUDA_VISIBLE_DEVICES is set
        or
          set CUDA_VISIBLE_DEVICES = "1" Assign Process
        if CUDA_VISIBLE_DEVICES is set
        or
          set CUDA_VISIBLE_DEVICES = "2" Assign Process
        if A is set
          set A = "1" Assign Process
        or
        if ?
          set B = "1" Assign Process
        or
          if C is set
            set B = "2" Assign Process
          or
            set B = "3" Assign Process
        if ?
          set D = "1" Assign Process
        or
          set D = "2" Assign Process
        "#,
    );
}

#[test]
fn commands_joined_by_and_run_in_order() {
    check(
        "a.sh",
        "cd src && export A=1 && python x.py || exit 1\npython y.py\n",
        r#"
        set A = "1" Assign Process
        start PythonFile("src/x.py")
        if ?
        or
          leave Exit
        start PythonFile("src/y.py")
        "#,
    );
}

#[test]
fn subshells_keep_their_settings() {
    check(
        "a.sh",
        "(cd sub; export A=1; python x.py)\npython y.py\nbash -c 'export B=2; python z.py'\n",
        r#"
        scope
          set A = "1" Assign Process
          start PythonFile("sub/x.py")
        start PythonFile("y.py")
        scope
          set B = "2" Assign Process
          start PythonFile("z.py")
        "#,
    );
}

#[test]
fn functions_run_where_they_are_called() {
    check(
        "a.sh",
        "pin() { export CUDA_VISIBLE_DEVICES=1; }\nfunction go {\n  pin\n}\ngo\nunset CUDA_VISIBLE_DEVICES\nexec python x.py \"$@\"\n",
        r#"
        call go
        unset CUDA_VISIBLE_DEVICES
        start PythonFile("x.py")
        leave Exit
        fn go:
          call pin
        fn pin:
          set CUDA_VISIBLE_DEVICES = "1" Assign Process
        "#,
    );
}

#[test]
fn docker_run_tells_gpus_variables_and_the_program() {
    check(
        "a.sh",
        r#"docker run --rm -it --gpus '"device=0,GPU-1"' -e CUDA_VISIBLE_DEVICES="1" --env=A=2 -v /a:/b --name svc img:1 \
  python x.py --device cuda:1
docker run -d --gpus all img nvidia-smi -L
docker run --gpus 2 -e HF_TOKEN img
podman run --device nvidia.com/gpu=1 img
docker run --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=1 img
nvidia-docker run img
docker build -t x .
"#,
        r#"
        scope
          gpus ids "0","GPU-1" (svc)
          set CUDA_VISIBLE_DEVICES = "1" Assign Container (svc)
          set A = "2" Assign Container (svc)
          start PythonFile("x.py") only CUDA_VISIBLE_DEVICES="1" A="2" (svc)
          choose --device 1 Ordinal Choose (svc)
        scope
          gpus All inspects (img)
        scope
          gpus Count(2) (img)
          set HF_TOKEN = $HF_TOKEN‹HF_TOKEN› Assign Container (img)
          start Unknown only HF_TOKEN=$HF_TOKEN‹HF_TOKEN› (img)
        scope
          gpus ids "1" (img)
          start Unknown only (img)
        scope
          gpus ids "1" (img)
          set NVIDIA_VISIBLE_DEVICES = "1" Assign Container (img)
          start Unknown only NVIDIA_VISIBLE_DEVICES="1" (img)
        scope
          gpus RuntimeOnly (img)
          start Unknown only (img)
        "#,
    );
}

#[test]
fn broken_scripts_still_give_what_can_be_read() {
    check(
        "a.sh",
        "export A=1\nif then fi ((\nexport B=2\n",
        r#"
        set A = "1" Assign Process
        set B = "2" Assign Process
        syntax: not shell syntax
        syntax: not shell syntax
        "#,
    );
}

#[test]
fn comments_suppress() {
    check(
        "a.sh",
        "export A=1  # gpupin: ignore[GP103] why\n",
        r#"
        set A = "1" Assign Process
        ignore GP103 in ‹export A=1  # gpupin: ignore[GP103] why›
        "#,
    );
}

#[test]
fn code_of_python_c_chooses_where_it_stands() {
    check(
        "a.sh",
        "python -u -c 'import torch; torch.cuda.set_device(1)'\npython3 -c \"\nimport torch\nGPU = 2\nx.to(f'cuda:{GPU}')\n\" arg\npython -c \"print($X)\"\npython x.py -c 'x.to(\"cuda:1\")'\n",
        r#"
        start Other("python -c")
        choose torch.cuda.set_device 1 Ordinal Choose
        start Other("python -c")
        choose f'cuda:{GPU}' 2 Ordinal Choose
        start Other("python -c")
        start PythonFile("x.py")
        "#,
    );
}
