"""A stand-in for PyAudio: the microphone and the speaker are files."""

from __future__ import annotations

import os
from pathlib import Path

paInt16 = 8  # noqa: N816 - PyAudio's name


class Stream:
    """One sound device."""

    def __init__(self, *, is_input: bool) -> None:
        name = os.environ["STANDINS_MICROPHONE" if is_input else "STANDINS_SPEAKER"]
        self._file = Path(name).open("rb" if is_input else "ab", buffering=0)  # noqa: SIM115

    def read(self, frames: int, *, exception_on_overflow: bool) -> bytes:
        """As many samples of 16 bits."""
        found = b""
        while len(found) < 2 * frames:
            part = self._file.read(2 * frames - len(found))
            if not part:
                raise OSError("the microphone is gone")
            found += part
        return found

    def write(self, samples: bytes) -> None:
        """Plays them."""
        self._file.write(samples)


class PyAudio:
    """All sound devices."""

    def open(self, *, output: bool = False, **_: object) -> Stream:
        """The microphone, or the speaker."""
        return Stream(is_input=not output)
