"""Guarding calls and loops against memory that grows."""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import itertools
import json
import math
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

from gpupin import configuring, history
from gpupin.counters import Counters, settle, tidy
from gpupin.errors import GpupinError, MemoryGrowth
from gpupin.off import is_off, tell, tell_once
from gpupin.plan import leak_threshold, resolve
from gpupin.verdict import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
    from types import TracebackType

    from gpupin.configuring import Mode
    from gpupin.counters import Sample

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")

_MOST_SAMPLES = 4096
"""A guard that lives longer keeps every second sample, so that its memory is bounded."""


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
    what a test wants. A call of a coroutine function or generator counts when it ends, also where it ends with an exception,
    which goes before :class:`MemoryGrowth`.

    Around a loop::

        with gpupin.guard("training") as g:
            for batch in g.steps(loader):
                train(batch)

    The verdict names the counter that grew: live tensors, fragmentation, cache, what the driver or an extension holds, host
    memory; or says that other processes moved too much on the GPU to tell. ``threshold`` is in bytes, by default the
    policy's ``guard.leak-threshold``. What happens then is the mode's matter: see :func:`gpupin.configure`. A process that was
    forked counts for itself.
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
        self.name = name or _UNNAMED
        self.warmups = warmups
        self.calls = calls
        self.repeat = repeat
        self._threshold = threshold
        self._mode = None if mode is None else configuring.find(mode)
        self._is_active = False
        """It decorates something, or its block is running."""
        self._series: _Series | None = None
        self._calls = itertools.count(1)
        """Counts without a lock; each call takes its number."""
        self._done = 0
        """The number of the last call that was looked at."""
        self._next = 0
        self._last = -math.inf
        self._due = 0.0
        """Nothing is looked at before, and only the clock is read. 0 where every call is."""
        self._pace = "calls"
        # A signal's handler may change the mode in the middle.
        self._lock = threading.RLock()
        self.verdict: Verdict | None = None
        """The last one, once there is any."""
        with _all_lock:
            _all.add(self)

    @property
    def mode(self) -> Mode:
        """How much this guard does."""
        return self._mode or configuring.mode()

    def wake(self) -> None:
        """Looks at the next call: the mode has changed."""
        with self._lock:
            self._due = 0.0

    def forked(self) -> None:
        """What a parent counted is not this process's, and one of its other threads may have had the lock."""
        self._lock = threading.RLock()
        self._restart()

    def _restart(self) -> None:
        self._series, self._calls, self._done, self._last, self._due = None, itertools.count(1), 0, -math.inf, 0.0

    # As a decorator.

    def __call__(self, function: _F) -> _F:
        """Guards a function, method, coroutine function or generator."""
        if isinstance(function, (staticmethod, classmethod)):
            method = cast("Any", function)
            return cast("_F", type(method)(self(method.__func__)))
        if self.name == _UNNAMED:
            self.name = getattr(function, "__qualname__", _UNNAMED)
        is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        if self.repeat and is_generator:
            raise GpupinError(f"`{self.name}` is a generator, which cannot be repeated; guard the loop over it with `steps`")
        self._is_active = not self.repeat
        if self.repeat:
            wrap = _repeating_coroutine if inspect.iscoroutinefunction(function) else _repeating
        elif inspect.isasyncgenfunction(function):
            wrap = _counting_async_generator
        elif is_generator:
            wrap = _counting_generator
        elif inspect.iscoroutinefunction(function):
            wrap = _counting_coroutine
        else:
            wrap = _counting
        return cast("_F", functools.wraps(function)(wrap(self, function)))

    def called(self, *, has_failed: bool = False) -> None:
        """A call has ended."""
        number = next(self._calls)
        if time.monotonic() >= self._due:
            self._look(number, has_failed=has_failed)

    def _look(self, number: int, *, has_failed: bool = False) -> None:
        sampled = self._sample(number)
        if sampled is None:
            return
        mode, done = sampled
        with self._lock:
            due = done >= self._next
            if due:
                self._next = 2 * done
        if due and done > self.warmups:
            self._conclude(mode, raises=not has_failed)

    def again(self) -> guard:
        """One that is the same and has seen nothing: calls at the same time are judged apart."""
        return guard(
            self.name,
            warmups=self.warmups,
            calls=self.calls,
            threshold=self._threshold,
            mode=None if self._mode is None else self._mode.name,
        )

    # As a context.

    def __enter__(self) -> guard:
        self._is_active = not is_off(_OFF)
        if not self._is_active:
            return self
        mode = self.mode
        self._restart()
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
            # It is off, or in a process that was forked inside and did nothing.
            self._is_active = False
            return
        mode = self.mode
        if self._done == 0:
            self.step()
        try:
            self._conclude(mode, raises=kind is None)
        finally:
            self._is_active = False
            if mode.keeps_history:
                history.stop()

    def step(self) -> None:
        """An iteration is done: a good moment to read the counters."""
        number = next(self._calls)
        if time.monotonic() >= self._due:
            self._sample(number)

    def steps(self, items: Iterable[_T]) -> Iterator[_T]:
        """Gives the items one after the other; each is an iteration."""
        for item in items:
            yield item
            self.step()

    # Both.

    def _sample(self, number: int) -> tuple[Mode, int] | None:
        """Reads the counters if that is due, and tells in which mode and after which call."""
        with self._lock:
            now = time.monotonic()
            if not self._is_active:
                self._due = math.inf
                return None
            if is_off(_OFF):
                self._due = now + _OFF_PACE
                return None
            mode = self.mode
            if mode.pace and now - self._last < mode.pace:
                self._due = self._last + mode.pace
                return None
            series = self._begin(mode)
            if not mode.pace:
                settle()
            # Another thread's call may have ended since and been looked at before this one.
            self._done = max(self._done, number)
            series.add(self._done)
            self._last = now
            self._due = now + mode.pace if mode.pace else 0.0
            return mode, self._done

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
        try:
            verdict = judge(
                self.name,
                list(series.samples),
                threshold=leak_threshold() if self._threshold is None else self._threshold,
                warmups=self.warmups,
                capacity=series.counters.capacity,
                pace=self._pace,
            )
        except GpupinError as error:
            if mode.fails and raises:
                raise
            # It is no reason for a program to end that works.
            tell_once(f"{self.name}: memory is counted and not judged: {error}")
            return
        hints = _hints() if verdict.outcome in {"leak", "suspect"} else []
        tidied = tidy() if mode.tidies else []
        verdict = _with(verdict, tidied, hints)
        self.verdict = verdict
        _report(verdict)
        if verdict.is_bad and mode.fails and raises:
            raise MemoryGrowth(verdict)
        if verdict.outcome in {"leak", "suspect"} and mode.name != "production":
            tell(str(verdict))


_UNNAMED = "guard"
_OFF = "nothing guards memory"
_OFF_PACE = 10.0
"""After so many seconds it is looked again whether gpupin is off."""

_all: weakref.WeakSet[guard] = weakref.WeakSet()
_all_lock = threading.Lock()


def _each() -> list[guard]:
    with _all_lock:
        return list(_all)


def _wake() -> None:
    for it in _each():
        it.wake()


def _forked() -> None:
    global _all_lock
    _all_lock = threading.Lock()
    for it in _each():
        it.forked()


configuring.when_changed(_wake)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# What a guard makes of a function. The first is what a service pays for at every call: between two looks it takes a number, reads
# the clock and compares, and nothing else.


def _counting(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    now = time.monotonic

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except BaseException:
            self.called(has_failed=True)
            raise
        number = next(self._calls)  # pyright: ignore[reportPrivateUsage]
        if now() >= self._due:  # pyright: ignore[reportPrivateUsage]
            self._look(number)  # pyright: ignore[reportPrivateUsage]
        return result

    return guarded


def _counting_coroutine(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            self.called(has_failed=True)
            raise
        self.called()
        return result

    return guarded


def _counting_generator(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        try:
            inner: Generator[Any, Any, Any] = function(*args, **kwargs)
            result: Any = yield from inner
        except BaseException:
            # Also one that nobody wants more of.
            self.called(has_failed=True)
            raise
        self.called()
        return result

    return guarded


def _counting_async_generator(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        sent: Any = None
        try:
            while True:
                try:
                    item = await inner.asend(sent)
                except StopAsyncIteration:
                    break
                while True:
                    try:
                        sent = yield item
                        break
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:
                        item = await inner.athrow(error)
        except BaseException:
            self.called(has_failed=True)
            raise
        self.called()

    return guarded


def _repeating(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        result = None
        with _repeated(self) as (g, times):
            for _ in range(times):
                result = function(*args, **kwargs)
                g.step()
        return result

    return guarded


def _repeating_coroutine(self: guard, function: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        result = None
        with _repeated(self) as (g, times):
            for _ in range(times):
                result = await function(*args, **kwargs)
                g.step()
        return result

    return guarded


@contextlib.contextmanager
def _repeated(self: guard) -> Generator[tuple[guard, int]]:
    """A guard for this call alone, and how often the function is to be called."""
    inner = self.again()
    try:
        with inner:
            yield inner, 1 if is_off(_OFF) else self.warmups + self.calls
    finally:
        self.verdict = inner.verdict


def _with(verdict: Verdict, tidied: list[str], hints: list[str]) -> Verdict:
    from dataclasses import replace

    return replace(verdict, tidied=tuple(f"afterwards: {it}" for it in tidied), hints=tuple(hints))


def _hints() -> list[str]:
    """Where to look. A guard works without a policy, and then knows less."""
    try:
        plan = resolve(None, None)
    except GpupinError:
        return history.hints(None)
    hints = history.hints(plan.policy)
    if plan.is_simulated:
        hints.append(f"the machine is {plan.kind}: this proves nothing about hardware")
    return hints


def _uuid() -> str | None:
    """The GPU that is pinned, if a policy says which."""
    try:
        plan = resolve(None, None)
    except GpupinError as error:
        tell_once(f"what the driver says of memory is not counted, because it is not known of which GPU: {error}")
        return None
    if plan.is_simulated:
        tell_once(f"the machine is {plan.kind}, and so is what its driver says of memory")
    return plan.chosen[0].uuid if len(plan.chosen) == 1 else None


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
            threshold=leak_threshold(),
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
