"""What can go wrong, each with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpupin.gpu import Gpu
    from gpupin.verdict import Verdict


class GpupinError(RuntimeError):
    """Anything that gpupin refuses or cannot do."""


class BinaryNotFound(GpupinError):
    """The ``gpupin`` program is not installed beside this package and not on ``PATH``, or too old for it."""


class PolicyError(GpupinError):
    """There is no policy, or it cannot be used."""


class NoMatchingGpu(GpupinError):
    """No GPU of this machine is the policy's."""


class OutsidePin(GpupinError):
    """Something set another pin before this program, and the policy does not let it stay."""


class PinTooLate(GpupinError):
    """CUDA has read its environment already: what is set now does nothing.

    ``suspect`` is the module that probably started CUDA. It is inferred from what is imported, not observed.
    """

    def __init__(self, message: str, suspect: str | None) -> None:
        super().__init__(message)
        self.suspect = suspect


class DriverError(GpupinError):
    """The CUDA driver is missing, or a call of it failed. ``code`` is its error code, if it gave one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class WrongGpu(GpupinError):
    """The program is on another GPU than the policy wants.

    ``expected`` are the GPUs that would do, ``actual`` is what CUDA calls ordinal 0 (``None``: no GPU), ``why`` tells
    how that came about as far as it is known, and ``fix`` what to do.
    """

    def __init__(self, expected: Sequence[Gpu], actual: Gpu | None, why: str, fix: str) -> None:
        wanted = " or ".join(str(it) for it in expected) or "no GPU"
        super().__init__(f"this program is on {actual or 'no GPU'}, not on {wanted}: {why}\n  {fix}")
        self.expected = tuple(expected)
        self.actual = actual
        self.why = why
        self.fix = fix


class LeaseTimeout(GpupinError, TimeoutError):
    """The GPU was not free in time."""


class MemoryGrowth(GpupinError):
    """A guarded call or loop leaks memory. ``verdict`` has the counters and figures."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict
