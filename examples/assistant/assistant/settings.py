"""Settings: defaults here, overridden by the YAML file that `ASSISTANT_CONFIG` names."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from dotenv import load_dotenv

load_dotenv()


@dataclass(frozen=True)
class SttSettings:
    model: str = "large-v3"
    compute_type: str = "float16"
    language: str = "en"
    gpu_device_index: int = 1


@dataclass(frozen=True)
class LlmSettings:
    backend: str = "llama.cpp"
    model: str = ""
    n_gpu_layers: int = -1
    n_ctx: int = 8192
    main_gpu: int = 0
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    embedder_device: str = "cuda"


@dataclass(frozen=True)
class TtsSettings:
    host: str = "127.0.0.1"
    port: int = 5002
    model: str = "tts_models/multilingual/multi-dataset/xtts_v2"
    voice: str = "Claribel Dervla"


@dataclass(frozen=True)
class AudioSettings:
    """Sound devices, as PyAudio numbers them."""

    input_device_index: int = 1
    output_device_index: int = 0
    sample_rate: int = 16_000
    frames_per_buffer: int = 512


@dataclass(frozen=True)
class Settings:
    stt: SttSettings = field(default_factory=SttSettings)
    llm: LlmSettings = field(default_factory=LlmSettings)
    tts: TtsSettings = field(default_factory=TtsSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)


def load(path: str | None = None) -> Settings:
    """Reads the settings file, or returns the defaults if there is none."""
    path = path or os.environ.get("ASSISTANT_CONFIG")
    if not path:
        return Settings()
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    return Settings(
        stt=SttSettings(**raw.get("stt", {})),
        llm=LlmSettings(**raw.get("llm", {})),
        tts=TtsSettings(**raw.get("tts", {})),
        audio=_load_audio(raw.get("audio")),
    )


def _load_audio(path: str | None) -> AudioSettings:
    if path is None:
        return AudioSettings()
    ini = configparser.ConfigParser()
    ini.read(path, encoding="utf-8")
    microphone = ini["microphone"]
    return AudioSettings(
        input_device_index=microphone.getint("device_index"),
        output_device_index=ini["speaker"].getint("device_index"),
        sample_rate=microphone.getint("sample_rate"),
        frames_per_buffer=microphone.getint("frames_per_buffer"),
    )
