"""The stand-in's ``torch.optim``."""

from __future__ import annotations

from typing import Any


class AdamW:
    """Optimises nothing."""

    def __init__(self, parameters: object, lr: float) -> None:
        self.lr = lr

    def step(self) -> None:
        """Does nothing."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Does nothing."""
