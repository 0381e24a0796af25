"""Keeps a program on the GPU it was meant for, from inside.

``import gpupin.auto`` pins it, :func:`require` proves where it is, :class:`lease` takes turns with other programs, and
:class:`guard` and :func:`watch_memory` tell which memory grows. Which GPU is meant stands in the project's ``gpupin.toml``.

``GPUPIN=off`` in the environment switches everything off, and says so.
"""

from __future__ import annotations

from gpupin.configuring import configure
from gpupin.errors import (
    BinaryNotFound,
    DriverError,
    GpupinError,
    LeaseTimeout,
    MemoryGrowth,
    NoMatchingGpu,
    OutsidePin,
    PinTooLate,
    PolicyError,
    WrongGpu,
)
from gpupin.gpu import Gpu
from gpupin.guarding import guard, watch_memory
from gpupin.leasing import lease
from gpupin.pinning import Pin, pin
from gpupin.requiring import current, require, visible
from gpupin.verdict import Verdict

__all__ = [
    "BinaryNotFound",
    "DriverError",
    "Gpu",
    "GpupinError",
    "LeaseTimeout",
    "MemoryGrowth",
    "NoMatchingGpu",
    "OutsidePin",
    "Pin",
    "PinTooLate",
    "PolicyError",
    "Verdict",
    "WrongGpu",
    "configure",
    "current",
    "guard",
    "lease",
    "pin",
    "require",
    "visible",
    "watch_memory",
]
