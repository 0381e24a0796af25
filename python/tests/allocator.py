"""A small allocator that speaks as torch does: its counters have torch's names, and its memory is the simulated driver's.

A test puts it in place of torch, and so do the stand-ins. Nothing here is torch's code, and what it shows is no proof about torch.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import time
import types
from pathlib import Path

MB = 1_000_000
SEGMENT = 20 << 20
"""What torch asks the driver for at a time, for all but small and huge blocks: https://docs.pytorch.org/docs/stable/notes/cuda.html"""

_COMPUTE_CAPABILITY = (75, 76)
"""The driver's numbers of these attributes, of NVIDIA's ``cuda.h``."""


LOOK = "STANDINS_LOOK"
"""Names the directory in which a program that is done puts a file with its process's number, and waits until that is gone.

Its work takes no time here, so that it would be gone before anybody outside could ask the driver where it was.
"""


class CudaError(RuntimeError):
    """What the driver refuses, in the words that frameworks have for it."""


class Driver:
    """The simulated CUDA driver. Making one starts CUDA, which reads its environment then and never again."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(os.environ.get("GPUPIN_CUDA_LIBRARY", "libcuda.so.1"))
        assert hasattr(self.library, "gpupin_sim_version"), "stand-ins are for simulated machines only"
        self.code = self.library.cuInit(0)
        if self.code == 0:
            _tell_once()

    def count(self) -> int:
        """How many GPUs are visible; none if CUDA could not start."""
        count = ctypes.c_int()
        return 0 if self.code != 0 or self.library.cuDeviceGetCount(ctypes.byref(count)) != 0 else count.value


_told: list[int] = []


def _tell_once() -> None:
    if not _told:
        _told.append(os.getpid())
        print(
            "stand-in: the GPUs are simulated and nothing is computed: no figure here means anything", file=sys.stderr, flush=True
        )


def _stay() -> None:
    mark = Path(os.environ[LOOK]) / str(os.getpid())
    mark.touch()
    while mark.exists():
        time.sleep(0.02)


if LOOK in os.environ:
    atexit.register(_stay)


class Device:
    """One ordinal, with its primary context, in which a framework and what stands beside it share."""

    def __init__(self, ordinal: int = 0, driver: Driver | None = None) -> None:
        self.library = (driver or Driver()).library
        self._device = ctypes.c_int()
        if self.library.cuDeviceGet(ctypes.byref(self._device), ordinal) != 0:
            raise CudaError("CUDA error: invalid device ordinal")
        self._context = ctypes.c_void_p()
        assert self.library.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), self._device) == 0

    def take(self, size: int) -> int:
        """Memory of the driver."""
        address = ctypes.c_ulonglong()
        assert self.library.cuCtxSetCurrent(self._context) == 0
        if self.library.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) != 0:
            raise CudaError(f"CUDA out of memory. Tried to allocate {size / 2**30:.2f} GiB")
        return address.value

    def give_back(self, address: int) -> None:
        """Gives it back."""
        assert self.library.cuMemFree_v2(ctypes.c_ulonglong(address)) == 0

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        assert self.library.cuCtxSetCurrent(self._context) == 0
        assert self.library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        return free.value, total.value

    def name(self) -> str:
        """The whole product name."""
        buffer = ctypes.create_string_buffer(256)
        assert self.library.cuDeviceGetName(buffer, len(buffer), self._device) == 0
        return buffer.value.decode()

    def uuid(self) -> str:
        """Without the kind in front, as torch has it."""
        raw = (ctypes.c_ubyte * 16)()
        assert self.library.cuDeviceGetUuid_v2(ctypes.byref(raw), self._device) == 0
        digits = bytes(raw).hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor version."""
        value = ctypes.c_int()
        found: list[int] = []
        for which in _COMPUTE_CAPABILITY:
            assert self.library.cuDeviceGetAttribute(ctypes.byref(value), which, self._device) == 0
            found.append(value.value)
        return found[0], found[1]


class Allocator(Device):
    """Blocks of a simulated GPU, some of them cached. What :meth:`take` takes it does not know of, as with an extension."""

    def __init__(self, ordinal: int = 0, driver: Driver | None = None) -> None:
        super().__init__(ordinal, driver)
        self.allocated = 0
        self.reserved = 0
        self.inactive = 0

    def reserve(self, size: int) -> None:
        """Memory that the allocator has of the driver."""
        self.take(size)
        self.reserved += size

    def allocate(self, size: int) -> None:
        """A block for a tensor, of the cache if there is room."""
        missing = self.allocated + size - self.reserved
        if missing > 0:
            self.reserve(-(-missing // SEGMENT) * SEGMENT)
        self.allocated += size

    def free(self, size: int) -> None:
        """Back to the cache."""
        self.allocated -= size

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
