"""The stand-in's ``torch.utils.data``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class DataLoader:
    """Batches, in order."""

    def __init__(
        self, items: Sequence[Any], batch_size: int, *, shuffle: bool = False, collate_fn: Callable[[list[Any]], Any] = list
    ) -> None:
        self._batches = [list(items[it : it + batch_size]) for it in range(0, len(items), batch_size)]
        self._collate = collate_fn

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return map(self._collate, self._batches)
