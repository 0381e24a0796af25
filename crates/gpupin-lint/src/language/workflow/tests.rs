use crate::language::tests::check;

#[test]
fn variables_are_set_at_three_levels() {
    check(
        ".github/workflows/t.yml",
        r#"
env: {CUDA_DEVICE_ORDER: PCI_BUS_ID}
jobs:
  gpu:
    runs-on: [self-hosted, gpu]
    container: {image: x, options: --gpus all --ipc host}
    env:
      CUDA_VISIBLE_DEVICES: ${{ vars.TEST_GPU }}
    steps:
      - uses: actions/checkout@v4
      - run: python -m pytest -m gpu tests/test_stt.py
        env: {CUDA_VISIBLE_DEVICES: 1}
      - run: |
          export A=1  # gpupin: ignore[GP103] r
          CUDA_VISIBLE_DEVICES=${{ matrix.gpu }} python é.py \
            --device cuda:1
          echo "CUDA_VISIBLE_DEVICES=0" >> $GITHUB_ENV
      - shell: python
        run: import torch
  windows:
    runs-on: windows-latest
    steps:
      - run: $env:CUDA_VISIBLE_DEVICES = "1"
      - {shell: cmd, run: set CUDA_VISIBLE_DEVICES=2}
"#,
        r#"
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID" Assign Container
        scope
          gpus All (gpu)
          set CUDA_VISIBLE_DEVICES = Unknown‹${{ vars.TEST_GPU }}› Assign Container (gpu)
          scope
            set CUDA_VISIBLE_DEVICES = "1" Assign Container (gpu)
            start Pytest(["tests/test_stt.py"]) (gpu)
          scope
            set A = "1" Assign Process (gpu)
            start PythonFile("é.py") with CUDA_VISIBLE_DEVICES=Unknown‹${{ matrix.gpu }}› (gpu)
            choose --device 1 Ordinal Choose (gpu)
          set CUDA_VISIBLE_DEVICES = "0" Assign Container (gpu)
        scope
          scope
            set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Process (windows)
          scope
            set CUDA_VISIBLE_DEVICES = "2" Assign Process (windows)
        ignore GP103 in ‹export A=1  # gpupin: ignore[GP103] r›
        "#,
    );
}

#[test]
fn gitlab_jobs_run_their_scripts_as_one() {
    check(
        ".gitlab-ci.yml",
        r#"
variables: {CUDA_VISIBLE_DEVICES: "0"}
stages: [test]
default: {before_script: ["export A=1"]}
test:
  variables:
    B: {value: "2", description: x}
  script:
    - GPU=1
    - CUDA_VISIBLE_DEVICES=$GPU pytest tests
    - 'python x.py --gpu-id 1'
"#,
        r#"
        set CUDA_VISIBLE_DEVICES = "0"‹"0"› Assign Container
        scope
          set B = "2"‹"2"› Assign Container (test)
          set A = "1" Assign Process (test)
          start Pytest(["tests"]) with CUDA_VISIBLE_DEVICES="1"‹$GPU› (test)
          start PythonFile("x.py") (test)
          choose --gpu-id 1 Ordinal Setting (test)
        "#,
    );
}
