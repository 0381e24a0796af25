"""Keeps a program on its GPUs at its end, until somebody outside has looked.

A stand-in's work takes no time, so that a program would be gone before anybody could ask the driver where it was.
"""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path

VARIABLE = "STANDINS_LOOK"
"""Names the directory in which a program that is done puts a file with its process's number, and waits until that is gone."""


def stay() -> None:
    """Waits to be looked at, where that is wanted."""
    directory = os.environ.get(VARIABLE)
    if directory is None:
        return
    mark = Path(directory) / str(os.getpid())
    mark.touch()
    while mark.exists():
        time.sleep(0.02)


atexit.register(stay)
