"""A stand-in for CTranslate2."""

from __future__ import annotations

import onlooker
from allocator import Driver

__all__ = ["onlooker"]


def get_cuda_device_count() -> int:
    """Starts CUDA."""
    return Driver().count()
