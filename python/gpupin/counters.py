"""What is read to tell which memory grows."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpupin.nvml import Nvml

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class Sample:
    """The counters at one moment, in bytes. What is not known is ``None``."""

    time: float
    """Seconds of the monotonic clock."""
    call: int
    """How many calls or iterations were done."""
    allocated: int | None
    """What live tensors take, by the framework."""
    non_releasable: int | None
    """Free parts of blocks that are in use, which the framework cannot give back."""
    reserved: int | None
    """What the framework has of the driver."""
    process: int | None
    """What the driver says that this process and its children have on the GPU."""
    others: int | None
    """What the driver says that is used and is not this process's."""
    host: int | None
    """Resident memory of this process."""
    pinned: int | None
    """Host memory that the framework has pinned."""

    @property
    def cache(self) -> int | None:
        """What the framework keeps for later."""
        if self.reserved is None or self.allocated is None:
            return None
        return self.reserved - self.allocated - (self.non_releasable or 0)

    @property
    def driver(self) -> int | None:
        """What the process has beside its framework: contexts, libraries, extensions."""
        if self.process is None:
            return None
        return self.process - (self.reserved or 0)

    def as_json(self) -> dict[str, Any]:
        """As ``wire/python-samples.json`` has it."""
        return {
            "time": self.time,
            "call": self.call,
            "allocated": self.allocated,
            "non_releasable": self.non_releasable,
            "cache": self.cache,
            "driver": self.driver,
            "others": self.others,
            "host": self.host,
            "pinned": self.pinned,
        }


class Counters:
    """Reads the counters of one GPU; without its UUID only what frameworks and the kernel say."""

    def __init__(self, uuid: str | None) -> None:
        self._nvml = None if uuid is None else Nvml(uuid)

    @property
    def capacity(self) -> int | None:
        """Bytes of the GPU."""
        return None if self._nvml is None else self._nvml.total()

    def read(self, call: int) -> Sample:
        """Reads all. It neither waits for the GPU nor tidies up: see :func:`settle`."""
        try:
            allocated, non_releasable, reserved, pinned = _framework()
        except Exception:
            # One that is imported and finds no GPU, or is half imported.
            allocated = non_releasable = reserved = pinned = None
        process, others = self._driver()
        return Sample(
            time=time.monotonic(),
            call=call,
            allocated=allocated,
            non_releasable=non_releasable,
            reserved=reserved,
            process=process,
            others=others,
            host=_resident(),
            pinned=pinned,
        )

    def _driver(self) -> tuple[int | None, int | None]:
        if self._nvml is None:
            return None, None
        processes, used = self._nvml.processes(), self._nvml.used()
        if processes is None or used is None:
            return None, None
        own = _family()
        mine = [used for pid, used in processes.items() if pid in own]
        if not mine:
            # Not on the GPU, or under another number, as in a container.
            return (None, None) if processes else (0, used)
        known = [it for it in mine if it is not None]
        if len(known) < len(mine):
            return None, None
        return sum(known), max(used - sum(known), 0)


def _framework() -> tuple[int | None, int | None, int | None, int | None]:
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        stats: dict[str, int] = torch.cuda.memory_stats()
        pinned = _pinned(torch)
        return (
            stats.get("allocated_bytes.all.current"),
            stats.get("inactive_split_bytes.all.current"),
            stats.get("reserved_bytes.all.current"),
            pinned,
        )
    cupy: Any = sys.modules.get("cupy")
    if cupy is not None:
        pool = cupy.get_default_memory_pool()
        return int(pool.used_bytes()), None, int(pool.total_bytes()), None
    jax: Any = sys.modules.get("jax")
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    if jax is not None and bridge is not None and bridge.backends_are_initialized():
        stats = jax.local_devices()[0].memory_stats() or {}
        return stats.get("bytes_in_use"), None, stats.get("bytes_reserved") or stats.get("pool_bytes"), None
    return None, None, None, None


def _pinned(torch: Any) -> int | None:
    read = getattr(torch.cuda, "host_memory_stats", None)
    if read is None:
        return None
    stats: dict[str, int] = read()
    return stats.get("allocated_bytes.current", stats.get("allocated_bytes.all.current"))


def _resident() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return None


def _family() -> set[int]:
    """This process and everything below it."""
    family = {os.getpid()}
    waiting = list(family)
    while waiting:
        parent = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
        except OSError:
            continue
        for task in tasks:
            try:
                children = {int(it) for it in (task / "children").read_text(encoding="ascii").split()}
            except OSError:
                continue
            waiting.extend(children - family)
            family |= children
    return family


def wait_for_gpu() -> None:
    """Waits until the GPU has done what was asked of it, if a framework has used it."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    cupy: Any = sys.modules.get("cupy")
    if cupy is not None:
        # It raises where there is no GPU, and then nothing is waited for.
        with contextlib.suppress(Exception):
            cupy.cuda.runtime.deviceSynchronize()


def settle() -> None:
    """Makes a quiescent point: waits for the GPU, and collects garbage."""
    wait_for_gpu()
    gc.collect()


def tidy() -> list[str]:
    """Collects garbage, empties caches and resets peaks. Tells what was done."""
    collected = gc.collect()
    done = [f"collected {collected} objects"]
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        before = torch.cuda.memory_reserved()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        freed = before - torch.cuda.memory_reserved()
        done.append(f"emptied torch's cache of {freed / 1e6:.1f} MB and reset its peaks")
    cupy: Any = sys.modules.get("cupy")
    if cupy is not None:
        with contextlib.suppress(Exception):
            cupy.get_default_memory_pool().free_all_blocks()
            done.append("emptied CuPy's pool")
    return done
