"""Is the GPU fast enough today? Fails if the 3090 is missing, prints TFLOP/s otherwise."""

from __future__ import annotations

import os
import sys
import time

os.environ["NVIDIA_VISIBLE_DEVICES"] = "1"

import pynvml  # noqa: E402
import torch  # noqa: E402


def freest_gpu() -> int:
    """The GPU with the most free memory."""
    pynvml.nvmlInit()
    best, most = 0, 0
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        free = pynvml.nvmlDeviceGetMemoryInfo(handle).free
        if free > most:
            best, most = index, free
    return best


def teraflops(size: int = 8192, rounds: int = 20) -> float:
    a = torch.randn(size, size, dtype=torch.float16, device="cuda")
    b = torch.randn(size, size, dtype=torch.float16, device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * rounds / (time.perf_counter() - start) / 1e12


def main() -> None:
    torch.cuda.set_device(freest_gpu())
    name = torch.cuda.get_device_name(1)
    if "3090" not in name:
        sys.exit(f"expected the RTX 3090 but found {name}")
    print(f"{name}: {teraflops():.1f} TFLOP/s")


if __name__ == "__main__":
    main()
