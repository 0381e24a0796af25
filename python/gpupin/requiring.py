"""Proving from inside which GPU a program is on."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import Any

from gpupin import binary, driver, frameworks
from gpupin.errors import DriverError, WrongGpu
from gpupin.gpu import GIB, Gpu, same_uuid, short_name
from gpupin.off import is_off, tell, tell_once
from gpupin.plan import Plan, resolve

_ASKED_SECONDS = 60
"""The first start of a driver without persistence takes seconds per GPU."""


def visible(*, fork_safe: bool = False) -> list[Gpu]:
    """The GPUs that CUDA shows this process, by ordinal, in the driver's own words.

    Initialises CUDA in this process, so that processes forked later cannot use it. With ``fork_safe`` a child with this
    process's environment is asked instead; that is not what this process sees, if its environment changed after CUDA started.
    """
    found, is_simulated = _visible(fork_safe=fork_safe)
    if is_simulated:
        tell_once("a simulated CUDA driver answered: this proves nothing about hardware")
    return found


def current(*, fork_safe: bool = False) -> Gpu | None:
    """The GPU of ordinal 0, which is what ``"cuda"`` means unless a program chose another; ``None`` without any."""
    found = visible(fork_safe=fork_safe)
    return found[0] if found else None


def require(role: str | None = None, *, profile: str | None = None, fork_safe: bool = False) -> Gpu | None:
    """Proves that ordinal 0 is the policy's GPU, and returns it.

    The CUDA driver is asked for the UUID, name, memory and compute capability. What frameworks that are already imported say is
    compared with that. Initialises CUDA, as :func:`visible` says, unless ``fork_safe``.

    Raises :class:`WrongGpu` if it is another one. Returns ``None`` if gpupin is off, or the policy lets the program run without
    its GPU and it is not here.
    """
    if is_off("nobody checks which GPU this program is on"):
        return None
    plan = resolve(role, profile)
    found = visible(fork_safe=fork_safe)
    if not plan.candidates:
        if found:
            raise WrongGpu((), found[0], f"no {plan.wanted} is here, and CUDA shows another GPU", _FIX)
        return None
    _compare(plan, found)
    if not fork_safe:
        _compare_frameworks(plan, found)
    return found[0]


_FIX = "call `gpupin.pin()` or `import gpupin.auto` before anything uses CUDA, or start the program with `gpupin run`"


def _visible(*, fork_safe: bool) -> tuple[list[Gpu], bool]:
    if not fork_safe:
        return driver.visible_gpus()
    line = [binary.find(), "debug", "cuda-view"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=_ASKED_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DriverError(f"the CUDA driver did not answer for {_ASKED_SECONDS} s") from None
    if done.returncode != 0:
        raise driver.missing(done.stderr.strip())
    view: dict[str, Any] = json.loads(done.stdout)
    error = view["error"]
    if error is not None and error["code"] != driver.NO_DEVICE:
        raise DriverError(f"`{error['function']}` failed with {error['name']}", error["code"])
    return [_device(it) for it in view["devices"]], view["simulated"]


def _device(it: dict[str, Any]) -> Gpu:
    major, minor = map(int, it["compute_capability"].split("."))
    return Gpu(it["uuid"], short_name(it["name"]), it["vram"], (major, minor), it["pci"].lower(), it["ordinal"])


def _compare(plan: Plan, found: list[Gpu]) -> None:
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = "is not set" if mask is None else f"is `{mask}`"
    if not found:
        raise WrongGpu(plan.candidates, None, f"CUDA shows no GPU; `CUDA_VISIBLE_DEVICES` {shown}", _FIX)
    allowed = plan.chosen if plan.mask in {"run", "agrees"} and plan.chosen else plan.candidates
    for ordinal in range(plan.count):
        actual = found[ordinal] if ordinal < len(found) else None
        if actual is None:
            raise WrongGpu(allowed, None, f"CUDA shows {len(found)} of {plan.count} GPUs; `CUDA_VISIBLE_DEVICES` {shown}", _FIX)
        expected = next((it for it in allowed if it.is_same(actual)), None)
        if expected is None:
            why = f"`cuda:{ordinal}` is another GPU; `CUDA_VISIBLE_DEVICES` {shown}"
            raise WrongGpu(allowed, actual, why, _FIX)
        _compare_facts(plan, expected, actual)


_KEPT = 8
"""CUDA reports less than NVML, and nobody documents how much less. One part in so many is a generous line, not a measured one."""
_DOCTOR = "run `gpupin doctor`: the driver and its libraries may be of two versions"


def _compare_facts(plan: Plan, expected: Gpu, actual: Gpu) -> None:
    """One UUID with two names is a driver that cannot be trusted about either."""
    if (expected.name, expected.compute_capability) != (actual.name, actual.compute_capability):
        said = f"{_facts(expected)}, and CUDA {_facts(actual)}"
        why = f"of `{actual.uuid}` NVML says that it is {said}; the policy wants {plan.wanted}"
        raise WrongGpu((expected,), actual, why, _DOCTOR)
    if expected.vram is None or actual.vram is None:
        return
    differs = f"NVML says {expected.vram / GIB:.1f} GiB of `{actual.uuid}`, and CUDA {actual.vram / GIB:.1f} GiB"
    if plan.min_vram is not None and actual.vram < plan.min_vram * (1 - 1 / _KEPT):
        raise WrongGpu((expected,), actual, f"{differs}; the policy wants {plan.wanted}", _DOCTOR)
    if not expected.vram * (1 - 1 / _KEPT) <= actual.vram <= expected.vram:
        tell(f"{differs}: {_DOCTOR}")


def _facts(gpu: Gpu) -> str:
    capability = "" if gpu.compute_capability is None else " of compute capability {}.{}".format(*gpu.compute_capability)
    return f"{gpu.name}{capability}"


def _compare_frameworks(plan: Plan, found: list[Gpu]) -> None:
    for said in frameworks.said():
        if said.uuid is not None:
            is_same = same_uuid(said.uuid, found[0].uuid)
        elif said.name is not None:
            is_same = short_name(said.name) == found[0].name
        else:
            continue
        if not is_same:
            actual = next((it for it in plan.machine if said.uuid and same_uuid(it.uuid, said.uuid)), None)
            actual = actual or replace(found[0], uuid=said.uuid or "unknown", name=short_name(said.name or "another GPU"))
            why = f"the driver's ordinal 0 is {found[0]}, and {said.framework}'s is another"
            raise WrongGpu(plan.candidates, actual, why, _FIX)
    helper = frameworks.torch_nvml_index()
    if helper is not None and helper < len(plan.machine) and not plan.machine[helper].is_same(found[0]):
        tell(
            "`torch.cuda.utilization`, `temperature`, `power_draw` and their kin speak of "
            f"{plan.machine[helper].name}, not of {found[0].name}: they take the mask for NVML's numbers; "
            "`CUDA_DEVICE_ORDER=PCI_BUS_ID` cures it"
        )
