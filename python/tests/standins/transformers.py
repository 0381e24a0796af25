"""A stand-in for transformers, on the stand-in for torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

_PARAMETERS = 500_000_000
_VALUES = 48 * 2 * 8 * 128
"""Keys and values that a model of 14 billion parameters keeps for each token: of 48 layers, 8 heads, 128 each."""


class Batch(dict[str, torch.Tensor]):
    """What a tokenizer gives."""

    def to(self, device: torch.DeviceLike) -> Batch:
        """Moves all of it."""
        return Batch({name: it.to(device) for name, it in self.items()})


class AutoTokenizer:
    """A word is a token."""

    @classmethod
    def from_pretrained(cls, _: str) -> AutoTokenizer:
        """Any name will do."""
        return cls()

    def __call__(self, texts: str | list[str], **_: object) -> Batch:
        """Tokens."""
        texts = [texts] if isinstance(texts, str) else texts
        return Batch(input_ids=torch.Tensor(len(texts), max(len(it.split()) for it in texts), dtype=torch.int64))

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> torch.Tensor:
        """Tokens of all."""
        return self(" ".join(it["content"] for it in messages))["input_ids"]

    def decode(self, _: torch.Tensor, **__: object) -> str:
        """Always the same."""
        return "It is a stand-in."


class Model(torch.Module):
    """Speaks, and says nothing."""

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *,
        max_new_tokens: int,
        return_dict_in_generate: bool = False,
        **batch: torch.Tensor,
    ) -> Any:
        """Tokens; as long as it takes, their keys and values are kept on the GPU, and for good if they are asked for."""
        inputs = batch["input_ids"] if inputs is None else inputs
        assert inputs.device == self.device, "Expected all tensors to be on the same device"
        length = inputs.shape[1] + max_new_tokens
        kept = torch.Tensor(length, _VALUES, dtype=torch.bfloat16, device=self.device)
        tokens = torch.Tensor(1, length, dtype=torch.int64, device=self.device)
        return SimpleNamespace(sequences=tokens, past_key_values=kept) if return_dict_in_generate else tokens

    def __call__(self, **_: torch.Tensor) -> SimpleNamespace:
        """A loss."""
        return SimpleNamespace(loss=torch.Tensor(1, device=self.device))


class AutoModelForCausalLM:
    """Makes models."""

    @classmethod
    def from_pretrained(cls, _: str, *, torch_dtype: object = None, device_map: str | dict[str, int] | None = None) -> Model:
        """A model on the CPU, the device that a map names, or ``auto``: its layers on all of them."""
        if device_map == "auto":
            count = torch.cuda.device_count()
            model = Model(_PARAMETERS // count, device=0)
            model.spread(_PARAMETERS // count, range(1, count))
            return model
        return Model(_PARAMETERS, device=device_map[""] if isinstance(device_map, dict) else "cpu")
