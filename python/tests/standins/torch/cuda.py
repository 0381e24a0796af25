"""The stand-in's ``torch.cuda``: real names of counters, from an allocator on the simulated driver."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

from allocator import Allocator, CudaError, Driver

_driver: Driver | None = None
_allocators: dict[int, Allocator] = {}
_current = 0
_blocks: WeakSet[Block] = WeakSet()
"""Those whose frames are kept."""
_is_recording = False

_GRAIN = 512


@dataclass(frozen=True)
class Place:
    """A ``torch.device``."""

    kind: str
    index: int = 0


class Block:
    """Memory of one tensor."""

    def __init__(self, allocator: Allocator | None, size: int) -> None:
        self._allocator = allocator
        self._size = size
        self._rounded = -(-size // _GRAIN) * _GRAIN
        self.frames: list[dict[str, Any]] = []
        if allocator is not None:
            allocator.allocate(self._rounded)
            if _is_recording:
                self.frames = _frames()
                _blocks.add(self)

    def data_ptr(self) -> int:
        """Leads nowhere."""
        return id(self)

    def nbytes(self) -> int:
        """Its size."""
        return self._size

    def as_snapshot(self) -> dict[str, Any]:
        """As ``torch.cuda.memory._snapshot`` has it."""
        return {"state": "active_allocated", "size": self._rounded, "frames": self.frames}

    def __del__(self) -> None:
        if self._allocator is not None:
            self._allocator.free(self._rounded)


def _frames() -> list[dict[str, Any]]:
    """Who asks, the innermost first."""
    frames: list[dict[str, Any]] = []
    frame = inspect.currentframe()
    while frame is not None:
        frames.append({"filename": frame.f_code.co_filename, "line": frame.f_lineno, "name": frame.f_code.co_name})
        frame = frame.f_back
    return frames


def driver() -> Driver:
    """Starts CUDA."""
    global _driver
    _driver = _driver or Driver()
    return _driver


def allocator(ordinal: int | None = None) -> Allocator:
    """Of one GPU; makes a context there."""
    ordinal = _current if ordinal is None else ordinal
    if ordinal not in _allocators:
        if not is_available():
            raise CudaError("No CUDA GPUs are available")
        _allocators[ordinal] = Allocator(ordinal, driver())
    return _allocators[ordinal]


def place(device: str | int | Place) -> Place:
    """What ``torch.device`` makes of it."""
    if isinstance(device, Place):
        return device
    if isinstance(device, int):
        return Place("cuda", device)
    kind, _, index = device.partition(":")
    return Place(kind, int(index) if index else _current if kind == "cuda" else 0)


def block(where: Place, size: int) -> Block:
    """Memory there."""
    return Block(allocator(where.index) if where.kind == "cuda" else None, size)


def is_available() -> bool:
    """Starts CUDA, as torch's does."""
    return device_count() > 0


def device_count() -> int:
    """Starts CUDA."""
    return driver().count()


def is_initialized() -> bool:
    """Whether there is a context."""
    return bool(_allocators)


def set_device(device: str | int) -> None:
    """What ``cuda`` means from now on."""
    global _current
    ordinal = place(device).index
    allocator(ordinal)
    _current = ordinal


def get_device_properties(device: int = 0) -> SimpleNamespace:
    """What the driver says."""
    it = allocator(device)
    major, minor = it.compute_capability()
    return SimpleNamespace(name=it.name(), uuid=it.uuid(), total_memory=it.memory()[1], major=major, minor=minor)


def get_device_name(device: int | None = None) -> str:
    """What the driver says."""
    return allocator(device).name()


def mem_get_info(device: int | None = None) -> tuple[int, int]:
    """What the driver says."""
    return allocator(device).memory()


def memory_stats(device: int | None = None) -> dict[str, int]:
    """What the allocator says."""
    return allocator(device).memory_stats()


def memory_allocated(device: int | None = None) -> int:
    """What live tensors take."""
    return allocator(device).allocated


def memory_reserved(device: int | None = None) -> int:
    """What the allocator has of the driver."""
    return allocator(device).reserved


def synchronize() -> None:
    """Nothing is computed."""


def empty_cache() -> None:
    """The allocator keeps what it has."""


def reset_peak_memory_stats() -> None:
    """There are no peaks."""


def _record_memory_history(enabled: str | None = "all", *, max_entries: int = sys.maxsize, stacks: str = "all") -> None:
    global _is_recording
    _is_recording = enabled is not None
    if not _is_recording:
        _blocks.clear()


def _snapshot() -> dict[str, Any]:
    return {"segments": [{"blocks": [it.as_snapshot() for it in _blocks]}]}


memory = SimpleNamespace(_record_memory_history=_record_memory_history, _snapshot=_snapshot)
