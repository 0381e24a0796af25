"""A stand-in for PyTorch: tensors have a shape and take memory of the simulated driver, and nothing is computed.

Sizes are rounded as torch's allocator does, to 512 bytes.
"""

from __future__ import annotations

import math
import pickle
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Union

from torch import cuda, optim

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

__all__ = ["cuda", "optim"]
__version__ = "2.9.1+standin"

version = SimpleNamespace(cuda="13.0")

DeviceLike = Union[str, int, "cuda.Place"]


class Dtype:
    """A kind of number."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def __str__(self) -> str:
        return f"torch.{self.name}"


float32 = Dtype("float32", 4)
float16 = Dtype("float16", 2)
bfloat16 = Dtype("bfloat16", 2)
int64 = Dtype("int64", 8)


class Tensor:
    """A shape, and memory for it."""

    def __init__(self, *shape: int, dtype: Dtype = float32, device: DeviceLike = "cpu") -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = cuda.place(device)
        self._block = cuda.block(self.device, math.prod(shape) * dtype.size)
        self.grad_fn: Tensor | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether it lies on a GPU."""
        return self.device.kind == "cuda"

    def untyped_storage(self) -> cuda.Block:
        """Its memory."""
        return self._block

    def to(self, device: DeviceLike) -> Tensor:
        """On another device, unless it lies there."""
        return self if cuda.place(device) == self.device else Tensor(*self.shape, dtype=self.dtype, device=device)

    def item(self) -> float:
        """A number that means nothing."""
        return 0.5

    def backward(self) -> None:
        """Does nothing."""

    def __float__(self) -> float:
        return self.item()

    def __len__(self) -> int:
        return self.shape[0]

    def __matmul__(self, other: Tensor) -> Tensor:
        return Tensor(*self.shape[:-1], other.shape[-1], dtype=self.dtype, device=self.device)

    def __radd__(self, _: float) -> Tensor:
        return Tensor(*self.shape, dtype=self.dtype, device=self.device)

    def __add__(self, _: object) -> Tensor:
        return self.__radd__(0)

    def __getitem__(self, _: object) -> Tensor:
        return self


def is_tensor(it: object) -> bool:
    """As torch's."""
    return isinstance(it, Tensor)


def randn(*shape: int, dtype: Dtype = float32, device: DeviceLike = "cpu") -> Tensor:
    """Not even random."""
    return Tensor(*shape, dtype=dtype, device=device)


def stack(tensors: list[Tensor]) -> Tensor:
    """One of many."""
    return Tensor(len(tensors), *tensors[0].shape, dtype=tensors[0].dtype, device=tensors[0].device)


@contextmanager
def no_grad() -> Generator[None]:
    """There are no gradients; it decorates functions too, as torch's does."""
    yield


inference_mode = no_grad


def save(_: object, path: Path) -> None:
    """Writes a file that says nothing."""
    path.write_bytes(pickle.dumps({"model": {}, "optimizer": {}, "epoch": 0}))


def load(path: Path, map_location: DeviceLike = "cpu") -> dict[str, Any]:
    """Reads it, to a device that must be there."""
    Tensor(1, device=map_location)
    return pickle.loads(path.read_bytes())


class Module:
    """A model: its parameters are one tensor."""

    def __init__(self, parameters: int, *, dtype: Dtype = bfloat16, device: DeviceLike = "cpu") -> None:
        self._weights = [Tensor(parameters, dtype=dtype, device=device)]

    @property
    def device(self) -> cuda.Place:
        """Of its first parameter."""
        return self._weights[0].device

    def to(self, device: DeviceLike) -> Module:
        """Moves it."""
        self._weights = [it.to(device) for it in self._weights]
        return self

    def spread(self, parameters: int, ordinals: Iterable[int]) -> None:
        """More of its layers, on other GPUs."""
        self._weights += [Tensor(parameters, dtype=bfloat16, device=it) for it in ordinals]

    def parameters(self) -> Iterable[Tensor]:
        """All."""
        return self._weights

    def train(self) -> None:
        """Does nothing."""

    def eval(self) -> None:
        """Does nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Does nothing."""
