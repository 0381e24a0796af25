"""Puts the parts together: microphone, VAD, speech to text, LLM, speech."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pyaudio
import torch

from assistant import hardware, llm, settings
from assistant.stt import SpeechToText
from assistant.vad import VoiceDetector

log = logging.getLogger(__name__)

SILENT_FRAMES = 25


class Speaker:
    """Starts the speech process and plays what it answers."""

    def __init__(self, config: settings.TtsSettings, audio: pyaudio.PyAudio, output: int) -> None:
        self._address = (config.host, config.port)
        # a small environment, so that our PYTHONPATH does not break Coqui
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "COQUI_TOS_AGREED": "1",
        }
        command = [sys.executable, "-m", "assistant.tts", "--port", str(config.port)]
        self._process = subprocess.Popen(command, env=env)
        self._stream = audio.open(
            format=pyaudio.paInt16, channels=1, rate=24_000, output=True, output_device_index=output
        )

    def say(self, text: str) -> None:
        with socket.create_connection(self._address, timeout=60) as connection:
            connection.sendall(text.replace("\n", " ").encode() + b"\n")
            while samples := connection.recv(4096):
                self._stream.write(samples)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


class Assistant:
    def __init__(self, config: settings.Settings) -> None:
        self._audio = pyaudio.PyAudio()
        self._settings = config.audio
        self._detector = VoiceDetector()
        self._ears = SpeechToText(config.stt)
        self._brain = llm.load(config.llm)
        self._memory = llm.Memory(config.llm)
        self._speaker = Speaker(config.tts, self._audio, config.audio.output_device_index)

    def run(self) -> None:
        try:
            for utterance in self._utterances():
                text = self._ears.transcribe(utterance)
                if text:
                    self._answer(text)
        finally:
            self._speaker.close()

    def _answer(self, text: str) -> None:
        notes = "\n".join(self._memory.recall(text))
        messages = [
            {"role": "system", "content": f"{llm.SYSTEM}\n{notes}".strip()},
            {"role": "user", "content": text},
        ]
        try:
            reply = self._brain.reply(messages)
        except RuntimeError as error:
            if not hardware.log_out_of_memory(error):
                raise
            reply = "Sorry, I ran out of memory."
        self._memory.add(text)
        self._speaker.say(reply)

    def _utterances(self) -> Iterator[np.ndarray]:
        stream = self._audio.open(
            format=pyaudio.paInt16,
            channels=1,
            rate=self._settings.sample_rate,
            input=True,
            input_device_index=self._settings.input_device_index,
            frames_per_buffer=self._settings.frames_per_buffer,
        )
        frames: list[np.ndarray] = []
        silent = 0
        while True:
            data = stream.read(self._settings.frames_per_buffer, exception_on_overflow=False)
            frame = np.frombuffer(data, dtype=np.int16)
            if self._detector.is_speech(frame):
                frames.append(frame)
                silent = 0
            elif frames:
                silent += 1
                if silent > SILENT_FRAMES:
                    yield np.concatenate(frames).astype(np.float32) / 32768.0
                    frames, silent = [], 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="assistant", description="a voice assistant that stays at home")
    parser.add_argument("--config", help="settings file (default: $ASSISTANT_CONFIG)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO)

    if not torch.cuda.is_available():
        sys.exit("the assistant needs the RTX 3090, and no GPU was found")
    log.info(hardware.describe())

    Assistant(settings.load(args.config)).run()
    return 0
