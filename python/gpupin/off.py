"""``GPUPIN=off``: everything here does nothing, and says so."""

from __future__ import annotations

import os
import sys

VARIABLE = "GPUPIN"

_told: set[str] = set()


def is_off(what: str) -> bool:
    """Whether gpupin is switched off. Tells once what is not done because of it."""
    if os.environ.get(VARIABLE, "").strip().lower() not in {"off", "0", "no", "false"}:
        return False
    tell_once(f"`{VARIABLE}={os.environ[VARIABLE]}`: {what}")
    return True


def tell_once(line: str) -> None:
    """The same, and never again in this process."""
    if line not in _told:
        _told.add(line)
        tell(line)


def tell(line: str) -> None:
    """One line for who runs the program."""
    # A service may have closed it.
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
        print(f"gpupin: {line}", file=sys.stderr, flush=True)
