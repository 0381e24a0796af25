"""Holding the policy's GPU from inside a program.

The ``gpupin`` program waits in the same queue as everybody, and hands the locked ticket's descriptor over. From then on the
kernel frees the GPU when the last process that has the descriptor ends, however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import shlex
import socket
import sys
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar, Union, cast

from gpupin import binary
from gpupin.errors import GpupinError
from gpupin.off import is_off, tell, tell_once
from gpupin.plan import LEASE_VARIABLE, PROFILE_VARIABLE, ROLE_VARIABLE, arguments, program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator
    from types import TracebackType

_F = TypeVar("_F", bound=Callable[..., Any])

Timeout = Union[str, float, timedelta, None]
"""Seconds, or a text such as ``10min``; ``None`` is what the policy says, 0 does not wait."""

_MOST_BYTES, _MOST_DESCRIPTORS = 1 << 16, 64


@dataclass
class _Held:
    """A lease that this process holds, once for all who ask for the same."""

    key: tuple[str | None, str | None]
    gpus: tuple[str, ...]
    waited: float
    descriptors: list[int]
    tickets: list[Path]
    receipt: dict[str, Any] | None
    """What the program wants back to log that the lease was given back. ``None`` if an outer lease holds the GPUs."""
    before: str | None
    """What the variable was."""
    process: int = field(default_factory=os.getpid)
    users: int = 1
    has_forked: bool = False


_lock = threading.RLock()
_held: list[_Held] = []


class lease:  # noqa: N801 - used like a function
    """Waits for the policy's GPU, and holds it: ``with gpupin.lease(): …`` or ``@gpupin.lease()``.

    A function that is decorated holds it while it runs: a coroutine function until it is done, a generator from its first item to
    its last. Waiting blocks the thread, and so the loop that a coroutine runs in.

    First come, first served, among everything that uses gpupin on this machine; who waits sees for whom. The GPU is given
    back at the end of the block. Processes that were forked inside keep it until they end too; those that were spawned find
    ``GPUPIN_LEASE`` and do not wait again. In one process the same lease may be taken again, by any thread.

    ``timeout`` is in seconds, a text such as ``"10min"`` or a ``timedelta``; by default what the policy says. Raises
    :class:`LeaseTimeout` (a ``TimeoutError``) if the GPU was not free in time. A lease does not pin: see :func:`gpupin.pin`.
    """

    def __init__(self, role: str | None = None, *, profile: str | None = None, timeout: Timeout = None) -> None:
        self._role = role
        self._profile = profile
        self._timeout = timeout
        self._stack: list[_Held] = []

    def __call__(self, function: _F) -> _F:
        if inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", "it")
            advice = "use `with gpupin.lease():` around its loop"
            raise GpupinError(f"`{name}` is an asynchronous generator, which cannot be decorated; {advice}")
        wrap = _holding
        if inspect.iscoroutinefunction(function):
            wrap = _holding_coroutine
        elif inspect.isgeneratorfunction(function):
            wrap = _holding_generator
        return cast("_F", functools.wraps(function)(wrap(self, function)))

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs that are held."""
        return self._stack[-1].gpus if self._stack else ()

    @property
    def waited(self) -> float:
        """How long it took to get them, in seconds."""
        return self._stack[-1].waited if self._stack else 0.0

    def __enter__(self) -> lease:
        if is_off("nothing holds the GPU for this program"):
            return self
        with _lock:
            # A decorator is made before the program is pinned.
            key = (self._role or os.environ.get(ROLE_VARIABLE) or None, self._profile or os.environ.get(PROFILE_VARIABLE) or None)
            held = next((it for it in _held if it.key == key and it.process == os.getpid()), None)
            if held is None:
                held = self._take(key)
                _held.append(held)
            else:
                held.users += 1
            self._stack.append(held)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._stack:
            return
        with _lock:
            held = self._stack.pop()
            held.users -= 1
            if held.users == 0:
                _held.remove(held)
                _give_back(held)

    def _take(self, key: tuple[str | None, str | None]) -> _Held:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here:
            with there:
                process = binary.start(self._line(key, there.fileno()), pass_fds=[there.fileno()])
            with process:
                try:
                    told = _relay(process)
                    code = process.wait()
                except BaseException:
                    # Whoever interrupts this does not wait for the GPU any more.
                    process.kill()
                    raise
            if code != 0:
                binary.refuse(code, told)
            message, descriptors, _, _ = socket.recv_fds(here, _MOST_BYTES, _MOST_DESCRIPTORS)
        for descriptor in descriptors:
            # A program that is started must not keep the GPU by accident.
            os.set_inheritable(descriptor, False)
        document: dict[str, Any] = binary.answer(code, message.decode(), "")
        before = os.environ.get(LEASE_VARIABLE)
        if document["variable"] is None:
            tell("the GPU is not here, and the policy lets this program run without it: nothing is held")
        else:
            os.environ[LEASE_VARIABLE] = document["variable"]
        receipt: dict[str, Any] | None = document["receipt"]
        if receipt is not None and receipt["kind"] != "measured":
            tell_once(f"the machine is {receipt['kind']}, and so is what is held of it")
        return _Held(
            key=key,
            gpus=tuple(document["gpus"]),
            waited=document["waited_ms"] / 1000,
            descriptors=list(descriptors),
            tickets=[Path(it) for it in document["tickets"]],
            receipt=receipt,
            before=before,
        )

    def _line(self, key: tuple[str | None, str | None], descriptor: int) -> list[str]:
        line = binary.command("lease", "--socket", str(descriptor), "--holder", str(os.getpid()))
        line += ["--command", shlex.join(["python", *sys.argv])]
        line += arguments(*key, program())
        timeout = _time(self._timeout)
        return line if timeout is None else [*line, "--timeout", timeout]


def _holding(self: lease, function: Callable[..., Any]) -> Callable[..., Any]:
    def holding(*args: Any, **kwargs: Any) -> Any:
        with self:
            return function(*args, **kwargs)

    return holding


def _holding_coroutine(self: lease, function: Callable[..., Any]) -> Callable[..., Any]:
    async def holding(*args: Any, **kwargs: Any) -> Any:
        with self:
            return await function(*args, **kwargs)

    return holding


def _holding_generator(self: lease, function: Callable[..., Any]) -> Callable[..., Any]:
    items = cast("Callable[..., Generator[Any, Any, Any]]", function)

    def holding(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with self:
            return (yield from items(*args, **kwargs))

    return holding


def _relay(process: subprocess.Popen[str]) -> str:
    """Passes on what the program says while it waits, and returns its errors."""
    errors: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        if errors or line.startswith("error: "):
            errors.append(line)
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
    return "".join(errors)


def _time(timeout: Timeout) -> str | None:
    if timeout is None or isinstance(timeout, str):
        return timeout
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if seconds < 0:
        raise GpupinError(f"a timeout cannot be negative: {seconds} s")
    return f"{round(seconds * 1000)}ms"


def _give_back(held: _Held) -> None:
    if held.before is None:
        os.environ.pop(LEASE_VARIABLE, None)
    else:
        os.environ[LEASE_VARIABLE] = held.before
    others = _others(held) if held.has_forked else []
    _free(held, others)
    if not others and held.receipt is not None:
        # It is for reports, and the GPU is free already: no reason to fail, not even while the interpreter ends.
        with contextlib.suppress(GpupinError, OSError, RuntimeError):
            binary.tell("give-back", given=json.dumps(held.receipt))


def _free(held: _Held, others: list[int]) -> None:
    if others:
        which = ", ".join(map(str, others))
        tell(f"the GPU stays held until what was forked meanwhile has ended too (pid {which})")
    else:
        for ticket in held.tickets:
            # A ticket that stays is a dead one, which others see through.
            with contextlib.suppress(OSError):
                ticket.unlink()
    _close(held)


def _close(held: _Held) -> None:
    for descriptor in held.descriptors:
        os.close(descriptor)
    held.descriptors.clear()


def _others(held: _Held) -> list[int]:
    """Other processes that have the ticket's descriptor."""
    tickets = {str(it) for it in held.tickets}
    found: list[int] = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            links = [os.readlink(it) for it in (process / "fd").iterdir()]  # noqa: PTH115 - `readlink` of pathlib may fail on what is no path
        except OSError:
            # Of somebody else, or gone.
            continue
        if tickets.intersection(links):
            found.append(int(process.name))
    return sorted(found)


def _forked() -> None:
    for held in _held:
        held.has_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_forked)
