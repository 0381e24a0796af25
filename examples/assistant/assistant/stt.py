"""Speech to text with faster-whisper."""

from __future__ import annotations

import logging

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from assistant.settings import SttSettings

log = logging.getLogger(__name__)


class SpeechToText:
    def __init__(self, settings: SttSettings) -> None:
        self._language = settings.language
        if ctranslate2.get_cuda_device_count() == 0:
            log.warning("no GPU for speech recognition, using the CPU: expect long pauses")
            self._model = WhisperModel("small", device="cpu", compute_type="int8")
        else:
            self._model = WhisperModel(
                settings.model,
                device="cuda",
                device_index=settings.gpu_device_index,
                compute_type=settings.compute_type,
            )

    def transcribe(self, audio: np.ndarray) -> str:
        segments, _ = self._model.transcribe(audio, language=self._language, beam_size=5)
        return " ".join(segment.text.strip() for segment in segments)
