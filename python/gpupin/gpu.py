"""A GPU, as a program sees it."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """One GPU. What is not known is ``None``."""

    uuid: str
    """Such as ``GPU-8932f937-d72c-4106-c12f-20bd9faed9f6``."""
    name: str
    """The product name without vendor words, such as ``RTX 3090``."""
    vram: int | None = None
    """Memory in bytes. CUDA reports less than NVML does, for it keeps some itself."""
    compute_capability: tuple[int, int] | None = None
    pci: str | None = None
    """The PCI bus id, such as ``0000:02:00.0``."""
    ordinal: int | None = None
    """What CUDA calls it in this process; ``None`` if it was not asked or does not show it."""

    def is_same(self, other: Gpu) -> bool:
        """Whether both are one device."""
        return same_uuid(self.uuid, other.uuid)

    def __str__(self) -> str:
        vram = "" if self.vram is None else f", {self.vram / GIB:.0f} GiB"
        return f"{self.name} ({self.uuid}{vram})"


def same_uuid(one: str, other: str) -> bool:
    """Whether two UUIDs name one device: CUDA tells an instance of MIG and its GPU apart by the digits alone."""
    return _digits(one) == _digits(other)


def _digits(uuid: str) -> str:
    digits = uuid.lower()
    for kind in ("gpu-", "mig-"):
        if digits.startswith(kind):
            digits = digits[len(kind) :]
    return digits.replace("-", "")


_VENDOR_WORDS = frozenset({"nvidia", "geforce", "quadro", "tesla"})


def short_name(name: str) -> str:
    """``RTX 3090`` of ``NVIDIA GeForce RTX 3090``, as the binary does it."""
    words = name.split()
    while words and words[0].lower() in _VENDOR_WORDS:
        del words[0]
    return " ".join(words)
