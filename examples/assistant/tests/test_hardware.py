"""Runs anywhere: torch is a mock here."""

import subprocess
import sys
from unittest.mock import MagicMock

import pytest

from assistant import hardware

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.fixture
def torch(monkeypatch):
    fake = MagicMock(__version__="2.9.1")
    fake.version.cuda = "12.8"
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def test_describe_names_the_only_gpu(torch, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch.cuda.device_count.return_value = 1
    torch.cuda.get_device_name.return_value = "NVIDIA GeForce RTX 3090"
    text = hardware.describe()
    assert "cuda:0 is NVIDIA GeForce RTX 3090" in text
    assert "cuda:1" not in text


def test_describe_warns_about_a_second_gpu(torch):
    torch.cuda.device_count.return_value = 2
    torch.cuda.get_device_name.side_effect = ["NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 5060 Ti"]
    assert "cuda:1 is NVIDIA GeForce RTX 5060 Ti and should not be visible" in hardware.describe()


def test_used_memory_is_asked_by_uuid(monkeypatch):
    run = MagicMock(return_value=MagicMock(stdout="1234\n"))
    monkeypatch.setattr(subprocess, "run", run)
    assert hardware.used_megabytes(UUID) == 1234
    assert UUID in run.call_args.args[0]


@pytest.mark.parametrize(
    ("message", "explained"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 1; 15.74 GiB total capacity)", True),
        ("CUDA error: invalid device ordinal", False),
    ],
)
def test_only_out_of_memory_is_explained(message, explained):
    assert hardware.log_out_of_memory(RuntimeError(message)) is explained
