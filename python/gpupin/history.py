"""Where memory comes from, as far as torch tells: its allocation history, and its live tensors."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_MOST_EVENTS = 100_000
"""Without a bound torch's own record grows by kilobytes an event, without end."""
_MOST_HINTS = 5
_MB = 1_000_000

_kept = False


def keep() -> None:
    """Starts torch's record of allocations, as a ring, if torch uses a GPU."""
    global _kept
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    record = getattr(torch.cuda.memory, "_record_memory_history", None)
    if record is None:
        return
    try:
        record(max_entries=_MOST_EVENTS, stacks="python")
    except (TypeError, RuntimeError):
        # Private, so that any version may refuse.
        return
    _kept = True


def stop() -> None:
    """Ends the record."""
    global _kept
    torch: Any = sys.modules.get("torch")
    if _kept and torch is not None:
        torch.cuda.memory._record_memory_history(enabled=None)
    _kept = False


def hints(policy: str | None) -> list[str]:
    """Where to look: what lives on the GPU now, by size, shape and the line that made it.

    Below the directory of ``policy`` are the project's own lines.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [*_tensors(torch), *_lines(torch, None if policy is None else Path(policy).parent)]


def _tensors(torch: Any) -> list[str]:
    is_tensor = getattr(torch, "is_tensor", None)
    if is_tensor is None:
        return []
    bytes_of: Counter[tuple[str, str]] = Counter()
    number_of: Counter[tuple[str, str]] = Counter()
    seen: set[int] = set()
    for it in gc.get_objects():
        try:
            if not is_tensor(it) or not it.is_cuda:
                continue
            storage = it.untyped_storage()
            if storage.data_ptr() in seen:
                # Views share their memory.
                continue
            seen.add(storage.data_ptr())
            key = (str(tuple(it.shape)), str(it.dtype))
            bytes_of[key] += storage.nbytes()
            number_of[key] += 1
        except Exception:
            continue
    return [
        f"{number_of[key]} live tensors of shape {key[0]} {key[1]}: {_bytes(size)}"
        for key, size in bytes_of.most_common(_MOST_HINTS)
    ]


def _lines(torch: Any, project: Path | None) -> list[str]:
    if not _kept:
        return []
    try:
        snapshot: dict[str, Any] = torch.cuda.memory._snapshot()
    except Exception:
        return []
    sizes: Counter[str] = Counter()
    for segment in snapshot.get("segments", []):
        for block in segment.get("blocks", []):
            if block.get("state") == "active_allocated":
                sizes[_place(block.get("frames", []), project)] += int(block.get("size", 0))
    return [f"{_bytes(size)} allocated at {place}" for place, size in sizes.most_common(_MOST_HINTS) if place]


def _place(frames: list[dict[str, Any]], project: Path | None) -> str:
    """The innermost line that is not torch's own, and the project's line that came to it."""
    lines = [(str(it.get("filename", "")), f"{it.get('filename')}:{it.get('line')}") for it in frames]
    others = [it for it in lines if it[0].endswith(".py") and "/torch/" not in it[0] and "/gpupin/" not in it[0]]
    if not others:
        return ""
    own = next((it for it in others if project is not None and _is_own(Path(it[0]), project)), others[0])
    return others[0][1] if own == others[0] else f"{others[0][1]}, called at {own[1]}"


def _is_own(path: Path, project: Path) -> bool:
    """An environment in the project's directory is not the project's."""
    return project in path.parents and "site-packages" not in path.parts


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= _MB else f"{size / 1e3:.1f} kB"
