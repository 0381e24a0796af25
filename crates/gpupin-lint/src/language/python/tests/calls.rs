use super::check;

#[test]
fn pytorch_calls_say_which_gpu_and_freeze() {
    check(
        r#"
import torch
from torch import cuda, nn
from torch.cuda import set_device as pick
torch.device("cuda", 1)
torch.cuda.device_count()
model.cuda(1)
model.cuda()
model.to(2)
model.to("cpu")
device = torch.device("cuda")
model.to(device)
torch.zeros(3, device="cuda")
cuda.set_device(3)
pick(4)
torch.cuda.get_device_name(5)
torch.cuda.utilization(6)
nn.DataParallel(model, device_ids=[0, 1])
torch.load("x", map_location={"cuda:0": "cuda:7"})
"#,
        r#"
        library torch
        module torch
        library torch
        module torch (cuda, nn)
        library torch
        module torch.cuda (set_device)
        choose torch.device 1
        choose .cuda 1
        freeze .cuda()
        freeze .cuda()
        choose .to 2
        freeze .to()
        freeze .to()
        freeze torch.zeros(device="cuda")
        choose torch.cuda.set_device 3
        freeze torch.cuda.set_device()
        choose torch.cuda.set_device 4
        freeze torch.cuda.set_device()
        query torch.cuda.get_device_name 5
        freeze torch.cuda.get_device_name()
        query torch.cuda.utilization 6 in Nvml
        freeze torch.cuda.utilization()
        choose torch.nn.DataParallel 0 1
        freeze torch.nn.DataParallel()
        choose "cuda:7" 7
        "#,
    );
}

#[test]
fn speech_libraries_take_an_index_of_their_own() {
    check(
        r#"
from faster_whisper import WhisperModel
import whisper
WhisperModel("large", "cuda", 1)
WhisperModel("large", device="cuda", device_index=[0, 1])
WhisperModel("large", device="cpu")
whisper.load_model("base", device="cuda:1")
from TTS.api import TTS
TTS("x", gpu=True)
TTS("x", gpu=False)
"#,
        r#"
        library faster_whisper
        module faster_whisper (WhisperModel)
        library whisper
        module whisper
        choose faster_whisper.WhisperModel 1
        freeze faster_whisper.WhisperModel()
        choose faster_whisper.WhisperModel 0 1
        freeze faster_whisper.WhisperModel()
        choose "cuda:1" 1
        freeze whisper.load_model()
        library TTS
        module TTS.api (TTS)
        freeze TTS.TTS()
        "#,
    );
}

#[test]
fn maps_and_providers_are_looked_into() {
    check(
        r#"
from transformers import AutoModel, pipeline
import onnxruntime as ort
AutoModel.from_pretrained("x", device_map={"": 1})
AutoModel.from_pretrained("x", device_map="auto", max_memory={0: "10GiB", 1: "10GiB"})
pipeline("asr", device=1)
pipeline("asr", device=-1)
ort.InferenceSession("x", providers=[("CUDAExecutionProvider", {"device_id": 1})])
ort.InferenceSession("x", providers=["CUDAExecutionProvider"], provider_options=[{"device_id": 2}])
"#,
        r#"
        library transformers
        module transformers (AutoModel, pipeline)
        library onnxruntime
        module onnxruntime
        choose .from_pretrained 1
        freeze .from_pretrained()
        choose .from_pretrained 0 1
        freeze .from_pretrained()
        choose transformers.pipeline 1
        freeze transformers.pipeline()
        choose onnxruntime.InferenceSession 1
        freeze onnxruntime.InferenceSession()
        choose onnxruntime.InferenceSession 2
        freeze onnxruntime.InferenceSession()
        "#,
    );
}

#[test]
fn numbers_of_gpus_spread_and_lists_choose() {
    check(
        r#"
from lightning.pytorch import Trainer
import pytorch_lightning as pl
from vllm import LLM
Trainer(accelerator="gpu", devices=1)
Trainer(accelerator="gpu", devices=2)
Trainer(accelerator="gpu", devices=[1])
Trainer(accelerator="gpu", devices="1,")
Trainer(accelerator="gpu", devices=-1, strategy="ddp")
Trainer(accelerator="gpu")
pl.Trainer(devices=1, strategy="ddp")
LLM("x", tensor_parallel_size=2)
LLM("x", tensor_parallel_size=1)
"#,
        r#"
        library lightning
        module lightning.pytorch (Trainer)
        library pytorch_lightning
        module pytorch_lightning
        library vllm
        module vllm (LLM)
        spread devices=2 2
        choose lightning.Trainer 1
        choose lightning.Trainer 1
        spread devices=-1
        spread strategy="ddp"
        spread accelerator="gpu"
        spread tensor_parallel_size=2 2
        may freeze vllm.LLM()
        may freeze vllm.LLM()
        "#,
    );
}

#[test]
fn indices_and_assignments_choose_too() {
    check(
        r#"
import jax
import tensorflow as tf
from numba import cuda
import faiss
jax.devices()[1]
gpus = tf.config.list_physical_devices("GPU")
tf.config.set_visible_devices(gpus[1], "GPU")
cpu = tf.config.list_physical_devices("CPU")[0]
cuda.gpus[1]
cuda.select_device(2)
config = tf.compat.v1.ConfigProto()
config.gpu_options.visible_device_list = "3"
flat = faiss.GpuIndexFlatConfig()
flat.device = 4
with tf.device("/GPU:5"): ...
"#,
        r#"
        library jax
        module jax
        library tensorflow
        module tensorflow
        library numba.cuda
        module numba (cuda)
        library faiss
        module faiss
        freeze jax.devices()
        choose jax.devices 1
        freeze tensorflow.config.list_physical_devices()
        choose tensorflow.config.list_physical_devices 1
        freeze tensorflow.config.set_visible_devices()
        freeze tensorflow.config.list_physical_devices()
        choose numba.cuda.gpus 1
        choose numba.cuda.select_device 2
        freeze numba.cuda.select_device()
        choose .gpu_options.visible_device_list 3
        choose faiss.GpuIndexFlatConfig.device 4
        choose "/GPU:5" 5
        freeze tensorflow.device()
        "#,
    );
}

#[test]
fn other_libraries_number_in_other_ways() {
    check(
        r#"
import pynvml
from dask_cuda import LocalCUDACluster
from catboost import CatBoostClassifier
import paddle
pynvml.nvmlDeviceGetHandleByIndex(1)
LocalCUDACluster(CUDA_VISIBLE_DEVICES="0,1")
CatBoostClassifier(devices="0:1")
paddle.set_device("gpu:1")
lgb_params = {"device_type": "gpu", "gpu_device_id": 1}
"#,
        r#"
        library pynvml
        module pynvml
        library dask_cuda
        module dask_cuda (LocalCUDACluster)
        library catboost
        module catboost (CatBoostClassifier)
        library paddle
        module paddle
        query pynvml.nvmlDeviceGetHandleByIndex 1 in Nvml
        choose dask_cuda.LocalCUDACluster 0 1 in BaseOrder
        choose catboost.CatBoostClassifier 0 1
        choose paddle.set_device 1
        freeze paddle.set_device()
        loose: setting gpu_device_id 1 in Other
        "#,
    );
}

#[test]
fn methods_of_the_projects_own_classes_are_its_own() {
    check(
        r#"
class Light:
    def to(self, level): ...
    def cuda(self, level): ...
light = Light()
light.to(1)
light.cuda(2)
"#,
        "
        call here:Light
        call here:Light.to
        call here:Light.cuda
        ",
    );
}

#[test]
fn a_plan_of_what_goes_where_chooses_nothing() {
    check(
        "from accelerate import infer_auto_device_map\n\
         plan = infer_auto_device_map(model, max_memory={0: 10, 1: 10})\n",
        r#"
        library accelerate
        module accelerate (infer_auto_device_map)
        "#,
    );
}

#[test]
fn code_for_more_gpus_says_so() {
    check(
        r#"
import torch, pytest
if torch.cuda.device_count() > 1:
    x.cuda(1)
else:
    x.cuda(0)
y = "cuda:1" if torch.cuda.device_count() >= 2 else "cuda:0"
def f():
    if torch.cuda.device_count() < 3:
        return
    x.cuda(2)
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two")
def test_g():
    x.cuda(1)
"#,
        r#"
        library torch
        module torch
        module pytest
        look count
        if MoreGpusThan(1)
          choose .cuda 1 if >1
          freeze .cuda()
        else
          choose .cuda 0
          freeze .cuda()
        if MoreGpusThan(1)
          choose "cuda:1" 1 if >1
        else
          choose "cuda:0" 0
        call pytest.mark.skipif
        def f:
          look count
          if MoreGpusThan(2)
          else
            return
          choose .cuda 2 if >2
          freeze .cuda()
        def test_g:
          choose .cuda 1 if >1
          freeze .cuda()
        "#,
    );
}

#[test]
fn imports_that_freeze_are_libraries_of_their_own() {
    check(
        r"
import bitsandbytes
from xformers import ops
import gpupin.auto
import gpupin
gpupin.pin()
",
        r"
        library bitsandbytes
        module bitsandbytes
        library xformers
        library xformers.ops
        module xformers (ops)
        gpupin
        module gpupin.auto
        module gpupin
        gpupin
        ",
    );
}
