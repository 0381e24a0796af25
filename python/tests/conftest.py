"""Programs that run on a simulated machine, as real ones would on a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Protocol

import pytest

PACKAGE = Path(__file__).parent.parent
IS_INSTALLED = "GPUPIN_INSTALLED" in os.environ
"""The wheel is tested, not the sources."""
if not IS_INSTALLED:
    sys.path.insert(0, str(PACKAGE))

BINARY = os.environ.get("GPUPIN_BINARY", str(PACKAGE.parent / "target/debug/gpupin"))

POLICY = """\
[gpu]
name = "RTX 3090"

[[forbid]]
name = "RTX 5060 Ti"

[env]
A = "b"

[roles.tts]
name = "RTX 5060 Ti"
entry-points = ["tts.py"]

[profiles.ci]
guard.leak-threshold = "1 MB"
"""

RTX_3090 = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
RTX_5060_TI = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"


class Run(Protocol):
    """Runs a program of a project."""

    def __call__(
        self,
        script: str,
        *,
        name: str = ...,
        scene: str = ...,
        policy: str | None = ...,
        before: tuple[str, ...] = ...,
        arguments: tuple[str, ...] = ...,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a program: this one's, without what belongs to another pin, and with leases of its own."""
    leases = tmp_path / "leases"
    leases.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GPUPIN", "CUDA"))}
    return {
        **kept,
        "GPUPIN_BINARY": BINARY,
        "GPUPIN_STATE_DIR": str(leases),
        "PYTHONPATH": os.pathsep.join([*([] if IS_INSTALLED else [str(PACKAGE)]), str(Path(__file__).parent)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a policy."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "gpupin.toml").write_text(POLICY)
    return directory


@pytest.fixture
def run(project: Path, environment: dict[str, str]) -> Run:
    """Runs a program on the machine of a scene."""

    def runs(
        script: str,
        *,
        name: str = "main.py",
        scene: str = "mixed",
        policy: str | None = POLICY,
        before: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        if policy is None:
            (project / "gpupin.toml").unlink()
        else:
            (project / "gpupin.toml").write_text(policy)
        (project / name).write_text(textwrap.dedent(script))
        line = [BINARY, "-q", "sim", "--scene", scene, "--", *before, sys.executable, name, *arguments]
        return subprocess.run(
            line, cwd=project, env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False
        )

    return runs


def check(done: subprocess.CompletedProcess[str], out: str, *told: str) -> None:
    """A program that printed this, ended well, and told this."""
    assert (done.stdout, done.returncode) == (out, 0), done
    for text in told:
        assert text in done.stderr, done


def check_refused(done: subprocess.CompletedProcess[str], error: str, *told: str) -> None:
    """A program that ended with this exception."""
    assert done.returncode == 1, done
    last = "\n".join(done.stderr.splitlines()[-6:])
    assert f"gpupin.errors.{error}: " in last, done
    for text in told:
        assert text in last, done
