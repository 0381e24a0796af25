"""What the policy means on this machine, as the ``gpupin`` program resolves it."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpupin import binary
from gpupin.errors import GpupinError
from gpupin.gpu import Gpu

ROLE_VARIABLE = "GPUPIN_ROLE"
PROFILE_VARIABLE = "GPUPIN_PROFILE"
POLICY_VARIABLE = "GPUPIN_POLICY"
LEASE_VARIABLE = "GPUPIN_LEASE"
"""Tells programs started meanwhile that the GPU is held for them."""
PIN_VARIABLE = "GPUPIN_PIN"
"""The mask that ``gpupin run`` has set."""

_MOST_ANSWERS = 64
"""A program that takes a lease per request asks for each."""


@dataclass(frozen=True)
class Plan:
    """One answer of the program, for one process."""

    wanted: str
    """The policy's words for it, such as ``RTX 3090 with at least 20 GiB``."""
    policy: str | None
    role: str | None
    profile: str | None
    count: int
    """How many GPUs the program gets."""
    min_vram: int | None
    """What each must have, in bytes, if the policy says that."""
    chosen: tuple[Gpu, ...]
    """The GPUs that the variables leave visible. Empty if the policy lets a program run without its GPU, and it is not here."""
    candidates: tuple[Gpu, ...]
    """The GPUs that would do."""
    machine: tuple[Gpu, ...]
    """All GPUs, by NVML's index."""
    variables: dict[str, str]
    mask: str
    """Who has set the mask of this environment: ``nobody``; ``run`` is gpupin itself; ``agrees`` is somebody else, to the
    same GPU; ``kept`` is somebody else to perhaps another GPU, which the policy lets stay; ``differs`` is the same, and the
    policy does not, or gpupin itself for another role."""
    leak_threshold: int
    """In bytes."""
    kind: str
    """``measured`` or ``simulated``: how it is known which GPUs there are."""

    @property
    def meaning(self) -> str:
        """What is wanted, and as which role if it is one."""
        return self.wanted if self.role is None else f"{self.wanted} (role `{self.role}`)"

    @property
    def is_simulated(self) -> bool:
        """Whether no driver named these GPUs."""
        return self.kind != "measured"


_cache: dict[tuple[object, ...], Plan] = {}


def resolve(role: str | None, profile: str | None) -> Plan:
    """Asks the program, once for the same question in the same environment."""
    role = role or os.environ.get(ROLE_VARIABLE) or None
    profile = profile or os.environ.get(PROFILE_VARIABLE) or None
    started = program()
    masks = tuple(os.environ.get(it) for it in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", POLICY_VARIABLE))
    # Of twins, the one that is held is the one to pin.
    held = None if masks[0] is not None else os.environ.get(LEASE_VARIABLE)
    key = (role, profile, started, str(Path.cwd()), masks, held)
    if key not in _cache:
        if len(_cache) >= _MOST_ANSWERS:
            _cache.clear()
        _cache[key] = parse(binary.ask("pin", *arguments(role, profile, started)))
    return _cache[key]


def leak_threshold() -> int:
    """What the policy says, in bytes; also where nothing else of it can be had, as on a machine without the GPU."""
    with contextlib.suppress(GpupinError):
        return resolve(None, None).leak_threshold
    profile = os.environ.get(PROFILE_VARIABLE) or None
    return int(binary.ask("guard", *arguments(None, profile, program()))["leak_threshold"])


def arguments(role: str | None, profile: str | None, started: str | None) -> list[str]:
    """The options that say for which program is asked."""
    policy = os.environ.get(POLICY_VARIABLE)
    options = (("--role", role), ("--profile", profile), ("--policy", policy), ("--program", started))
    return [it for option, value in options if value for it in (option, value)]


def program() -> str | None:
    """The file that was started, if it is one: it decides which policy counts, and which role this program plays."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not path:
        return None
    found = Path(path).resolve()
    return str(found) if found.is_file() else None


def parse(document: dict[str, Any]) -> Plan:
    """Reads ``wire/python-pin.json``."""
    gpus = [(it, _gpu(it)) for it in document["gpus"]]
    return Plan(
        wanted=document["wanted"],
        policy=document["policy"],
        role=document["role"],
        profile=document["profile"],
        count=document["count"],
        min_vram=document["min_vram"],
        chosen=tuple(gpu for it, gpu in gpus if it["is_chosen"]),
        candidates=tuple(gpu for it, gpu in gpus if it["is_candidate"]),
        machine=tuple(gpu for it, gpu in gpus if it["index"] is not None),
        variables={it["name"]: it["value"] for it in document["variables"]},
        mask=document["mask"],
        leak_threshold=document["leak_threshold"],
        kind=document["kind"],
    )


def _gpu(it: dict[str, Any]) -> Gpu:
    capability = it["compute_capability"]
    major, minor = map(int, capability.split("."))
    return Gpu(uuid=it["uuid"], name=it["name"], vram=it["vram"], compute_capability=(major, minor), pci=it["pci"])
