"""A small allocator that speaks as torch does: its counters have torch's names, and its memory is the simulated driver's.

A test puts it in place of torch. Nothing here is torch's code, and what it shows is no proof about torch.
"""

from __future__ import annotations

import ctypes
import os
import sys
import types

MB = 1_000_000


class Allocator:
    """Blocks of a simulated GPU, some of them cached."""

    def __init__(self) -> None:
        self.allocated = 0
        self.reserved = 0
        self.inactive = 0
        self.driver = ctypes.CDLL(os.environ.get("GPUPIN_CUDA_LIBRARY", "libcuda.so.1"))
        self._context = ctypes.c_void_p()
        assert self.driver.cuInit(0) == 0
        assert self.driver.cuCtxCreate_v2(ctypes.byref(self._context), 0, 0) == 0

    def take(self, size: int) -> int:
        """Memory of the driver that the allocator does not know of, as an extension takes it."""
        address = ctypes.c_ulonglong()
        assert self.driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) == 0
        return address.value

    def give_back(self, address: int) -> None:
        """Gives it back."""
        assert self.driver.cuMemFree_v2(ctypes.c_ulonglong(address)) == 0

    def reserve(self, size: int) -> None:
        """Memory that the allocator has of the driver."""
        self.take(size)
        self.reserved += size

    def memory_stats(self) -> dict[str, int]:
        """As ``torch.cuda.memory_stats``."""
        return {
            "allocated_bytes.all.current": self.allocated,
            "reserved_bytes.all.current": self.reserved,
            "inactive_split_bytes.all.current": self.inactive,
        }


def install() -> Allocator:
    """Puts it in place of torch."""
    allocator = Allocator()
    cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        memory_stats=allocator.memory_stats,
        memory_reserved=lambda: allocator.reserved,
        synchronize=lambda: None,
        empty_cache=lambda: None,
        reset_peak_memory_stats=lambda: None,
        memory=types.SimpleNamespace(),
    )
    sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)  # pyright: ignore[reportArgumentType]
    return allocator
