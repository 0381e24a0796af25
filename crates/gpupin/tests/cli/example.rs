//! What a user of `examples/assistant` gets to see: every finding of the strict set, and nothing else.
//!
//! The findings were compared one by one with a list that somebody wrote from the design without knowing the program.

use std::path::Path;

use expect_test::expect;

use crate::sandbox::{Outcome, Sandbox};

fn scan(args: &[&str]) -> Outcome {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/assistant");
    Sandbox::new().gpupin_in(example.to_str().unwrap(), &[&["scan"], args].concat())
}

#[test]
fn the_example_has_these_findings() {
    let outcome = scan(&["--select", "strict", "--output-format", "concise"]);
    expect![[r#"
        exit code: 1
        ----- stdout
        .env:7:1: GP108 nothing reads `CUDA_VISABLE_DEVICES`: this should be `CUDA_VISIBLE_DEVICES`
        .github/workflows/test.yml:9:7: GP112 the empty mask hides every GPU from this program
        .github/workflows/test.yml:22:7: GP110 the mask is computed: which GPU it shows is only known at run time
        assistant/__main__.py:7:1: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
        assistant/__main__.py:8:1: GP401 `max_split_size_mb` is separated from its value by `=`, PyTorch wants `:`
        assistant/llm.py:38:29: GP201 ordinal 1 of `.from_pretrained` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        assistant/llm.py:46:49: GP201 `cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        assistant/orchestrator.py:38:25: GP109 the child's environment leaves out `CUDA_VISIBLE_DEVICES`: it sees every GPU
        assistant/orchestrator.py:118:8: GP302 a check that CUDA is available passes on the RTX 5060 Ti too
        assistant/stt.py:26:30: GP201 ordinal 1 of `faster_whisper.WhisperModel` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        assistant/tts.py:14:1: GP301 this program never checks which GPU it got
        assistant/tts.py:21:5: GP105 `CUDA_VISIBLE_DEVICES` is set after `torch.cuda.is_available()` made CUDA read it: this does nothing
        assistant/tts.py:23:10: GP204 this conditional expression goes on with the CPU without a word
        assistant/vad.py:21:23: GP204 this provider list falls back to the CPU without a word
        compose.yaml:19:15: GP501 `assistant` gets one GPU, whichever the runtime takes first
        compose.yaml:27:9: GP502 there is one GPU in this container, number 0: the mask `1` leaves none
        compose.yaml:33:15: GP501 `tts` gets its GPU by index 1 (the RTX 3090 when it was recorded), which can change when the machine starts
        compose.yaml:39:5: GP501 `transcripts` has the NVIDIA runtime and does not say which GPU it gets
        config/assistant.yaml:7:21: GP201 ordinal 1 of `gpu_device_index` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        config/assistant.yaml:14:13: GP201 ordinal 1 of `main_gpu` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        config/assistant.yaml:16:26: GP201 ordinal 1 of `embedder_device` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        config/audio.ini:14:10: GP201 ordinal 1 of `gpu_id` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        deploy/assistant-tts.service:9:13: GP104 `CUDA_DEVICE_ORDER` is `FASTEST_FIRST`: which GPU comes first is not documented, use `PCI_BUS_ID`
        notebooks/latency.ipynb:cell 2:4:1: GP107 `CUDA_VISIBLE_DEVICES` is set to `1` here and to `0` before: the later one wins
        notebooks/latency.ipynb:cell 3:4:1: GP301 this program never checks which GPU it got
        notebooks/latency.ipynb:cell 3:4:1: GP402 the policy's `[env]` wants `PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:1024`, and this program does not set it
        notebooks/latency.ipynb:cell 5:1:66: GP201 ordinal 1 of `faster_whisper.WhisperModel` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        notebooks/latency.ipynb:cell 6:1:39: GP201 ordinal 1 of `torch.cuda.mem_get_info` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        scripts/bench_llm.py:10:1: GP111 `CUDA_VISIBLE_DEVICES` is removed before CUDA reads it: a launcher's pin is lost, every GPU is visible
        scripts/bench_llm.py:12:1: GP301 this program never checks which GPU it got
        scripts/bench_llm.py:21:62: GP201 ordinal 1 of `llama_cpp.Llama` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        scripts/bench_llm.py:29:13: GP203 `device_map="auto"` spreads work over every GPU it sees, and no pin is in effect
        scripts/check_gpu.py:9:1: GP108 `NVIDIA_VISIBLE_DEVICES` is read when a container is made: in a process it changes nothing
        scripts/check_gpu.py:12:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts
        scripts/check_gpu.py:39:5: GP202 an index of NVML's order is used as an ordinal by `torch.cuda.set_device`
        scripts/check_gpu.py:40:39: GP201 ordinal 1 of `torch.cuda.get_device_name` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        scripts/check_gpu.py:41:8: GP302 a check of another ordinal's name passes on the RTX 5060 Ti too
        scripts/finetune.py:12:1: GP301 this program never checks which GPU it got
        scripts/finetune.py:17:1: GP106 `CUDA_DEVICE_ORDER`, `CUDA_VISIBLE_DEVICES`, `PYTORCH_CUDA_ALLOC_CONF` are set after `import torch`: it works only while nothing before it touches the GPU
        scripts/finetune.py:37:9: GP403 `total_loss` keeps the graph of every `loss`: memory grows each step
        scripts/finetune.py:66:59: GP201 `cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090
        start.ps1:8:1: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
        start.ps1:9:1: GP401 no setting of PyTorch's allocator is called `expandable_segment`
        start.sh:17:8: GP103 the mask is an index (by default) and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
        start.sh:25:45: GP205 `--gpu_ids` replaces the mask this program inherits
        start.sh:29:29: GP501 `assistant` gets every GPU of the machine
        tests/test_stt.py:6:1: GP102 mask `0` is the RTX 5060 Ti on `workstation`, which the policy forbids, the policy wants RTX 3090 with at least 20 GiB
        tests/test_stt.py:8:1: GP301 this program never checks which GPU it got
        ----- stderr
        found 24 errors and 24 warnings in 19 files, 37 with a fix (25 files scanned, 8 programs ordered)
    "#]].assert_eq(&outcome.whole());
}

#[test]
fn the_survey_hides_nothing_of_the_example() {
    let args = ["--select", "all", "--output-format", "json"];
    let unfiltered = scan(&[&args[..], &["--no-prefilter"]].concat());
    assert_eq!(scan(&args).json()["findings"], unfiltered.json()["findings"]);
}
