use crate::tests::{check_fix, check_no_fix, check_safety};

#[test]
fn the_fix_replaces_the_number_and_nothing_else() {
    check_fix(
        "import torch\nx.to(\"cuda:1\")\ntorch.cuda.set_device(1)\n",
        "import torch\nx.to(\"cuda:0\")\ntorch.cuda.set_device(0)\n",
    );
}

#[test]
fn every_spelling_of_an_ordinal_is_fixed() {
    check_fix(
        r#"
import torch
from llama_cpp import Llama
torch.device("cuda", 1)
torch.device('cuda:1')  # why
x.cuda(1)
x.cuda(device=1)
x.to(device="cuda:1", non_blocking=True)
x.to(f"cuda:{1}")
y.to("cuda:" + str(1))
y.to("cuda:" + "1")
torch.load("a", map_location={"cuda:0": "cuda:1"})
Llama(model_path="a.gguf", main_gpu=1)
AutoModel.from_pretrained("a", device_map={"": 1})
AutoModel.from_pretrained("b", device_map={"": "cuda:1"})
AutoModel.from_pretrained("c", device_map={"encoder": 0, "decoder": 1, "head": "cuda:2"})
torch.nn.DataParallel(model, device_ids=[1], output_device=1)
torch.nn.DataParallel(
    model,
    device_ids=[
        0,
        1,
    ],
)
torch.nn.DataParallel(model, device_ids=[2, 3])
torch.nn.DataParallel(model, [1, 0], 1)
"#,
        r#"
import torch
from llama_cpp import Llama
torch.device("cuda", 0)
torch.device('cuda:0')  # why
x.cuda(0)
x.cuda(device=0)
x.to(device="cuda:0", non_blocking=True)
x.to(f"cuda:{0}")
y.to("cuda:" + str(0))
y.to("cuda:" + "0")
torch.load("a", map_location={"cuda:0": "cuda:0"})
Llama(model_path="a.gguf", main_gpu=0)
AutoModel.from_pretrained("a", device_map={"": 0})
AutoModel.from_pretrained("b", device_map={"": "cuda:0"})
AutoModel.from_pretrained("c", device_map={"encoder": 0, "decoder": 0, "head": "cuda:0"})
torch.nn.DataParallel(model, device_ids=[0], output_device=0)
torch.nn.DataParallel(
    model,
    device_ids=[
        0,
    ],
)
torch.nn.DataParallel(model, device_ids=[0])
torch.nn.DataParallel(model, [0], 0)
"#,
    );
}

#[test]
fn a_constant_is_fixed_where_it_stands() {
    check_fix(
        r#"
//- app/__init__.py
//- app/settings.py
from dataclasses import dataclass
import os
GPU = 1
DEVICE = "cuda:1"
ENV_GPU = int(os.getenv("GPU", "1"))
@dataclass
class Config:
    device: str = "cuda:2"
    gpu_id: int = 1
//- main.py
import argparse, click, torch
from app.settings import Config, DEVICE, ENV_GPU, GPU
torch.cuda.set_device(GPU)
torch.cuda.set_device(ENV_GPU)
model.to(DEVICE)
model.to(f"cuda:{GPU}")
model.to(Config.device)
torch.cuda.set_device(Config.gpu_id)
parser = argparse.ArgumentParser()
parser.add_argument("--gpu", type=int, default=1)
parser.add_argument("--device", default="cuda:1")
args = parser.parse_args()
torch.cuda.set_device(args.gpu)
model.to(args.device)
def load(device="cuda:1"):
    model.to(device)
@click.command()
@click.option("--gpu-id", default=1)
def run(gpu_id):
    torch.cuda.set_device(gpu_id)
"#,
        r#"
//- app/__init__.py
//- app/settings.py
from dataclasses import dataclass
import os
GPU = 0
DEVICE = "cuda:0"
ENV_GPU = int(os.getenv("GPU", "0"))
@dataclass
class Config:
    device: str = "cuda:0"
    gpu_id: int = 0
//- main.py
import argparse, click, torch
from app.settings import Config, DEVICE, ENV_GPU, GPU
torch.cuda.set_device(GPU)
torch.cuda.set_device(ENV_GPU)
model.to(DEVICE)
model.to(f"cuda:{GPU}")
model.to(Config.device)
torch.cuda.set_device(Config.gpu_id)
parser = argparse.ArgumentParser()
parser.add_argument("--gpu", type=int, default=0)
parser.add_argument("--device", default="cuda:0")
args = parser.parse_args()
torch.cuda.set_device(args.gpu)
model.to(args.device)
def load(device="cuda:0"):
    model.to(device)
@click.command()
@click.option("--gpu-id", default=0)
def run(gpu_id):
    torch.cuda.set_device(gpu_id)
"#,
    );
}

#[test]
fn a_number_that_is_also_a_mask_or_an_index_stays() {
    check_no_fix(
        r#"
import os, torch
GPU = 1
os.environ["CUDA_VISIBLE_DEVICES"] = str(GPU)
torch.cuda.set_device(GPU)
"#,
    );
    check_no_fix(
        r#"
import pynvml, torch
GPU = 1
pynvml.nvmlDeviceGetHandleByIndex(GPU)
torch.cuda.set_device(GPU)
"#,
    );
}

#[test]
fn where_it_is_not_plain_what_belongs_to_what_nothing_is_offered() {
    check_no_fix(
        r#"
import torch
torch.cuda.can_device_access_peer(0, 1)
torch.cuda.set_device(2 - 1)
torch.nn.DataParallel(model, device_ids=[int(input()), 1])
torch.nn.DataParallel(model, device_ids=(0, 1))
AutoModel.from_pretrained("a", device_map="auto", max_memory={0: "10GB", 1: "20GB"})
"#,
    );
}

#[test]
fn settings_and_command_lines_are_fixed_in_their_own_syntax() {
    check_fix(
        r#"
//- config/a.yaml
llm:
  main_gpu: 1  # why
tts: {gpu_id: "1", device: 'cuda:1'}
//- config/a.toml
[gpu]
gpu_id = 1
device = "cuda:1"
//- config/a.ini
[gpu]
gpu_id = 1
device = cuda:1
//- config/a.json
{"gpu_device_index": 1, "device": "cuda:1"}
//- run.sh
python train.py --device cuda:1 --seed 1
python train.py --device="cuda:1"
python train.py \
    --gpu-id 1 \
    --seed 1
python train.py --gpu-id=1
python -c 'import torch; torch.cuda.set_device(1)'
//- run.ps1
python train.py --device cuda:1 --gpu-id 1
//- run.bat
python train.py --device cuda:1 --gpu-id 1
//- Dockerfile
FROM x
RUN python train.py --device cuda:1
CMD ["python", "train.py", "--device", "cuda:1", "--gpu-id=1"]
//- compose.yaml
services:
  a:
    image: b
    command: python train.py --device cuda:1
  b:
    image: b
    command: ["python", "train.py", "--gpu-id", "1"]
//- a.service
[Service]
ExecStart=/usr/bin/python train.py --device cuda:1
//- Makefile
train:
	python train.py --device cuda:1
//- .github/workflows/a.yml
jobs:
  a:
    steps:
      - run: python train.py --device cuda:1
      - run: |
          python train.py --gpu-id 1
//- main.py
import subprocess
subprocess.run(["python", "train.py", "--device", "cuda:1"])
subprocess.run("python train.py --device cuda:1", shell=True)
"#,
        r#"
//- config/a.yaml
llm:
  main_gpu: 0  # why
tts: {gpu_id: "0", device: 'cuda:0'}
//- config/a.toml
[gpu]
gpu_id = 0
device = "cuda:0"
//- config/a.ini
[gpu]
gpu_id = 0
device = cuda:0
//- config/a.json
{"gpu_device_index": 0, "device": "cuda:0"}
//- run.sh
python train.py --device cuda:0 --seed 1
python train.py --device="cuda:0"
python train.py \
    --gpu-id 0 \
    --seed 1
python train.py --gpu-id=0
python -c 'import torch; torch.cuda.set_device(0)'
//- run.ps1
python train.py --device cuda:0 --gpu-id 0
//- run.bat
python train.py --device cuda:0 --gpu-id 0
//- Dockerfile
FROM x
RUN python train.py --device cuda:0
CMD ["python", "train.py", "--device", "cuda:0", "--gpu-id=0"]
//- compose.yaml
services:
  a:
    image: b
    command: python train.py --device cuda:0
  b:
    image: b
    command: ["python", "train.py", "--gpu-id", "0"]
//- a.service
[Service]
ExecStart=/usr/bin/python train.py --device cuda:0
//- Makefile
train:
	python train.py --device cuda:0
//- .github/workflows/a.yml
jobs:
  a:
    steps:
      - run: python train.py --device cuda:0
      - run: |
          python train.py --gpu-id 0
//- main.py
import subprocess
subprocess.run(["python", "train.py", "--device", "cuda:0"])
subprocess.run("python train.py --device cuda:0", shell=True)
"#,
    );
}

#[test]
fn notebooks_are_fixed_within_their_escapes() {
    let notebook = |number: i64| {
        format!(
            r#"//- a.ipynb
{{"cells": [{{"cell_type": "code", "execution_count": null, "metadata": {{}}, "outputs": [], "source": ["import torch\n", "x.to(\"cuda:{number}\")\n", "y.to('cuda:{number}')\n", "torch.cuda.set_device({number})\n", "!python a.py --device cuda:{number}"]}}], "metadata": {{"language_info": {{"name": "python"}}}}, "nbformat": 4, "nbformat_minor": 5}}
"#
        )
    };
    check_fix(&notebook(1), &notebook(0));
}

#[test]
fn the_fix_says_when_it_is_unsafe() {
    const ONE_GPU: &str = r#"
//- gpupin.lock
version = 1
[[machine]]
host = "workstation"
driver = "580.65.06"
[[machine.gpu]]
index = 0
uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
//- main.py
"#;
    const CODE: &str = r#"
import torch
N = 1
x.to("cuda:1")
torch.cuda.set_device(N)
"#;
    let elsewhere = Some("the number may be used for something else too");
    check_safety(
        CODE,
        &[Some("ordinal 0 can be another GPU: no program is seen to run it"), elsewhere],
    );
    let main = "if __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";
    check_safety(
        &format!("{}{main}", CODE.trim_start()),
        &[Some("ordinal 0 can be another GPU: no pin is certain in `main.py`"), elsewhere],
    );
    let pin = "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"\n";
    check_safety(&format!("{pin}{}{main}", CODE.trim_start()), &[None, elsewhere]);
    check_safety(&format!("{ONE_GPU}{}", CODE.trim_start()), &[None, elsewhere]);
}

#[test]
fn libraries_that_refuse_numbers_get_none() {
    check_fix(
        r#"
from faster_whisper import WhisperModel
WhisperModel("small", device="cuda:1")
WhisperModel("small", "cuda:2")
WhisperModel("small", device="cuda", device_index=1)
"#,
        r#"
from faster_whisper import WhisperModel
WhisperModel("small", device="cuda")
WhisperModel("small", "cuda")
WhisperModel("small", device="cuda", device_index=0)
"#,
    );
    // Wherever the text stands: others take `cuda` as well.
    check_fix(
        r#"
import ctranslate2, torch
DEVICE = "cuda:1"
def load(device="cuda:1"):
    return ctranslate2.Translator("m", device=device)
ctranslate2.Generator("m", DEVICE)
torch.zeros(1, device=DEVICE)
torch.zeros(1, device="cuda:1")
"#,
        r#"
import ctranslate2, torch
DEVICE = "cuda"
def load(device="cuda"):
    return ctranslate2.Translator("m", device=device)
ctranslate2.Generator("m", DEVICE)
torch.zeros(1, device=DEVICE)
torch.zeros(1, device="cuda:0")
"#,
    );
}
