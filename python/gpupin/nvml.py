"""Memory of processes, asked of NVML through ctypes. It does not touch CUDA.

Function names, structures and return codes are those of NVIDIA's ``nvml.h``.
"""

from __future__ import annotations

import ctypes
import os

LIBRARY = "libnvidia-ml.so.1"
VARIABLE = "GPUPIN_NVML_LIBRARY"
"""Names another library than the system's, for drivers in unusual places and for tests."""

_INSUFFICIENT_SIZE = 7
_NOT_AVAILABLE = 2**64 - 1


class _ProcessInfo(ctypes.Structure):
    """``nvmlProcessInfo_v2_t``, which the functions of versions 2 and 3 fill."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _MemoryInfo(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvml:
    """One GPU, by UUID. Whatever fails is unknown, never zero."""

    def __init__(self, uuid: str) -> None:
        self._handle = ctypes.c_void_p()
        self._library: ctypes.CDLL | None = None
        try:
            library = ctypes.CDLL(os.environ.get(VARIABLE) or LIBRARY)
            if library.nvmlInit_v2() != 0:
                return
            if library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(self._handle)) == 0:
                self._library = library
        except (OSError, AttributeError):
            # No driver, or one that is older than these functions.
            pass

    def used(self) -> int | None:
        """Bytes in use on the whole GPU."""
        memory = self._memory()
        return None if memory is None else int(memory.used)

    def total(self) -> int | None:
        """Bytes of the GPU."""
        memory = self._memory()
        return None if memory is None else int(memory.total)

    def processes(self) -> dict[int, int | None] | None:
        """Bytes of each process by pid, in this process's PID namespace or another: the driver does not say."""
        found: dict[int, int | None] = {}
        for kind in ("Compute", "Graphics"):
            listed = self._list(f"nvmlDeviceGet{kind}RunningProcesses")
            if listed is None:
                return None
            for it in listed:
                used = None if it.used == _NOT_AVAILABLE else int(it.used)
                known = found.get(it.pid)
                # A process on both lists has its memory on each.
                found[it.pid] = used if known is None else max(known, used or 0)
        return found

    def _memory(self) -> _MemoryInfo | None:
        memory = _MemoryInfo()
        library = self._library
        if library is None or library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)) != 0:
            return None
        return memory

    def _list(self, name: str) -> list[_ProcessInfo] | None:
        library = self._library
        if library is None:
            return None
        function = getattr(library, f"{name}_v3", None) or getattr(library, f"{name}_v2", None)
        if function is None:
            return None
        room = 64
        for _ in range(8):
            count = ctypes.c_uint(room)
            buffer = (_ProcessInfo * room)()
            code = function(self._handle, ctypes.byref(count), buffer)
            if code == 0:
                return list(buffer[: count.value])
            if code != _INSUFFICIENT_SIZE:
                return None
            # More may start meanwhile.
            room = count.value + 16
        return None
