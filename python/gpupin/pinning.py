"""Setting the pin from inside the program."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpupin import driver
from gpupin.errors import GpupinError, OutsidePin, PinTooLate
from gpupin.off import is_off, tell
from gpupin.plan import PIN_VARIABLE, PROFILE_VARIABLE, ROLE_VARIABLE, Plan, resolve

if TYPE_CHECKING:
    from gpupin.gpu import Gpu

_MASKS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""What CUDA reads when it starts, and never again."""

_STARTERS = (
    "torch",
    "tensorflow",
    "jax",
    "cupy",
    "numba.cuda",
    "pycuda",
    "paddle",
    "bitsandbytes",
    "vllm",
    "llama_cpp",
    "ctranslate2",
    "onnxruntime",
    "cuda.bindings",
    "cuda.core",
    "cudf",
    "rmm",
)
"""Modules that start CUDA when they are imported or used. Those that wrap others stand behind them."""


@dataclass(frozen=True)
class Pin:
    """What :func:`pin` did."""

    gpus: tuple[Gpu, ...]
    """The GPUs that CUDA will show, by ordinal. Empty where the policy lets the program run without one, or gpupin is off."""
    changed: dict[str, str]
    """The variables that were set. Empty if somebody had set them, such as ``gpupin run``."""
    is_kept: bool = False
    """A mask from outside stays, as the policy says; whether it leads to the policy's GPU is not certain."""
    is_simulated: bool = False
    """No driver named these GPUs."""
    is_off: bool = False
    """``GPUPIN=off``: nothing was done."""


_pinned: tuple[tuple[str | None, str | None], Pin] | None = None


def pin(role: str | None = None, *, profile: str | None = None) -> Pin:
    """Pins this process, and what it starts, to the policy's GPU.

    Sets mask, device order and the policy's ``[env]``. Call it before anything initialises CUDA; best as the first
    statement, or by ``import gpupin.auto``. Under ``gpupin run`` everything is set already, and this only checks.

    ``role`` is a role of the policy, by default the one whose entry points name the started program, or what
    ``GPUPIN_ROLE`` says. ``profile`` is a profile of the policy, by default what ``GPUPIN_PROFILE`` says. Both variables are set
    then, so that what asks later, here or in a program that is started, means the same.

    Raises :class:`PinTooLate` if CUDA has read its environment already, :class:`OutsidePin` if somebody set another pin
    and the policy does not keep it, :class:`PolicyError` without a usable policy, :class:`NoMatchingGpu` without the GPU.
    """
    global _pinned
    if is_off("this program is not pinned"):
        return Pin((), {}, is_off=True)
    if _pinned is not None:
        wish, done = _pinned
        if (role or wish[0], profile or wish[1]) != wish:
            raise GpupinError(f"this process is pinned already, as role {wish[0]} and profile {wish[1]}; a process has one pin")
        return done
    plan = resolve(role, profile)
    done = _apply(plan)
    _pinned = ((plan.role, plan.profile), done)
    return done


def _apply(plan: Plan) -> Pin:
    if plan.mask == "differs":
        raise OutsidePin(_outside(plan))
    wanted = dict(plan.variables)
    wanted.update({name: value for name, value in ((ROLE_VARIABLE, plan.role), (PROFILE_VARIABLE, plan.profile)) if value})
    if plan.mask in {"run", "agrees", "kept"}:
        for name in _MASKS:
            wanted.pop(name, None)
    missing = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    late = [name for name in _MASKS if name in missing]
    if late and driver.is_started():
        raise too_late(late)
    os.environ.update(missing)
    if plan.is_simulated:
        tell(f"the machine is {plan.kind}, and so are its GPUs")
    if not plan.chosen and plan.mask != "kept":
        tell(f"no {plan.wanted} is here, and the policy lets this program run without a GPU")
    if plan.mask == "kept":
        tell("the mask from outside stays as the policy says; it is not certain to lead to the policy's GPU")
    return Pin(plan.chosen, missing, is_kept=plan.mask == "kept", is_simulated=plan.is_simulated)


def _outside(plan: Plan) -> str:
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    if mask is not None and mask == os.environ.get(PIN_VARIABLE):
        start = "`gpupin run`" if plan.role is None else f"`gpupin run --role {plan.role}`"
        return (
            f"`gpupin run` has set `CUDA_VISIBLE_DEVICES` to `{mask}`, which is not the policy's {plan.meaning} of this program\n"
            f"  start it with {start}, or ask for the role that it was started for"
        )
    return (
        f"`CUDA_VISIBLE_DEVICES` is set to `{mask}` already, which is not certain to be the policy's {plan.meaning}\n"
        '  unset it, or let it stay with `on-outside-pin = "keep"` in `[run]` of the policy'
    )


def too_late(variables: list[str]) -> PinTooLate:
    """CUDA runs, so that setting these does nothing."""
    suspect = starter()
    names = " and ".join(f"`{it}`" for it in variables)
    by = "something" if suspect is None else f"probably `{suspect}`, going by what is imported,"
    return PinTooLate(
        f"{by} has started CUDA already, so that setting {names} now does nothing\n"
        "  make `import gpupin.auto` the first import of the program, or start it with `gpupin run`",
        suspect,
    )


def starter() -> str | None:
    """The imported module that probably started CUDA. An inference: nobody saw it."""
    if driver.was_started_here():
        return "gpupin"
    torch = sys.modules.get("torch")
    is_initialized = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    if callable(is_initialized):
        if is_initialized():
            return "torch"
        others = [it for it in _STARTERS if it in sys.modules and it != "torch"]
        return others[0] if others else "torch"
    return next((it for it in _STARTERS if it in sys.modules), None)
