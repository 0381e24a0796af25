"""What frameworks say about GPUs, if the program has imported them. Nothing here imports any or starts their GPU part."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    """What a framework takes for its first GPU. What it does not tell is ``None``."""

    framework: str
    uuid: str | None
    name: str | None


def said() -> list[Said]:
    """What every framework says that is imported and uses a GPU already."""
    found: list[Said] = []
    for ask in (_torch, _cupy, _jax, _tensorflow):
        try:
            answer = ask()
        except Exception:
            continue
        if answer is not None:
            found.append(answer)
    return found


def _module(name: str) -> Any:
    return sys.modules.get(name)


def _torch() -> Said | None:
    torch = _module("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    # Before 2.5 it has no UUID.
    uuid = getattr(properties, "uuid", None)
    return Said("torch", None if uuid is None else str(uuid), properties.name)


def _cupy() -> Said | None:
    cupy = _module("cupy")
    if cupy is None:
        return None
    properties: dict[str, Any] = cupy.cuda.runtime.getDeviceProperties(0)
    uuid = properties.get("uuid")
    name = properties.get("name", b"")
    return Said("cupy", None if uuid is None else bytes(uuid).hex(), name.decode() or None)


def _jax() -> Said | None:
    jax = _module("jax")
    bridge = _module("jax._src.xla_bridge")
    if jax is None or bridge is None or not bridge.backends_are_initialized():
        return None
    devices = [it for it in jax.local_devices() if it.platform in {"gpu", "cuda"}]
    return Said("jax", None, devices[0].device_kind) if devices else None


def _tensorflow() -> Said | None:
    tensorflow = _module("tensorflow")
    context = _module("tensorflow.python.eager.context")
    # Asking for devices would start TensorFlow's own context.
    if tensorflow is None or context is None or not context.context()._initialized:
        return None
    devices = tensorflow.config.list_physical_devices("GPU")
    if not devices:
        return None
    return Said("tensorflow", None, tensorflow.config.experimental.get_device_details(devices[0]).get("device_name"))


def torch_nvml_index() -> int | None:
    """Which GPU torch's own NVML helpers mean by device 0, as NVML's index, if torch uses a GPU."""
    torch = _module("torch")
    index = getattr(getattr(torch, "cuda", None), "_get_nvml_device_index", None)
    if torch is None or index is None or not torch.cuda.is_initialized():
        return None
    try:
        return int(index(0))
    except Exception:
        return None
