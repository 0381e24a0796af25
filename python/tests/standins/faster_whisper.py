"""A stand-in for faster-whisper: it hears whether there is a sound, and takes memory that no framework knows of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from allocator import MB, Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


class WhisperModel:
    """Lies on one ordinal."""

    def __init__(self, _: str, *, device: str, device_index: int = 0, compute_type: str = "default") -> None:
        if device == "cuda":
            Device(device_index).take(500 * MB)

    def transcribe(self, audio: np.ndarray[Any, Any], **_: object) -> tuple[Iterator[SimpleNamespace], None]:
        """The same words for every sound."""
        heard = [SimpleNamespace(text=" What time is it?")] if abs(audio).max() > 0 else []
        return iter(heard), None
