"""The CUDA driver API, asked through ctypes.

Asking initialises CUDA: the environment is read, and processes that are forked later cannot use CUDA. :func:`is_started` is the
exception. It initialises nothing and loads nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from gpupin.errors import DriverError
from gpupin.gpu import Gpu, short_name

LIBRARY = "libcuda.so.1"
VARIABLE = "GPUPIN_CUDA_LIBRARY"
"""Names another library than the system's, for drivers in unusual places and for tests."""

_NOT_INITIALIZED = 3
NO_DEVICE = 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def is_started() -> bool | None:
    """Whether CUDA has read this process's environment. ``None`` where that cannot be told.

    A library that is loaded already is asked for the number of devices, which it refuses to tell before it is initialised. A
    process that was forked from one that used CUDA counts as not started, although CUDA is of no use in it.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    # Address, permissions, offset, device and inode stand before the path.
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "libcuda.so" in line}
    return any(_answers(path.strip()) for path in sorted(paths))


def _answers(path: str) -> bool:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        count = library.cuDeviceGetCount
    except (OSError, AttributeError):
        # Mapped by somebody who only looks at it.
        return False
    return int(count(ctypes.byref(ctypes.c_int()))) != _NOT_INITIALIZED


_started_here = False


def was_started_here() -> bool:
    """Whether this package initialised CUDA, by :func:`gpupin.require` or :func:`gpupin.visible`."""
    return _started_here


class Driver:
    """The driver's library, loaded and initialised."""

    def __init__(self) -> None:
        name = os.environ.get(VARIABLE) or LIBRARY
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise missing(str(error)) from None
        global _started_here
        _started_here = _started_here or not is_started()
        self._call("cuInit", 0)

    @property
    def is_simulated(self) -> bool:
        """Whether this is a library of ``gpupin sim``."""
        return hasattr(self._library, "gpupin_sim_version")

    def gpus(self) -> list[Gpu]:
        """Every visible GPU, in the order of ordinals."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return [self.gpu(ordinal) for ordinal in range(count.value)]

    def gpu(self, ordinal: int) -> Gpu:
        """What CUDA calls ``cuda:ordinal``."""
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        name = self._text("cuDeviceGetName", device)
        vram = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(vram), device)
        return Gpu(
            uuid=self._uuid(device, name),
            name=short_name(name),
            vram=vram.value,
            compute_capability=(
                self._attribute(_CAPABILITY_MAJOR, device),
                self._attribute(_CAPABILITY_MINOR, device),
            ),
            pci=self._text("cuDeviceGetPCIBusId", device).lower(),
            ordinal=ordinal,
        )

    def _uuid(self, device: ctypes.c_int, name: str) -> str:
        # The first version gives the parent's for an instance of MIG.
        function = "cuDeviceGetUuid_v2" if hasattr(self._library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        raw = (ctypes.c_ubyte * 16)()
        self._call(function, ctypes.byref(raw), device)
        digits = bytes(raw).hex()
        kind = "MIG" if " MIG " in name else "GPU"
        return "-".join((kind, digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _text(self, function: str, device: ctypes.c_int) -> str:
        buffer = ctypes.create_string_buffer(256)
        self._call(function, buffer, len(buffer), device)
        return buffer.value.decode(errors="replace")

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    def _call(self, function: str, *arguments: object) -> None:
        call = getattr(self._library, function, None)
        if call is None:
            raise DriverError(f"the CUDA driver has no `{function}`")
        code = int(call(*arguments))
        if code != 0:
            raise DriverError(f"`{function}` failed with {self._error(code)}", code)

    def _error(self, code: int) -> str:
        name = ctypes.c_char_p()
        call = getattr(self._library, "cuGetErrorName", None)
        if call is None or call(code, ctypes.byref(name)) != 0 or not name.value:
            return f"error {code}"
        return f"{name.value.decode(errors='replace')} ({code})"


def missing(why: str) -> DriverError:
    """There is no library to ask."""
    return DriverError(f"there is no CUDA driver: {why}\n  `gpupin doctor` tells what of the driver is here and what is not")


def visible_gpus() -> tuple[list[Gpu], bool]:
    """The GPUs that CUDA shows this process, by ordinal, and whether the driver is simulated. Initialises CUDA."""
    try:
        driver = Driver()
    except DriverError as error:
        if error.code == NO_DEVICE:
            # That is an answer: the mask leaves nothing.
            return [], False
        raise
    return driver.gpus(), driver.is_simulated
