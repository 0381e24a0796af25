"""Guarding calls and loops against memory that grows."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

from gpupin import configuring, history
from gpupin.counters import Counters, settle, tidy
from gpupin.errors import GpupinError, MemoryGrowth
from gpupin.off import is_off, tell
from gpupin.plan import resolve
from gpupin.verdict import Verdict, judge

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Iterator
    from types import TracebackType

    from gpupin.configuring import Mode
    from gpupin.counters import Sample
    from gpupin.plan import Plan

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")

_MOST_SAMPLES = 4096
"""A guard that lives longer keeps every second sample, so that its memory is bounded."""
_DEFAULT_THRESHOLD = 100_000_000
"""Bytes; what the policy says by default."""


class _Series:
    """Samples of one guard, bounded."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.samples: list[Sample] = []
        self._stride = 1
        self._skipped = 0

    def add(self, call: int) -> None:
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self.samples.append(self.counters.read(call))
        if len(self.samples) >= _MOST_SAMPLES:
            del self.samples[1::2]
            self._stride *= 2


class guard:  # noqa: N801 - used like a function
    """Tells which memory grows, call by call.

    As a decorator, ``@gpupin.guard()``: every call counts, and is judged after ``warmups + calls`` of them and whenever
    their number has doubled. With ``repeat`` one call of the function is many: it is repeated until it can be judged, which is
    what a test wants.

    Around a loop::

        with gpupin.guard("training") as g:
            for batch in g.steps(loader):
                train(batch)

    The verdict names the counter that grew: live tensors, fragmentation, cache, what the driver or an extension holds, host
    memory; or says that other processes moved too much on the GPU to tell. ``threshold`` is in bytes, by default the
    policy's ``guard.leak-threshold``. What happens then is the mode's matter: see :func:`gpupin.configure`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        warmups: int = 3,
        calls: int = 10,
        repeat: bool = False,
        threshold: int | None = None,
        mode: str | None = None,
    ) -> None:
        if warmups < 0 or calls < 1:
            raise GpupinError("a guard needs at least 0 warm-ups and 1 call")
        self.name = name or "guard"
        self.warmups = warmups
        self.calls = calls
        self.repeat = repeat
        self._threshold = threshold
        self._mode = None if mode is None else configuring.find(mode)
        self._series: _Series | None = None
        self._done = 0
        self._next = 0
        self._last = 0.0
        self._pace = "calls"
        self._lock = threading.Lock()
        self.verdict: Verdict | None = None
        """The last one, once there is any."""

    @property
    def mode(self) -> Mode:
        """How much this guard does."""
        return self._mode or configuring.mode()

    # As a decorator.

    def __call__(self, function: _F) -> _F:
        """Guards a function."""
        if self.name == "guard":
            self.name = getattr(function, "__qualname__", "guard")

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self.repeat:
                return self._repeat(lambda: function(*args, **kwargs))
            try:
                return function(*args, **kwargs)
            finally:
                self._count()

        return cast("_F", guarded)

    def _repeat(self, call: Callable[[], _T]) -> _T:
        if is_off("nothing guards memory"):
            return call()
        with self:
            for _ in range(self.warmups + self.calls - 1):
                call()
                self.step()
            result = call()
            self.step()
        return result

    def _count(self) -> None:
        if is_off("nothing guards memory"):
            return
        mode = self.mode
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if mode.pace and self._series is not None and now - self._last < mode.pace:
                return
            self._last = now
            series = self._begin(mode)
            if not mode.pace:
                settle()
            series.add(self._done)
            due = self._done >= self._next
            if due:
                self._next = 2 * self._done
        if due and self._done > self.warmups:
            # The function's own exception goes before ours.
            self._conclude(mode, raises=sys.exc_info()[0] is None)

    # As a context.

    def __enter__(self) -> guard:
        if is_off("nothing guards memory"):
            return self
        mode = self.mode
        self._series, self._done, self._last = None, 0, 0.0
        if mode.tidies:
            tidy()
        if mode.keeps_history:
            history.keep()
        self._begin(mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._series is None:
            return
        mode = self.mode
        if self._done == 0:
            self.step()
        try:
            self._conclude(mode, raises=kind is None)
        finally:
            if mode.keeps_history:
                history.stop()

    def step(self) -> None:
        """An iteration is done: a good moment to read the counters."""
        if self._series is None:
            return
        mode = self.mode
        self._done += 1
        now = time.monotonic()
        if mode.pace and now - self._last < mode.pace:
            return
        self._last = now
        if mode.pace:
            self._series.add(self._done)
        else:
            settle()
            self._series.add(self._done)

    def steps(self, items: Iterable[_T]) -> Iterator[_T]:
        """Gives the items one after the other; each is an iteration."""
        for item in items:
            yield item
            self.step()

    # Both.

    def _begin(self, mode: Mode) -> _Series:
        if self._series is None:
            self._series = _Series(Counters(_uuid()))
            self._next = self.warmups + self.calls
            if not mode.pace:
                settle()
            self._series.add(0)
        return self._series

    def _conclude(self, mode: Mode, *, raises: bool) -> None:
        series = self._series
        assert series is not None
        hints: list[str] = []
        verdict = judge(
            self.name,
            series.samples,
            threshold=_threshold() if self._threshold is None else self._threshold,
            warmups=self.warmups,
            capacity=series.counters.capacity,
            pace=self._pace,
        )
        if verdict.outcome in {"leak", "suspect"}:
            plan = _plan()
            hints = history.hints(None if plan is None else plan.policy)
            if plan is not None and plan.is_simulated:
                hints.append(f"the machine is {plan.kind}: this proves nothing about hardware")
        tidied = tidy() if mode.tidies else []
        verdict = _with(verdict, tidied, hints)
        self.verdict = verdict
        _report(verdict)
        if verdict.is_bad and mode.fails and raises:
            raise MemoryGrowth(verdict)
        if verdict.outcome in {"leak", "suspect"} and mode.name != "production":
            tell(str(verdict))


def _with(verdict: Verdict, tidied: list[str], hints: list[str]) -> Verdict:
    from dataclasses import replace

    return replace(verdict, tidied=tuple(f"afterwards: {it}" for it in tidied), hints=tuple(hints))


def _plan() -> Plan | None:
    """What a policy says of this program. A guard works without one, and then knows less."""
    try:
        return resolve(None, None)
    except GpupinError:
        return None


def _uuid() -> str | None:
    """The GPU that is pinned."""
    plan = _plan()
    return plan.chosen[0].uuid if plan is not None and len(plan.chosen) == 1 else None


def _threshold() -> int:
    plan = _plan()
    return _DEFAULT_THRESHOLD if plan is None else plan.leak_threshold


_listeners: list[Callable[[Verdict], None]] = []


def _report(verdict: Verdict) -> None:
    for listener in list(_listeners):
        listener(verdict)


@contextlib.contextmanager
def listening(listener: Callable[[Verdict], None]) -> Generator[None]:
    """Hears every verdict of this process meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class MemoryWatch:
    """Counters of a long-running program, read now and then by a thread. See :func:`watch_memory`."""

    def __init__(self, name: str, every: float, export: Path | None) -> None:
        self.name = name
        self._every = every
        self._export = export
        self._series = _Series(Counters(_uuid()))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gpupin-{name}", daemon=True)
        self._started = time.monotonic()
        self._ticks = 0
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._read()
            if self._stop.wait(self._every):
                return

    def _read(self) -> None:
        self._series.add(self._ticks)
        self._ticks += 1
        if self._export is not None:
            with contextlib.suppress(OSError):
                _replace(self._export, self.metrics())

    def metrics(self) -> str:
        """The last counters in Prometheus's text format, for the node exporter's textfile collector and its like."""
        if not self._series.samples:
            return ""
        last = self._series.samples[-1].as_json()
        label = json.dumps(self.name)
        lines: list[str] = []
        for counter, help_ in _METRICS.items():
            value = last[counter]
            if value is None:
                # Unknown is no number.
                continue
            metric = f"gpupin_memory_{counter}_bytes"
            lines += [f"# HELP {metric} {help_}", f"# TYPE {metric} gauge", f"{metric}{{name={label}}} {value}"]
        return "\n".join([*lines, ""])

    def verdict(self) -> Verdict:
        """Which memory grew since the start; the first fifth counts as warm-up."""
        samples = list(self._series.samples)
        return judge(
            self.name,
            samples,
            threshold=_threshold(),
            warmups=len(samples) // 5,
            capacity=self._series.counters.capacity,
            pace="time",
        )

    def stop(self) -> Verdict:
        """Ends watching, and judges."""
        self._stop.set()
        self._thread.join()
        return self.verdict()


_METRICS = {
    "allocated": "Memory of live tensors, by the framework.",
    "non_releasable": "Free parts of blocks in use.",
    "cache": "Memory that the framework keeps for later.",
    "driver": "Memory of the process beside its framework's.",
    "others": "Memory on the GPU that is not this process's.",
    "host": "Resident host memory.",
    "pinned": "Pinned host memory.",
}


def watch_memory(
    name: str = "program",
    *,
    every: float = 10.0,
    export: str | os.PathLike[str] | None = None,
) -> MemoryWatch:
    """Counts memory every ``every`` seconds in a thread until the program ends, and never interferes.

    ``export`` names a file that always holds the last counters in Prometheus's text format. ``verdict()`` of the result judges
    what was seen so far.
    """
    if every <= 0:
        raise GpupinError("the time between two samples must be positive")
    watch = MemoryWatch(name, every, None if export is None else Path(export))
    atexit.register(watch._stop.set)  # pyright: ignore[reportPrivateUsage]
    return watch


def _replace(path: Path, text: str) -> None:
    """A reader finds the old text or the new one."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
