"""What the ``gpupin`` program says of memory samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpupin import binary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpupin.counters import Sample


@dataclass(frozen=True)
class Growth:
    """One counter over the guarded calls."""

    counter: str
    """``allocated``, ``non_releasable``, ``cache``, ``driver``, ``others``, ``host`` or ``pinned``."""
    meaning: str
    """``tensor leak``, ``fragmentation``, ``cache``, ``driver or extension leak``, ``host leak``, ``other processes``."""
    verdict: str
    """``steady``, ``suspect``, ``leak`` or ``inconclusive``."""
    shape: str
    """``steady``, ``step``, ``decelerating``, ``growing`` or ``unclear``."""
    growth: int
    """Bytes from the first floor to the last."""
    per_call: float
    """Bytes per call, by the floors' slope."""
    per_call_low: float
    per_call_high: float
    """The ends of its 95 % interval."""


@dataclass(frozen=True)
class Verdict:
    """Which memory grows. ``str()`` is a text for people."""

    name: str
    outcome: str
    """``steady``; ``suspect``: exact growth below the threshold; ``leak``; ``contaminated``: other processes moved too much on
    the GPU; ``inconclusive``: more calls are needed; ``insufficient``: too few samples to say anything."""
    counters: tuple[Growth, ...]
    calls: int
    seconds: float
    seconds_to_out_of_memory: float | None
    """If it goes on like this."""
    text: str
    tidied: tuple[str, ...] = ()
    """What was cleaned up afterwards."""
    hints: tuple[str, ...] = ()
    """Where to look."""

    @property
    def is_bad(self) -> bool:
        """Whether something leaks."""
        return self.outcome == "leak"

    @property
    def is_ok(self) -> bool:
        """Whether it is known that nothing grows."""
        return self.outcome == "steady"

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.text}", *(f"  {it}" for it in (*self.hints, *self.tidied))])


def judge(
    name: str,
    samples: Sequence[Sample],
    *,
    threshold: int,
    warmups: int,
    capacity: int | None,
    pace: str,
) -> Verdict:
    """Asks the program. ``pace`` is ``calls`` or ``time``: what growth is counted over."""
    document = {
        "version": 1,
        "threshold": threshold,
        "warmups": warmups,
        "capacity": capacity,
        "pace": pace,
        "samples": [it.as_json() for it in samples],
    }
    return parse(name, binary.ask("judge", given=json.dumps(document)))


def parse(name: str, document: dict[str, Any]) -> Verdict:
    """Reads ``wire/python-verdict.json``."""
    return Verdict(
        name=name,
        outcome=document["outcome"],
        counters=tuple(
            Growth(
                counter=it["counter"],
                meaning=it["meaning"],
                verdict=it["verdict"],
                shape=it["shape"],
                growth=it["growth"],
                per_call=it["per_call"],
                per_call_low=it["per_call_low"],
                per_call_high=it["per_call_high"],
            )
            for it in document["counters"]
        ),
        calls=document["calls"],
        seconds=document["seconds"],
        seconds_to_out_of_memory=document["seconds_to_out_of_memory"],
        text=document["text"],
    )
