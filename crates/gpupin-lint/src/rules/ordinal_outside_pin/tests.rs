use crate::{
    finding::Severity,
    selection::Selection,
    tests::{Case, check, check_message},
};

#[test]
fn ordinals_of_choosing_calls_are_reported() {
    check(
        r#"
import torch
x.to("cuda:1")  # error: GP201
x.cuda(1)  # error: GP201
torch.cuda.set_device(1)  # error: GP201
torch.device("cuda", 1)  # error: GP201
torch.zeros(1, device="cuda:2")  # error: GP201
torch.load("a.pt", map_location="cuda:1")  # error: GP201
"#,
    );
}

#[test]
fn ordinals_of_querying_calls_are_reported() {
    check(
        r#"
import torch
torch.cuda.get_device_name(1)  # error: GP201
torch.cuda.memory_allocated(1)  # error: GP201
torch.cuda.get_device_name(0)
"#,
    );
}

#[test]
fn the_pinned_gpu_is_fine_in_every_spelling() {
    check(
        r#"
import torch
x.to("cuda")
x.to("cuda:0")
x.cuda()
x.cuda(0)
torch.cuda.set_device(0)
torch.cuda.set_device(-1)
"#,
    );
}

#[test]
fn replicas_are_named_one_by_one() {
    check(
        r#"
import tensorflow as tf
tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])  # error: GP201
tf.distribute.MirroredStrategy(devices=["CPU:0", "CPU:1"])
"#,
    );
}

#[test]
fn gpus_asked_of_slurm_are_counted() {
    check(
        r#"
//- train.sh
srun --gres=gpu:8 python train.py
srun --gres gpu:${N:-8} python train.py --device gpu:1  # error: GP201
sbatch --gpus-per-node=gpu:4 job.sh
"#,
    );
}

#[test]
fn python_in_a_command_line_chooses_too() {
    check(
        r#"
//- run.sh
python -c 'import torch; torch.cuda.set_device(1)'  # error: GP201
python -c 'import torch; print(torch.__version__)'
//- Dockerfile
FROM x
RUN python3 -c "import torch; torch.zeros(1, device='cuda:1')"  # error: GP201
//- main.py
import subprocess
subprocess.run(["python", "-c", "import torch; torch.cuda.set_device(1)"])  # error: GP201
"#,
    );
}

#[test]
fn text_that_is_no_choice_is_not_read() {
    check(
        r#"
"""Do not use cuda:1 here."""
import torch
# x.to("cuda:1")
print("cuda:1 is the small one")
raise RuntimeError("no cuda:1")
"#,
    );
}

#[test]
fn an_object_that_is_only_compared_or_told_chooses_nothing() {
    check(
        r#"
import torch
from cupy import cuda
assert cuda.Device(0) < cuda.Device(1)
assert not (cuda.Device(1) == 1)
assert hash(cuda.Device(1)) != hash(cuda.Device(0))
assert str(torch.device("cuda", 1)) == "cuda:1"
assert torch.device("cuda", 1).index == 1
print(cuda.Device(1), [cuda.Device(2)], f"{cuda.Device(3)}")
print(cuda.Device(1).mem_info)  # error: GP201
assert x.to(torch.device("cuda", 1)) == y  # error: GP201
with cuda.Device(1):  # error: GP201
    assert f(cuda.Device(2)) == 3  # error: GP201
"#,
    );
    check_message(
        "from cupy import cuda\ncuda.Device(1).use()\n",
        &[
            "ordinal 1 of `cupy.cuda.Device` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090",
        ],
    );
}

#[test]
fn an_object_given_to_a_function_that_only_compares_it_chooses_nothing() {
    check(
        r#"
import pytest
from cupy import cuda
class TestDevice:
    def check_eq(self, result, a, b):
        if result:
            assert a == b
        else:
            with pytest.raises(TypeError):
                a < b
    def enter(self, a):
        assert a == 1
        with a:
            pass
    def test_a(self):
        self.check_eq(True, cuda.Device(1), cuda.Device(1))
        self.enter(cuda.Device(1))  # error: GP201
def same(a, b):
    return a == b
same(cuda.Device(2), cuda.Device(2))
unknown(cuda.Device(2))  # error: GP201
"#,
    );
}

#[test]
fn a_call_that_takes_a_device_chooses_wherever_it_stands() {
    check(
        r#"
import logging
import torch
print("cuda:1", torch.device("cuda:1"))
print(torch.cuda.max_memory_allocated("cuda:1"))  # error: GP201
print(torch.cuda.memory_allocated(device="cuda:2"))  # error: GP201
logging.info("%s", torch.zeros(1, device="cuda:3"))  # error: GP201
assert x.to("cuda:4").sum() == 0  # error: GP201
assert describe("cuda:5", device="cuda:5") == "cuda:5"
"#,
    );
}

#[test]
fn a_constant_is_reported_at_its_first_use() {
    check(
        r#"
import torch
GPU = 1
torch.cuda.set_device(GPU)  # error: GP201
x.to(f"cuda:{GPU}")
y.cuda(GPU)
"#,
    );
}

#[test]
fn the_argument_is_the_place() {
    check(
        r#"
import torch
model = AutoModel.from_pretrained(
    "Qwen/Qwen2.5-0.5B-Instruct",
    device_map={"": 1},  # error: GP201
)
torch.nn.DataParallel(
    model,
    device_ids=[0, 1],  # error: GP201
)
"#,
    );
}

#[test]
fn choosing_calls_win_over_queries_of_the_same_constant() {
    check(
        r#"
import torch
GPU = 1
print(torch.cuda.get_device_name(GPU))
torch.cuda.set_device(GPU)  # error: GP201
"#,
    );
}

#[test]
fn constants_of_other_modules_are_followed() {
    check(
        r#"
//- settings.py
GPU = 1
WHISPER_DEVICE = "cuda:1"  # error: GP201
//- main.py
import torch
from settings import GPU, WHISPER_DEVICE
torch.cuda.set_device(WHISPER_DEVICE)
model.to(WHISPER_DEVICE)
torch.cuda.set_device(GPU)  # error: GP201
model.cuda(GPU)
"#,
    );
}

#[test]
fn a_setting_that_is_used_is_reported_at_its_use() {
    check(
        r#"
import torch
class Config:
    gpu_id = 1
torch.cuda.set_device(Config.gpu_id)  # error: GP201
"#,
    );
}

#[test]
fn a_setting_whose_use_is_not_seen_is_reported_itself() {
    check(
        r#"
//- config/audio.ini
[gpu]
gpu_id = 1  # error: GP201
device_index = 3
//- config/llm.yaml
main_gpu: 1  # error: GP201
n_gpu: 2
gpu_id: 0
//- config/tts.json
{
  "gpu_device_index": 1,  # error: GP201
  "num_gpus": 2
}
"#,
    );
}

#[test]
fn a_table_that_counts_on_is_no_setting_of_gpus() {
    check(
        r#"
kernels = {
    "relu": Spec(cuda_idx=1),
    "tanh": Spec(cuda_idx=2),
    "swish": Spec(cuda_idx=9),
}
other = Spec(gpu_id=1)  # error: GP201
"#,
    );
}

#[test]
fn code_for_more_gpus_than_the_pin_leaves_never_runs() {
    check(
        r#"
import torch
if torch.cuda.device_count() > 1:
    torch.cuda.set_device(1)
"#,
    );
    check(
        r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
count = 2
//- main.py
import torch
if torch.cuda.device_count() > 1:
    torch.cuda.set_device(2)  # error: GP201
    torch.cuda.set_device(1)
"#,
    );
}

#[test]
fn a_test_that_asks_for_several_gpus_never_runs_under_the_pin() {
    check(
        r#"
import torch
@require_multi_gpu
def test_a():
    torch.cuda.set_device(1)
@helpers.require_torch_multi_accelerator
def test_b():
    torch.cuda.set_device(1)
@require_gpu
def test_c():
    torch.cuda.set_device(1)  # error: GP201
"#,
    );
}

#[test]
fn every_library_counts_gpus_in_its_own_way() {
    check(
        r#"
import unittest
import torch
from cupy.cuda import runtime
from numba import cuda
@unittest.skipIf(len(cuda.gpus) < 2, "need more than one GPU")
def test_a():
    with cuda.gpus[1]:
        pass
@unittest.skipIf(len(cuda.list_devices()) < 2, "need more than one GPU")
def test_b():
    cuda.list_devices()[1]
@unittest.skipUnless(runtime.getDeviceCount() > 1, "need more than one GPU")
def test_c():
    runtime.setDevice(1)
def test_d():
    if len(cuda.gpus) < 2:
        return
    cuda.select_device(1)
@unittest.skipIf(len(cuda.gpus) < 1, "need a GPU")
def test_e():
    with cuda.gpus[1]:  # error: GP201
        pass
"#,
    );
}

#[test]
fn a_test_that_replaces_cuda_touches_no_gpu() {
    check(
        r#"
//- test_devices.py
import torch
from unittest import mock
from unittest.mock import patch
def test_a(monkeypatch):
    monkeypatch.setattr(helpers.torch.cuda, "device_count", lambda: 2)
    torch.cuda.set_device(1)
@patch("torch.cuda.set_device")
def test_b(set_device):
    torch.cuda.set_device(1)
@mock.patch.object(torch.cuda, "set_device")
def test_c(set_device):
    torch.cuda.set_device(1)
def test_d():
    with patch("torch.cuda.device_count", return_value=2):
        torch.zeros(1, device="cuda:1")
def test_e(monkeypatch):
    monkeypatch.setattr(helpers, "count", lambda: 2)
    torch.cuda.set_device(1)  # error: GP201
"#,
    );
}

#[test]
fn more_than_one_gpu_can_be_declared() {
    check(
        r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
count = 2
//- main.py
x.to("cuda:1")
x.to("cuda:2")  # error: GP201
"#,
    );
}

#[test]
fn a_role_is_judged_by_its_own_gpus() {
    check(
        r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[roles.train]
name = "RTX *"
count = 2
entry-points = ["train.py"]
//- train.py
import torch
torch.cuda.set_device(1)
torch.cuda.set_device(2)  # error: GP201
//- serve.py
import torch
torch.cuda.set_device(1)  # error: GP201
"#,
    );
}

#[test]
fn without_a_policy_a_number_is_a_warning_and_nothing_is_claimed() {
    const HELP: &str = " | `gpupin init` declares the GPU; `count` is for more than one";
    let fixture = r#"
//- gpupin.toml
//- main.py
import torch
x.to("cuda:1")
torch.nn.DataParallel(model, device_ids=[0, 1, 2])
"#;
    let messages = [
        "`cuda:1` picks a GPU by number, and no policy says which GPU is meant",
        "ordinals 1 and 2 of `torch.nn.DataParallel` pick GPUs by number, and no policy says which GPUs are meant",
    ]
    .map(|it| format!("{it}{HELP}"));
    check_message(fixture, &messages.each_ref().map(String::as_str));
    let found = Case::parse(fixture, "main.py").analyze(&Selection::only([&super::RULE]));
    assert!(found.findings.iter().all(|it| it.severity == Severity::Warning));
    assert!(found.findings.iter().all(|it| it.fix.is_none()), "0 is just another number");
}

#[test]
fn messages_quote_a_composed_text_as_it_stands() {
    let end = "does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090";
    let messages = [
        r#"f"cuda:{1}""#,
        r#""cuda:" + str(1)"#,
        r#""cuda:" + "1""#,
        r#""cuda:{}".format(1)"#,
        "f'cuda:{1}'",
    ]
    .map(|it| format!("ordinal 1 of `{it}` {end}"));
    check_message(
        r#"
a.to(f"cuda:{1}")
b.to("cuda:" + str(1))
c.to("cuda:" + "1")
d.to("cuda:{}".format(1))
e.to(f'cuda:{1}')
"#,
        &messages.each_ref().map(String::as_str),
    );
}

#[test]
fn messages_name_the_gpu_that_is_there() {
    check_message(
        r#"
import torch
x.to("cuda:1")
torch.cuda.set_device(1)
torch.nn.DataParallel(model, device_ids=[0, 1, 2])
"#,
        &[
            "`cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090",
            "ordinal 1 of `torch.cuda.set_device` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090",
            "ordinals 1 and 2 of `torch.nn.DataParallel` do not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090",
        ],
    );
}

#[test]
fn no_gpu_is_named_where_machines_differ_or_none_is_recorded() {
    check_message(
        r#"
//- gpupin.lock
//- main.py
x.to("cuda:1")
"#,
        &["`cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0`"],
    );
    check_message(
        r#"
//- gpupin.toml
[gpu]
name = "RTX *"
//- main.py
x.to("cuda:1")
"#,
        &["`cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0`"],
    );
}

#[test]
fn defaults_count_by_default() {
    check_message(
        r#"
import argparse
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--gpu", type=int, default=1)
args = parser.parse_args()
torch.cuda.set_device(args.gpu)
"#,
        &[
            "by default, ordinal 1 of `torch.cuda.set_device` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090",
        ],
    );
}

#[test]
fn a_number_put_into_a_refused_text_has_no_fix() {
    let fixture = r#"
from faster_whisper import WhisperModel
GPU = 1
WhisperModel("small", device=f"cuda:{GPU}")
"#;
    let found = Case::parse(fixture, "main.py").analyze(&Selection::only([&super::RULE]));
    let [finding] = &*found.findings else { panic!("{:?}", found.findings) };
    assert!(finding.fix.is_none());
    check_message(
        "from faster_whisper import WhisperModel\nWhisperModel(\"small\", device=\"cuda:1\")\n",
        &[
            "`cuda:1` does not exist under the policy's pin: one GPU is visible, `cuda:0` is the RTX 3090 | this library takes `cuda` and fails for `cuda:N`: its numbers go to `device_index`",
        ],
    );
}

#[test]
fn survives_a_syntax_error() {
    check(
        r#"
import torch
torch.cuda.set_device(1)  # error: GP201
def broken(
"#,
    );
}
