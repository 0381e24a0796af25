"""What the log says about the hardware.

Nothing here chooses a GPU. With `CUDA_VISIBLE_DEVICES=1` set, the 3090 is `cuda:0` and `cuda:1` does not
exist, so a bug report that only says "cuda:0" tells us nothing: hence the names and the mask.
"""

from __future__ import annotations

import logging
import os
import subprocess

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "The GPU ran out of memory. Close other programs that use it, choose a smaller model, or set "
    "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512 and start again. Do not move the LLM to cuda:1."
)


def describe() -> str:
    """One line per visible GPU, for the log."""
    import torch

    mask = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    lines = [f"torch {torch.__version__}, CUDA {torch.version.cuda}, CUDA_VISIBLE_DEVICES {mask}"]
    lines.append(f"cuda:0 is {torch.cuda.get_device_name(0)}")
    if torch.cuda.device_count() > 1:
        lines.append(f"cuda:1 is {torch.cuda.get_device_name(1)} and should not be visible")
    return "\n".join(lines)


def used_megabytes(uuid: str) -> int:
    """GPU memory in use, by UUID, because indices differ between nvidia-smi and CUDA."""
    query = ["nvidia-smi", "-i", uuid, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout)


def log_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a CUDA out of memory error, which is then explained."""
    # the text of a real one: "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 1; 15.74 GiB total capacity"
    if "out of memory" not in str(error):
        return False
    log.error(OUT_OF_MEMORY)
    return True
