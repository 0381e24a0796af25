"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Callable

import pytest
from conftest import BINARY, POLICY, RTX_3090, RTX_5060_TI

RunPytest = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pytester_run(project: Path, environment: dict[str, str]) -> RunPytest:
    """Runs pytest on a file of tests, on the machine of a scene."""

    def runs(
        tests: str, *arguments: str, scene: str = "mixed", policy: str = POLICY, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        (project / "gpupin.toml").write_text(policy)
        (project / "test_gpu.py").write_text(textwrap.dedent(tests))
        line = [BINARY, "-q", "sim", "--scene", scene, "--", sys.executable, "-m", "pytest", "-p", "gpupin.pytest_plugin"]
        line += ["-p", "no:cacheprovider", "--strict-markers", "-rs", "-q", *arguments]
        variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
        return subprocess.run(
            line, cwd=project, env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False
        )

    return runs


def check(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    """How pytest ended, and what it said."""
    assert done.returncode == code, done
    for text in told:
        assert text in done.stdout, done


MARKED = """
import os, pytest, gpupin
@pytest.mark.gpu
def test_it():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpupin.current().uuid
    assert "GPUPIN_LEASE" in os.environ
def test_other():
    assert "GPUPIN_LEASE" not in os.environ
"""


def test_a_marked_test_has_the_gpu_and_the_others_have_not(pytester_run: RunPytest, project: Path) -> None:
    told = f"gpupin: 1 test on {RTX_3090}; the machine is simulated: this proves nothing about hardware"
    check(pytester_run(MARKED, "--gpupin-report", "report.json"), 0, "2 passed", told)
    report = json.loads((project / "report.json").read_text())
    (test,) = report["tests"]
    assert (test["test"], test["gpu"], test["kind"]) == ("test_gpu.py::test_it", RTX_3090, "simulated")


def test_without_the_gpu_a_marked_test_is_skipped_and_says_why(pytester_run: RunPytest) -> None:
    check(pytester_run(MARKED, scene="no-driver"), 0, "1 passed, 1 skipped", "this machine has no NVIDIA driver")
    check(pytester_run(MARKED, policy="gpu.name = 'RTX 4090'\n"), 0, "1 passed, 1 skipped", "RTX 4090")
    check(pytester_run(MARKED, GPUPIN="off"), 0, "1 passed, 1 skipped", "gpupin is switched off")


def test_a_file_that_pins_itself_is_skipped_too(pytester_run: RunPytest, project: Path) -> None:
    (project / "test_other.py").write_text("def test_it():\n    pass\n")
    pinned = "import gpupin.auto\ndef test_it():\n    pass\n"
    check(pytester_run(pinned), 0, "2 passed")
    check(pytester_run(pinned, scene="one"), 0, "1 passed, 1 skipped", "its name is `L4`, not `RTX 3090`")
    # What else is wrong stays wrong.
    check(pytester_run(pinned, policy="gpu.nmae = 'x'\n"), 2, "PolicyError", "1 error")
    check(pytester_run(pinned, CUDA_VISIBLE_DEVICES=RTX_5060_TI), 2, "OutsidePin", "1 error")


def test_a_pin_to_another_gpu_is_an_error_of_the_test(pytester_run: RunPytest) -> None:
    done = pytester_run(MARKED, CUDA_VISIBLE_DEVICES=RTX_5060_TI)
    check(done, 1, "OutsidePin", "1 passed, 1 error")


LEAK = """
import pytest, gpupin
@pytest.fixture
def allocator():
    from allocator import install
    return install()
@pytest.mark.gpu(repeat=15)
def test_it(allocator):
    allocator.allocated += 20_000_000
"""


def test_a_leak_fails_the_test_or_warns_or_is_not_looked_for(pytester_run: RunPytest) -> None:
    check(pytester_run(LEAK), 1, "MemoryGrowth", "tensor leak (allocated): 20.0 MB per call")
    check(pytester_run(LEAK, "--gpupin-leak=warn"), 0, "1 passed")
    check(pytester_run(LEAK, "--gpupin-leak=off"), 0, "1 passed")


def test_a_failing_test_fails_with_its_own_error(pytester_run: RunPytest) -> None:
    done = pytester_run("import pytest\n@pytest.mark.gpu\ndef test_it():\n    assert 1 == 2\n")
    check(done, 1, "assert 1 == 2", "1 failed")


def test_workers_of_xdist_take_turns(pytester_run: RunPytest, project: Path) -> None:
    pytest.importorskip("xdist")
    tests = """
        import pytest, time
        from pathlib import Path
        @pytest.mark.gpu
        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            held = Path("held")
            held.touch(exist_ok=False)
            time.sleep(0.2)
            held.unlink()
    """
    done = pytester_run(tests, "-p", "xdist", "-n", "2", "--gpupin-report", "report.json")
    check(done, 0, "4 passed", f"gpupin: 4 tests on {RTX_3090}; the machine is simulated")
    assert len(json.loads((project / "report.json").read_text())["tests"]) == 4


def test_a_policy_that_cannot_be_used_fails_the_test_with_what_to_do(pytester_run: RunPytest) -> None:
    tests = "import pytest\n@pytest.mark.gpu(role='nope')\ndef test_it(): pass\n"
    done = pytester_run(tests)
    check(done, 1, "no role is called `nope`", "hint: the policy has the roles `tts`", "1 error")
    assert "binary.py" not in done.stdout, done
