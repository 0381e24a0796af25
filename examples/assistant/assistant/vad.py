"""Voice activity detection with silero-vad, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

SAMPLE_RATE = 16_000
THRESHOLD = 0.5


class VoiceDetector:
    """Tells frames with speech from frames without."""

    def __init__(self, path: str = "models/silero_vad.onnx") -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            path,
            sess_options=options,
            providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
        )
        self._state = np.zeros((2, 1, 128), dtype=np.float32)

    def is_speech(self, frame: np.ndarray) -> bool:
        inputs = {
            "input": frame[np.newaxis, :].astype(np.float32) / 32768.0,
            "state": self._state,
            "sr": np.array(SAMPLE_RATE, dtype=np.int64),
        }
        probability, self._state = self._session.run(None, inputs)
        return float(probability[0][0]) > THRESHOLD
