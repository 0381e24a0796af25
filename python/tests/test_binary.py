"""Finding and running the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BINARY, IS_INSTALLED

from gpupin import binary
from gpupin.errors import BinaryNotFound


def test_python_dash_m_runs_the_program(environment: dict[str, str]) -> None:
    line = [sys.executable, "-m", "gpupin", "--version"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    expected = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True)
    assert (done.returncode, done.stdout) == (0, expected.stdout), done


@pytest.mark.skipif(not IS_INSTALLED, reason="only a wheel brings the program")
def test_the_wheel_brings_the_program(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    monkeypatch.delenv("GPUPIN_BINARY", raising=False)
    assert binary.find().startswith(sys.prefix)
    environment.pop("GPUPIN_BINARY")
    line = [sys.executable, "-m", "gpupin", "--version"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:7]) == (0, "gpupin "), done


def test_it_is_found_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "gpupin"
    program.symlink_to(BINARY)
    monkeypatch.delenv("GPUPIN_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def nowhere(*_: object, **__: object) -> str:
        return "/no/such/directory"

    monkeypatch.setattr("sysconfig.get_path", nowhere)
    assert binary.find() == str(program)
    monkeypatch.setenv("PATH", "/no/such/directory")
    with pytest.raises(BinaryNotFound, match="pip install"):
        binary.find()


def test_another_version_is_found_out() -> None:
    with pytest.raises(BinaryNotFound, match="another version"):
        binary.answer(0, '{"version": 2}', "")
    with pytest.raises(BinaryNotFound, match="older than this package"):
        binary.refuse(2, "error: unrecognized subcommand 'for-python'")
