"""Asks a real driver what NVIDIA does not document, and prints the answers as JSON.

Every question is a child process with its own environment: the first `cuInit` of a process freezes it. Needs the
standard library only; what a library does when it is imported is asked of those that are installed.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# What a child does to ask the driver alone.
DRIVER = r"""
import ctypes, json, os, sys
cuda = ctypes.CDLL("libcuda.so.1")
if os.environ.pop("PUTENV", None):
    os.putenv("CUDA_VISIBLE_DEVICES", "-1")
code = cuda.cuInit(0)
count = ctypes.c_int()
devices = []
if code == 0:
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
for ordinal in range(count.value):
    uuid = (ctypes.c_ubyte * 16)()
    ask = getattr(cuda, "cuDeviceGetUuid_v2", cuda.cuDeviceGetUuid)
    ask(uuid, ordinal)
    text = bytes(uuid).hex()
    devices.append("GPU-" + "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]]))
print(json.dumps({"code": code, "devices": devices}))
"""


def child(program, environment, arguments=(), timeout=120):
    """What a program prints as JSON in its last line, with these variables on top of this environment."""
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("CUDA_")}
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(
            command, env={**inherited, **environment}, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {timeout} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        return {"error": f"exit {done.returncode}: {last[0]}"}
    return json.loads(lines[-1])


def masks(uuid):
    """Values of the mask whose meaning one GPU can settle."""
    bare = uuid.removeprefix("GPU-")
    return [
        "0", "", " ", "-1", "-", "+", "+a", "0²", "\u00a00", "\u0660", "00", "+0", "-0", " 0", "0 ", "\t0", "0x0", "0x1", "1", "0,0", "0,1", "1,0", "0,-1", "-1,0",
        "0,,0", ",0", "0,", "0;1", "0 1", "0.9", "0-1", "0gpu", "gpu0", "none", "all", "NoDevFiles", "4294967296",
        "18446744073709551616", "99999999999999999999", "-4294967296", "2147483648", '"0"', "0\n", "²",
        uuid, uuid.upper(), uuid.lower(), "gpu-" + bare, uuid[:12], uuid[:8], uuid[:5], "GPU-", "GPU", bare, uuid + "0", uuid + " ", uuid[:12] + " ", uuid[:12] + "x", uuid[:11] + "x",
        uuid + ",GPU-00000000," + uuid, uuid + ",," + uuid, "0,x,0", "0,,0", "0,-1,0", uuid + "," + uuid.upper(), uuid[:-1], uuid[:9], uuid + "/0/0",
        " " + uuid, uuid + ",", uuid + ",0", "0," + uuid, uuid + "," + uuid, uuid[:12] + "," + uuid, uuid + ", " + uuid,
        "GPU-00000000," + uuid, uuid + ",GPU-00000000", "0,5", "5,0", "0,0,5", "0,5,0", "MIG-" + bare, "MIG-" + uuid + "/0/0",
    ]


def orders():
    return ["PCI_BUS_ID", "FASTEST_FIRST", "pci_bus_id", "PCI_BUS_I", "PCI_BUS_ID ", "", "0", "garbage"]


# What may make CUDA read its environment. Each runs, then the mask is set to -1: one GPU afterwards means it was too late.
FREEZES = [
    ("torch", "import torch"),
    ("torch", "import torch; torch.cuda.is_available()"),
    ("torch", "import os; os.environ['PYTORCH_NVML_BASED_CUDA_CHECK']='1'; import torch; torch.cuda.is_available()"),
    ("torch", "import torch; torch.cuda.device_count()"),
    ("torch", "import torch; torch.zeros(1, device='cuda')"),
    ("torch", "import torch; torch.cuda.get_device_name(0)"),
    ("torch", "import torch; torch.cuda.is_initialized()"),
    ("torch", "import torch; torch.cuda.current_device()"),
    ("torch", "import torch; torch.cuda.manual_seed_all(0)"),
    ("torch", "import torch; torch.manual_seed(0)"),
    ("torch", "import torch; torch.cuda.empty_cache()"),
    ("torch", "import torch; torch.cuda.memory_allocated()"),
    ("torch", "import torch; torch.device('cuda:0')"),
    ("torch", "import torch; torch.Generator('cuda')"),
    ("torch", "import torch; torch.set_default_device('cuda')"),
    ("torch", "import torch; torch.backends.cudnn.version()"),
    ("torch", "import torch; torch.backends.cuda.is_built()"),
    ("torch", "import torch; torch.cuda.get_arch_list()"),
    ("torch", "import torch; torch.cuda.is_bf16_supported()"),
    ("torch", "import torch; torch.accelerator.is_available()"),
    ("torch", "import torch; torch.accelerator.current_accelerator()"),
    ("torch", "import torch; torch.cuda.utilization()"),
    ("torch", "import torch; torch.compile(lambda x: x)"),
    ("torch", "import torch.distributed; torch.distributed.is_nccl_available()"),
    *[
        ("torch", f"import torch; {it}")
        for it in [
            "torch.accelerator.current_device_index()",
            "torch.accelerator.device_count()",
            "torch.accelerator.memory_allocated()",
            "torch.accelerator.synchronize()",
            "torch.amp.GradScaler('cuda')",
            "torch.autocast('cuda')",
            "torch.backends.cuda.matmul.allow_tf32 = True",
            "torch.backends.cudnn.benchmark = True",
            "torch.backends.cudnn.is_available()",
            "torch.backends.cudnn.enabled",
            "torch.compile",
            "torch.compile(torch.nn.Linear(1, 1))",
            "torch.cuda.amp.GradScaler()",
            "torch.cuda.can_device_access_peer(0, 0)",
            "torch.cuda.current_stream()",
            "torch.cuda.default_stream()",
            "torch.cuda.device(0)",
            "torch.cuda.device_memory_used()",
            "torch.cuda.Event()",
            "torch.cuda.get_rng_state()",
            "torch.cuda.init()",
            "torch.cuda.ipc_collect()",
            "torch.cuda.is_bf16_supported(including_emulation=False)",
            "torch.cuda.list_gpu_processes()",
            "torch.cuda.manual_seed(0)",
            "torch.cuda.max_memory_allocated()",
            "torch.cuda.max_memory_reserved()",
            "torch.cuda.mem_get_info()",
            "torch.cuda.memory_reserved()",
            "torch.cuda.memory_snapshot()",
            "torch.cuda.memory_stats()",
            "torch.cuda.memory_summary()",
            "torch.cuda.memory_usage()",
            "torch.cuda.memory._record_memory_history()",
            "torch.cuda.nccl.version()",
            "torch.cuda.power_draw()",
            "torch.cuda.reset_max_memory_allocated()",
            "torch.cuda.reset_peak_memory_stats()",
            "torch.cuda.set_device(0)",
            "torch.cuda.set_device(-1)",
            "torch.cuda.set_per_process_memory_fraction(0.5)",
            "torch.cuda.Stream()",
            "torch.cuda.synchronize()",
            "torch.cuda.temperature()",
            "torch.device('cuda')",
            "torch.device('cuda', 0)",
            "torch.get_device_module()",
            "torch.nn.DataParallel(torch.nn.Linear(1, 1))",
            "torch.set_default_tensor_type('torch.FloatTensor')",
            "torch.set_float32_matmul_precision('high')",
            "torch.tensor(1)",
            "torch.utils.data.DataLoader([1], pin_memory=True)",
            "list(torch.utils.data.DataLoader([1], pin_memory=True))",
            "torch.zeros(1).pin_memory()",
            "torch.version.cuda",
            "torch.set_default_device('cuda'); torch.tensor(1)",
        ]
    ],
    ("torchvision", "import torchvision"),
    ("torchaudio", "import torchaudio"),
    ("transformers", "import transformers"),
    ("transformers", "from transformers import pipeline"),
    ("transformers", "from transformers import AutoModelForCausalLM, Trainer"),
    ("transformers", "from transformers.utils import is_torch_cuda_available; is_torch_cuda_available()"),
    ("accelerate", "import accelerate"),
    ("transformers", "from transformers import TrainingArguments; TrainingArguments(output_dir='/tmp/x')"),
    ("transformers", "import transformers; transformers.set_seed(0)"),
    ("accelerate", "from accelerate import Accelerator; Accelerator()"),
    ("accelerate", "from accelerate import PartialState; PartialState()"),
    ("accelerate", "from accelerate.utils import set_seed; set_seed(0)"),
    ("accelerate", "from accelerate import infer_auto_device_map"),
    ("lightning", "import lightning; lightning.seed_everything(0)"),
    ("lightning", "import lightning; lightning.Trainer(logger=False)"),
    ("pytorch_lightning", "import pytorch_lightning; pytorch_lightning.Trainer(logger=False)"),
    ("lightning", "import lightning; lightning.Fabric(accelerator='cuda', devices=1)"),
    ("sentence_transformers", "import sentence_transformers"),
    ("lightning", "import lightning"),
    ("pytorch_lightning", "import pytorch_lightning"),
    ("peft", "import peft"),
    ("timm", "import timm"),
    ("triton", "import triton"),
    ("triton", "import triton.language"),
    ("jax", "import jax"),
    ("jax", "import jax; jax.devices()"),
    ("jax", "import jax.numpy"),
    ("flax", "import flax"),
    ("cupy", "import cupy"),
    ("cupy", "import cupy; cupy.cuda.is_available()"),
    ("cupy", "import cupy; cupy.cuda.runtime.getDeviceCount()"),
    ("numba", "import numba.cuda"),
    ("numba", "import numba.cuda; numba.cuda.is_available()"),
    ("numba", "import numba.cuda; numba.cuda.gpus"),
    ("onnxruntime", "import onnxruntime; onnxruntime.get_available_providers()"),
    ("tensorflow", "import tensorflow"),
    ("torch_geometric", "import torch_geometric"),
    ("e3nn", "import e3nn"),
    ("cuda.bindings", "from cuda.bindings import driver"),
    ("cuda.core", "import cuda.core"),
    ("pynvml", "import pynvml; pynvml.nvmlInit(); pynvml.nvmlDeviceGetCount()"),
]

FREEZE = r"""
import json, os, sys
exec(sys.argv[1])
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
# Not initialised yet: 3. Asking changes nothing.
before = cuda.cuDeviceGetCount(ctypes.byref(count))
code = cuda.cuInit(0)
after = cuda.cuDeviceGetCount(ctypes.byref(count)) if code == 0 else code
print(json.dumps({"initialised": before != 3, "gpus": count.value if code == 0 else 0, "code": code}))
"""

# What PyTorch makes of the mask by itself, beside the driver.
TORCH = r"""
import json, torch
count = torch.cuda.device_count()
names = [str(torch.cuda.get_device_properties(it).uuid) for it in range(count)] if count else []
print(json.dumps({"count": count, "uuids": names}))
"""

# Allocator settings: what the allocator says to them.
ALLOCATOR = r"""
import json, os, torch
try:
    torch.zeros(1 << 20, device="cuda")
    said = None
except Exception as error:
    said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
print(json.dumps({"error": said}))
"""

ALLOCATORS = [
    {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:1024"},
    {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb=1024"},
    {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size:1024"},
    {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:10"},
    {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
    {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:true"},
    {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:1"},
    {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"},
    {"PYTORCH_CUDA_ALLOC_CONF": "garbage_collection_threshold:1.5"},
    {"PYTORCH_CUDA_ALLOC_CONF": "garbage_collection_threshold:0.8, max_split_size_mb:512"},
    {"PYTORCH_ALLOC_CONF": "max_split_size_mb:1024"},
    {"PYTORCH_ALLOC_CONF": "no_such_key:1"},
    {"PYTORCH_CUDA_ALLOC_CONF": "no_such_key:1"},
    {"PYTORCH_CUDA_ALLOC_CONF": "no_such_key:1", "PYTORCH_ALLOC_CONF": "max_split_size_mb:1024"},
    {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:1024", "PYTORCH_ALLOC_CONF": "no_such_key:1"},
]


def installed(module):
    found = subprocess.run(
        [sys.executable, "-c", f"import importlib.util as i, sys; sys.exit(i.find_spec({module!r}) is None)"],
        capture_output=True,
    )
    return found.returncode == 0


def ask_all(questions):
    """Answers in the order of the questions, several at a time: each is a function without parameters."""
    with ThreadPoolExecutor(max_workers=14) as pool:
        return list(pool.map(lambda it: it(), questions))


def ask(libraries):
    """Every answer, by subject; what libraries do only if they are asked for."""
    everything = child(DRIVER, {})
    uuid = everything["devices"][0]

    def under(name, value, program, extra=()):
        variables = {name: value, **dict(extra)}
        return lambda: {name: value, **child(program, variables)}

    mask, order = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
    facts = {
        "driver": everything,
        "masks": ask_all([under(mask, it, DRIVER) for it in masks(uuid)]),
        "orders": ask_all([under(order, it, DRIVER) for it in orders()]),
        "orders_with_uuid": ask_all([under(order, it, DRIVER, {mask: uuid}.items()) for it in orders()]),
        "orders_without_gpu": ask_all([under(order, it, DRIVER, {mask: ""}.items()) for it in orders()]),
        "putenv": child(DRIVER, {"PUTENV": "1"}),
    }
    if libraries:
        modules = sorted({module for module, _ in FREEZES})
        have = dict(zip(modules, ask_all([lambda it=it: installed(it) for it in modules]), strict=True))
        facts["missing"] = [it for it in modules if not have[it]]
        statements = [statement for module, statement in FREEZES if have[module]]
        facts["freezes"] = ask_all(
            [lambda it=it: {"statement": it, **child(FREEZE, {}, [it])} for it in statements]
        )
    if libraries and have["torch"]:
        facts["torch_masks"] = ask_all([under(mask, it, TORCH) for it in masks(uuid)])
        facts["allocator"] = ask_all(
            [lambda it=it: {"environment": it, **child(ALLOCATOR, it)} for it in ALLOCATORS]
        )
    return facts


if __name__ == "__main__":
    json.dump(ask("--libraries" in sys.argv), sys.stdout, indent=1)
