"""How much the guard does: while developing, in a pipeline, in production."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable

from gpupin.errors import GpupinError

VARIABLE = "GPUPIN_MODE"


@dataclass(frozen=True)
class Mode:
    """What happens around guarded calls."""

    name: str
    tidies: bool
    """Collects, empties caches and resets peaks around a guard."""
    fails: bool
    """Raises when something leaks."""
    keeps_history: bool
    """Lets torch keep where memory was allocated, in a ring."""
    pace: float
    """At least this many seconds between two samples."""


MODES = {
    "dev": Mode("dev", tidies=True, fails=False, keeps_history=True, pace=0.0),
    "ci": Mode("ci", tidies=True, fails=True, keeps_history=True, pace=0.0),
    "production": Mode("production", tidies=False, fails=False, keeps_history=False, pace=10.0),
}

_chosen: str | None = None
_told: list[Callable[[], None]] = []


def configure(mode: str) -> None:
    """Chooses ``dev`` (warns), ``ci`` (fails) or ``production`` (only counts) for this process, from the next guarded call on.

    Without it the mode is what ``GPUPIN_MODE`` says, else ``GPUPIN_PROFILE`` if it is one of the three, else ``dev``. A guard
    in production looks at these variables only when it counts.
    """
    global _chosen
    _chosen = find(mode).name
    for tell in _told:
        tell()


def when_changed(tell: Callable[[], None]) -> None:
    """Calls a function after each :func:`configure`."""
    _told.append(tell)


def find(name: str) -> Mode:
    """The mode of a name."""
    if name not in MODES:
        raise GpupinError(f"there is no mode `{name}`; there are {', '.join(f'`{it}`' for it in MODES)}")
    return MODES[name]


def mode() -> Mode:
    """The mode that counts now."""
    profile = os.environ.get("GPUPIN_PROFILE", "")
    return find(_chosen or os.environ.get(VARIABLE) or (profile if profile in MODES else "dev"))
