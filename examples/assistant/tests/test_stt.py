"""Needs a GPU; the runner in the office has two, and tests belong on the first."""

import os

os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "0"

import ctranslate2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from assistant.settings import SttSettings  # noqa: E402
from assistant.stt import SpeechToText  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ctranslate2.get_cuda_device_count() == 0, reason="needs a GPU"),
]


@pytest.fixture(scope="module")
def ears():
    return SpeechToText(SttSettings(model="tiny", gpu_device_index=0))


def test_silence_has_no_words(ears):
    assert ears.transcribe(np.zeros(16_000, dtype=np.float32)) == ""


def test_noise_does_not_crash(ears):
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert isinstance(ears.transcribe(noise), str)
