"""Text to speech with XTTS, as a process of its own: `python -m assistant.tts`.

Reads one line of text per connection and answers with 16-bit samples at 24 kHz.
"""

from __future__ import annotations

import argparse
import logging
import os
import socketserver

import numpy as np
import torch
from TTS.api import TTS

log = logging.getLogger(__name__)

if torch.cuda.is_available():
    # next to the LLM on the 3090, the other one has no room left for XTTS
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Voice:
    def __init__(self, model: str, speaker: str) -> None:
        self._tts = TTS(model).to(DEVICE)
        self._speaker = speaker

    def speak(self, text: str) -> bytes:
        samples = self._tts.tts(text=text, speaker=self._speaker, language="en")
        return (np.asarray(samples) * 32767).astype("<i2").tobytes()


class Handler(socketserver.StreamRequestHandler):
    voice: Voice

    def handle(self) -> None:
        text = self.rfile.readline().decode("utf-8").strip()
        if text:
            self.wfile.write(self.voice.speak(text))


def main() -> None:
    parser = argparse.ArgumentParser(description="speak what clients send")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5002)
    parser.add_argument("--model", default="tts_models/multilingual/multi-dataset/xtts_v2")
    parser.add_argument("--voice", default="Claribel Dervla")
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO)
    Handler.voice = Voice(args.model, args.voice)
    log.info("speaking on port %d, on %s", args.port, DEVICE)
    with socketserver.TCPServer((args.host, args.port), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
