use crate::language::tests::check;

#[test]
fn settings_that_say_gpu_are_choices() {
    check(
        "config.yaml",
        r#"
stt:
  gpu_device_index: 1        # RTX 3090
  device_index: 3
llm:
  n_gpu_layers: -1
  main_gpu: '1'
  embedder_device: "cuda:1"  # next
  gpu_ids: [0, 1]
  devices: [cuda:0, "cuda:1"]
  note: we use cuda
env:
  CUDA_VISIBLE_DEVICES: 0
list:
  - gpu_id: 2
"#,
        r#"
        choose gpu_device_index 1 Ordinal Setting
        choose main_gpu 1 Ordinal Setting
        choose embedder_device 1 Ordinal Setting
        choose gpu_ids 0,1 Ordinal Setting
        choose devices 0,1 Ordinal Setting
        set CUDA_VISIBLE_DEVICES = "0" Assign Loader
        choose gpu_id 2 Ordinal Setting
        "#,
    );
}
