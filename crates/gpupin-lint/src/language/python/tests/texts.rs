use super::check;

#[test]
fn a_device_text_sends_work_wherever_it_is_a_value() {
    check(
        r#"
DEVICE = "cuda:1"
def load(device="cuda:2"):
    return "cuda:3"
class Settings:
    device: str = "cuda:4"
x.to("cuda:5")
config = {"device": "cuda:6", "more": ["cuda:7"]}
y = "cuda:8" if ready else "cpu"
with scope("/GPU:9"):
    pass
"#,
        r#"
        choose "cuda:1" 1
        choose "cuda:2" 2 by default
        choose "cuda:4" 4
        choose "cuda:5" 5
        freeze .to()
        choose "cuda:6" 6
        choose "cuda:7" 7
        if
          choose "cuda:8" 8
        choose "/GPU:9" 9
        def load:
          choose "cuda:3" 3
          return
        "#,
    );
}

#[test]
fn a_text_that_is_compared_told_or_a_key_sends_nothing() {
    check(
        r#"
"""cuda:1"""
import logging, re
from typing import Literal
# "cuda:1"
if device == "cuda:1" or device in ("cuda:1", "cuda:2"): ...
print("cuda:1", f"cuda:{1}")
logging.info("cuda:1")
raise ValueError("cuda:1")
text.startswith("cuda:1")
re.match("cuda:1", x)
names = {"cuda:1": "first"}
names["cuda:1"]
def f(x: Literal["cuda:1"]): ...
self.assertEqual(x.device, "cuda:1")
assert x.device == torch.device("cuda:1")
match x:
    case "cuda:1": ...
section = "gpu:1"
"uses cuda:1 for speech"
parser.add_argument("--device", choices=["cuda:0", "cuda:1"], help="cuda:1")
"#,
        "raise",
    );
}

#[test]
fn a_text_put_together_gives_the_expression_of_its_number() {
    check(
        r#"
import os
GPU = 1
a = f"cuda:{GPU}"
b = "cuda:" + str(GPU)
c = "cuda:%d" % GPU
d = "cuda:{}".format(GPU)
e = f"cuda:{os.environ['LOCAL_RANK']}"
f = f"cuda:{rank()}"
g = f"cuda:{GPU} is used"
h = f"{kind}:{GPU}"
"#,
        r#"
        choose f"cuda:{GPU}" 1
        choose "cuda:" + str(GPU) 1
        choose "cuda:%d" % GPU 1
        choose "cuda:{}".format(GPU) 1
        choose f"cuda:{os.environ['LOCAL_RANK']}" $LOCAL_RANK
        choose f"cuda:{rank()}" ?
        "#,
    );
}

#[test]
fn settings_whose_name_says_gpu_count_unless_a_call_takes_their_value() {
    check(
        r#"
import torch
GPU_ID = 1
OTHER_GPU_ID = 2
num_gpus = 2
torch.cuda.set_device(OTHER_GPU_ID)
start(gpu_device_index=3, device_index=4, gpu_id=GPU_ID)
config = {"gpu_id": 5, "device_id": 6, "name": "cuda"}
plain = {"device_id": 7}
class Config:
    main_gpu: int = 8
    gpu_ids: list = [9, 10]
def load(gpu_id=11): ...
settings["tts_gpu_id"] = "12"
if gpu_id == 13: ...
"#,
        r#"
        library torch
        module torch
        choose torch.cuda.set_device 2
        freeze torch.cuda.set_device()
        loose: setting GPU_ID 1
        loose: setting gpu_device_index 3
        loose: setting gpu_id 5
        loose: setting device_id 6
        loose: setting main_gpu 8
        loose: setting gpu_ids 9 10
        loose: setting gpu_id 11 by default
        loose: setting tts_gpu_id 12
        "#,
    );
}
