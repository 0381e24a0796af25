"""A stand-in for ONNX Runtime with silero's model: what is loud is speech."""

from __future__ import annotations

from typing import Any

from allocator import MB, Device, Driver


class SessionOptions:
    """Options that change nothing."""

    intra_op_num_threads = 0


class InferenceSession:
    """Lies on CUDA's first ordinal if it may, as the provider's ``device_id`` says by default, else on the CPU without a word."""

    def __init__(self, _: str, *, sess_options: SessionOptions, providers: list[str]) -> None:
        driver = Driver()
        if providers[0] == "CUDAExecutionProvider" and driver.count() > 0:
            Device(0, driver).take(100 * MB)

    def run(self, _: None, inputs: dict[str, Any]) -> tuple[list[list[float]], Any]:
        """The probability of speech, and the state."""
        return [[float(abs(inputs["input"]).max() > 0.1)]], inputs["state"]
