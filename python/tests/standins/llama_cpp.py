"""A stand-in for llama-cpp-python.

By its documentation ``main_gpu`` is ignored with the default ``split_mode``, which lays layers over all GPUs that CUDA shows:
https://llama-cpp-python.readthedocs.io/en/latest/api-reference/#llama_cpp.Llama
"""

from __future__ import annotations

from typing import Any

from allocator import MB, Device, Driver


class Llama:
    """Layers on every visible GPU."""

    def __init__(
        self, *, model_path: str, n_gpu_layers: int = 0, n_ctx: int = 512, main_gpu: int = 0, verbose: bool = True
    ) -> None:
        if n_gpu_layers != 0:
            driver = Driver()
            for ordinal in range(driver.count()):
                Device(ordinal, driver).take(2000 * MB // driver.count())

    def create_chat_completion(self, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        """Always the same."""
        return {"choices": [{"message": {"content": "It is a stand-in."}}]}

    def __call__(self, _: str, max_tokens: int) -> dict[str, Any]:
        """Always the same."""
        return {"usage": {"completion_tokens": max_tokens}}
