"""The example pins itself after `gpupin fix` in the style `import`, and what is planted in it then is found.

Its libraries are the stand-ins beside this file and its machine is simulated: where a program lands is what the simulated NVML
tells somebody outside.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest
from allocator import LOOK
from conftest import BINARY, PACKAGE, RTX_3090, RTX_5060_TI

for needed in ("numpy", "yaml", "dotenv", "pynvml"):
    pytest.importorskip(needed, reason=f"the example needs `{needed}`")
if sys.version_info < (3, 10):
    pytest.skip("the example needs Python 3.10", allow_module_level=True)

EXAMPLE = PACKAGE.parent / "examples/assistant"
STANDINS = Path(__file__).parent / "standins"


@dataclass
class Ended:
    """A program that ran, and where somebody outside saw it."""

    code: int
    out: str
    gpus: set[str]
    """Names of the GPUs on which the simulated NVML showed processes."""


class Copy:
    """A copy of the example, and of what its scripts expect around it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.path = directory / "assistant"
        self._directory = directory
        shutil.copytree(EXAMPLE, self.path)
        self._programs = directory / "bin"
        self._programs.mkdir()
        for name, line in {
            "gpupin": f'exec "{BINARY}" "$@"',
            "python": f'exec "{sys.executable}" "$@"',
            "pytest": f'exec "{sys.executable}" -m pytest "$@"',
            # What it is told of GPUs it sets as the mask, which `scripts/finetune.py` overrules.
            "accelerate": f'while [ "${{1#scripts/}}" = "$1" ]; do shift; done; exec "{sys.executable}" "$@"',
        }.items():
            self._put(self._programs / name, f"#!/bin/sh\n{line}\n").chmod(0o755)
        self._put(self.path / ".venv/bin/activate", "")
        self._put(directory / "dialogues.jsonl", '{"text": "What time is it?"}\n' * 8)
        self._environment = {
            **environment,
            "PATH": f"{self._programs}:{environment['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(STANDINS), environment["PYTHONPATH"]]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p gpupin.pytest_plugin",
        }

    def put(self, name: str, text: str) -> None:
        """Makes a file."""
        self._put(self.path / name, text)

    @staticmethod
    def _put(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def plant(self, name: str, old: str, new: str) -> None:
        """Changes a file."""
        text = (self.path / name).read_text()
        assert old in text, text
        self.put(name, text.replace(old, new))

    def scan(self) -> list[str]:
        """What gpupin finds."""
        line = ["gpupin", "scan", "--output-format", "concise", "--quiet"]
        return self.run(*line).out.splitlines()

    def start(self, *line: str, scene: str = "mixed", directory: str = ".", **variables: str) -> Started:
        """Starts a program on a simulated machine of its own; nothing pins it from outside."""
        run = self._directory / f"run-{time.monotonic_ns()}"
        return Started(run, line, scene, self.path / directory, {**self._environment, **variables})

    def run(self, *line: str, scene: str = "mixed", directory: str = ".", **variables: str) -> Ended:
        """Runs a program to its end."""
        return self.start(*line, scene=scene, directory=directory, **variables).finish()


class Started:
    """A program that runs on a simulated machine, and is looked at from outside."""

    def __init__(self, run: Path, line: tuple[str, ...], scene: str, directory: Path, environment: dict[str, str]) -> None:
        self._state = run / "state"
        self._done = run / "done"
        self._done.mkdir(parents=True)
        self._out = run / "out"
        self._gpus: set[str] = set()
        self._environment = environment
        with self._out.open("w") as out:
            self._process = subprocess.Popen(
                [BINARY, "-q", "sim", "--scene", scene, "--keep-state", str(self._state), "--", *line],
                cwd=directory,
                env={**environment, LOOK: str(self._done)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def look(self) -> None:
        """Asks the simulated NVML on which GPUs there are processes."""
        line = [BINARY, "-q", "sim", "--keep-state", str(self._state), "--", BINARY, "-q", "gpus", "--output-format", "json"]
        done = subprocess.run(line, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done
        document = json.loads(done.stdout)
        assert (document["kind"], document["unreadable"]) == ("simulated", [])
        self._gpus |= {it["name"] for it in document["gpus"] if it["processes"]}

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Waits until something has happened; the answer is whether it did before the program ended. Who is done is looked at."""
        for _ in range(2400):
            if condition():
                return True
            for mark in sorted(self._done.iterdir()):
                self.look()
                mark.unlink()
            if self._process.poll() is not None:
                return condition()
            time.sleep(0.05)
        raise AssertionError(self._out.read_text())

    def finish(self) -> Ended:
        """Waits for its end."""
        self.wait_for(lambda: self._process.poll() is not None)
        return Ended(self._process.returncode, self._out.read_text(), self._gpus)


@pytest.fixture
def copy(tmp_path: Path, environment: dict[str, str]) -> Copy:
    """The example as it is."""
    return Copy(tmp_path, environment)


@pytest.fixture
def fixed(copy: Copy) -> Copy:
    """The example after the commands of its README."""
    follow_the_readme(copy)
    return copy


def commands_of_the_readme() -> list[str]:
    """The lines of its `sh` blocks."""
    blocks = (EXAMPLE / "README.md").read_text().split("```sh\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines()]


def follow_the_readme(copy: Copy) -> dict[str, Ended]:
    """What each command says; all but the last, which is the tests."""
    return {line: copy.run("bash", "-c", line) for line in commands_of_the_readme()[:-1]}


def talk(copy: Copy, *line: str, directory: str = ".") -> Ended:
    """Starts the assistant, speaks to it twice, hears its answers, and looks before it ends: the microphone is pulled out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    copy.plant("config/assistant.yaml", "port: 5002", f"port: {port}")
    microphone, speaker = copy.path.parent / "microphone", copy.path.parent / "speaker"
    os.mkfifo(microphone)
    started = copy.start(*line, directory=directory, STANDINS_MICROPHONE=str(microphone), STANDINS_SPEAKER=str(speaker))
    opened: list[int] = []

    def is_listening() -> bool:
        try:
            opened.append(os.open(microphone, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def has_voice() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def has_answered(times: int) -> bool:
        return speaker.stat().st_size == times * ANSWER

    if started.wait_for(is_listening):
        os.set_blocking(opened[0], True)
        assert started.wait_for(has_voice), started.finish()
        for times in (1, 2):
            os.write(opened[0], LOUD * 5 + SILENCE * 26)
            assert started.wait_for(lambda times=times: has_answered(times)), started.finish()
        started.look()
        os.close(opened[0])
    return started.finish()


FRAME = 2 * 512
"""Bytes of the frames that the example takes from its microphone."""
LOUD, SILENCE = b"\xff\x3f" * (FRAME // 2), bytes(FRAME)
ANSWER = 2 * 2400
"""Bytes that the stand-in of the voice says."""


def cells(copy: Copy) -> str:
    """The notebook's code, as IPython would run it."""
    notebook = json.loads((copy.path / "notebooks/latency.ipynb").read_text())
    code = [line.rstrip("\n") for cell in notebook["cells"] if cell["cell_type"] == "code" for line in [*cell["source"], ""]]
    translated: list[str] = []
    for line in code:
        if line.startswith("%env "):
            name, value = line[len("%env ") :].split("=")
            translated.append(f"__import__('os').environ[{name!r}] = {value!r}")
        elif not line.startswith("!"):
            translated.append(line)
    return "\n".join(translated)


Start = Callable[[Copy], Ended]


def starts(*line: str, **variables: str) -> Start:
    """A way to start the example."""
    return lambda copy: copy.run(*line, **variables)


def voice(copy: Copy) -> Ended:
    """The speech process alone, which serves until it is ended."""
    with socket.socket() as taken:
        # It cannot bind, once all is on the GPU.
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return copy.run("python", "-m", "assistant.tts", "--port", str(taken.getsockname()[1]))


CONSOLE_SCRIPT = "import sys; from assistant.orchestrator import main; sys.exit(main())"
"""As pip writes it for `assistant` of `pyproject.toml`."""


@dataclass(frozen=True)
class Case:
    """One way in which the example is started."""

    start: Start
    """Starts it."""
    before: tuple[int, set[str]]
    """How it ends and which GPUs it is seen on, before the fix. CUDA lists the RTX 3090 first, `nvidia-smi` second."""
    said: str
    """What it says then."""
    code: int = 0
    """How it ends once it is fixed."""


BOTH = {"RTX 3090", "RTX 5060 Ti"}
UNPLUGGED, TAKEN = "the microphone is gone", "Address already in use"
PLAIN = "-p no:cacheprovider"
"""Without gpupin's plugin, which would refuse the wrong mask. The fixed tests pin themselves without it, too."""

CASES = {
    "the assistant": Case(
        lambda it: talk(it, "python", "-m", "assistant"), (1, {"RTX 5060 Ti"}), "CUDA error: invalid device ordinal", code=1
    ),
    "its script": Case(lambda it: talk(it, "bash", "start.sh"), (1, {"RTX 5060 Ti"}), "invalid device ordinal", code=1),
    "the voice": Case(voice, (1, {"RTX 3090"}), TAKEN, code=1),
    "the check": Case(
        starts("python", "scripts/check_gpu.py"),
        (1, {"RTX 5060 Ti"}),
        "expected the RTX 3090 but found NVIDIA GeForce RTX 5060 Ti",
    ),
    "the comparison": Case(starts("python", "scripts/bench_llm.py", "--gguf", "a", "--hf", "b"), (0, BOTH), "tokens/s"),
    "the training": Case(starts("python", "scripts/finetune.py", "../dialogues.jsonl"), (0, {"RTX 3090"}), "epoch 2"),
    "its script, training": Case(starts("bash", "start.sh", "finetune", "../dialogues.jsonl"), (0, {"RTX 3090"}), "epoch 2"),
    "the notebook": Case(
        lambda it: it.run("python", "-c", cells(it), directory="notebooks"), (1, {"RTX 3090"}), "invalid device ordinal"
    ),
    "the tests": Case(starts("pytest", "-s", "-m", "gpu", PYTEST_ADDOPTS=PLAIN), (0, {"RTX 5060 Ti"}), "2 passed"),
}
"""What the example can be started by. Before the fix some are on the right GPU: by luck, or because what is fragile still works."""


@pytest.mark.parametrize("name", CASES)
def test_before_the_fix_it_lands_anywhere(name: str, copy: Copy) -> None:
    case = CASES[name]
    ended = case.start(copy)
    assert (ended.code, ended.gpus) == case.before, ended
    assert case.said in ended.out, ended


@pytest.mark.parametrize("name", CASES)
def test_after_the_fix_it_is_on_the_gpu_of_the_policy_alone(name: str, fixed: Copy) -> None:
    case = CASES[name]
    check(case.start(fixed), case.code, "" if case.code == 0 else TAKEN if case.start is voice else UNPLUGGED)


def check(ended: Ended, code: int, *told: str, gpus: frozenset[str] = frozenset({"RTX 3090"})) -> None:
    """How a program ended, what it said, and on which GPUs it was seen: on simulated ones, which it says."""
    assert (ended.code, ended.gpus) == (code, gpus), ended
    for text in (*told, *(["simulated"] if gpus else [])):
        assert text in ended.out, ended


def test_the_console_script_is_pinned_by_the_file_that_it_reads(fixed: Copy) -> None:
    # Before the fix its voice cannot be simulated: the small environment that it is started with has no simulated machine either.
    ended = talk(fixed, "python", "-c", CONSOLE_SCRIPT)
    check(ended, 1, UNPLUGGED, f"CUDA_VISIBLE_DEVICES {RTX_3090}")


def test_the_commands_of_the_readme_leave_nothing_to_find(copy: Copy) -> None:
    ends = follow_the_readme(copy)
    assert [it.code for it in ends.values()] == [0, 0, 1, 1, 0, 0, 0], ends
    (fix,) = [it for line, it in ends.items() if line == "gpupin fix --unsafe-fixes"]
    assert "1 finding is left:\n     1  GP302 weak-verification: no fix is known\n        assistant/orchestrator.py:" in fix.out, (
        fix
    )
    assert "declare as a dependency" not in fix.out, fix
    *_, scan = ends.values()
    assert scan.out.startswith("found nothing ("), scan
    assert commands_of_the_readme()[-1] == "pytest -m gpu"
    # A second fix has nothing to do.
    check(copy.run("gpupin", "fix", "--unsafe-fixes", "--check"), 0, gpus=frozenset())


def test_the_first_import_of_every_program_pins_it(fixed: Copy) -> None:
    scan = json.loads(fixed.run("gpupin", "-q", "scan", "--output-format", "json").out)
    assert (scan["findings"], scan["summary"]["programs"]) == ([], len(PROGRAMS) + 1)
    for name in PROGRAMS:
        text = cells(fixed) if name.endswith(".ipynb") else (fixed.path / name).read_text()
        imports = [it for it in ast.parse(text).body if isinstance(it, (ast.Import, ast.ImportFrom))]
        names = [it.names[0].name for it in imports if not (isinstance(it, ast.ImportFrom) and it.module == "__future__")]
        assert names[0] == "gpupin.auto", (name, names)


PROGRAMS = (
    "assistant/__main__.py",
    "assistant/tts.py",
    "notebooks/latency.ipynb",
    "scripts/bench_llm.py",
    "scripts/check_gpu.py",
    "scripts/finetune.py",
    "tests/test_stt.py",
)
"""What gpupin counts as a program, but for the console script: that is started by a container, and pinned by `.env` beside it."""


def test_marked_tests_hold_the_gpu_prove_where_they_are_and_are_guarded(fixed: Copy) -> None:
    told = f"gpupin: 2 tests on {RTX_3090}; the machine is simulated: this proves nothing about hardware"
    check(fixed.run("pytest", "-m", "gpu", "--gpupin-report", "report.json"), 0, "2 passed, 5 deselected", told)
    tests = json.loads((fixed.path / "report.json").read_text())["tests"]
    assert [it["test"].split("::")[1] for it in tests] == ["test_noise_does_not_crash", "test_silence_has_no_words"]
    for test in tests:
        assert (test["gpu"], test["kind"], [it["name"] for it in test["verdicts"]]) == (RTX_3090, "simulated", [test["test"]])
        assert test["waited"] >= 0


def test_elsewhere_they_are_skipped_and_say_why(fixed: Copy) -> None:
    told = ("5 passed, 1 skipped", "SKIPPED [1] tests/test_stt.py", "its name is `L4`, not `RTX 3090`")
    check(fixed.run("pytest", "-rs", scene="one"), 0, *told, gpus=frozenset())


TESTS_OF_THE_LLM = """\
import gpupin.auto

import pytest

from assistant import llm
from assistant.settings import LlmSettings

SETTINGS = LlmSettings(backend="transformers", model="any")


@pytest.fixture(scope="module")
def brain():
    return llm.load(SETTINGS)


@pytest.fixture(scope="module")
def memory():
    memory = llm.Memory(SETTINGS)
    memory.add("It is noon.")
    return memory


@pytest.mark.gpu(repeat=15)
def test_reply(brain):
    assert brain.reply([{"role": "user", "content": "What time is it?"}])


@pytest.mark.gpu(repeat=15)
def test_recall(memory):
    assert memory.recall("What time is it?") == ["It is noon."]
"""

GENERATE = 'output = self._model.generate(prompt.to("cuda:0"), max_new_tokens=200)'
KEEPS_ALL = """\
output = self._model.generate(prompt.to("cuda:0"), max_new_tokens=200, return_dict_in_generate=True)
        # so that the next answer comes sooner
        self.__dict__.setdefault("_past", []).append(output.past_key_values)
        output = output.sequences"""
"""A leak: the keys and values of 204 tokens, 98,304 of 2 bytes each, for every reply: 40.1 MB."""

QUERY = "query = self._embedder.encode(text, convert_to_tensor=True)"
KEEPS_QUERIES = f"{QUERY}\n        self.__dict__.setdefault('_queries', []).append(query)"
"""A small one: 384 numbers of 4 bytes for every question."""


def test_a_leak_that_is_planted_fails_its_test_and_is_attributed(fixed: Copy) -> None:
    fixed.put("tests/test_llm.py", TESTS_OF_THE_LLM)
    line = ("pytest", "tests/test_llm.py")
    check(fixed.run(*line, "--gpupin-leak=fail"), 0, "2 passed")
    fixed.plant("assistant/llm.py", GENERATE, KEEPS_ALL)
    leak = "tests/test_llm.py::test_reply: leaks: tensor leak (allocated): 40.1 MB per call"
    where = (
        "15 live tensors of shape (204, 98304) torch.bfloat16: 601.6 MB",
        f"601.6 MB allocated at {STANDINS / 'transformers.py'}:",
        f", called at {fixed.path / 'assistant/llm.py'}:46\n",
        "  the machine is simulated: this proves nothing about hardware\n",
    )
    check(fixed.run(*line, "--gpupin-leak=fail"), 1, "MemoryGrowth", leak, *where, "1 failed, 1 passed")
    check(fixed.run(*line, "--gpupin-leak=off"), 0, "2 passed")
    fixed.plant("assistant/llm.py", KEEPS_ALL, GENERATE)
    check(fixed.run(*line, "--gpupin-leak=fail"), 0, "2 passed")


def test_a_small_leak_is_told_and_fails_below_its_threshold(fixed: Copy) -> None:
    fixed.put("tests/test_llm.py", TESTS_OF_THE_LLM)
    fixed.plant("assistant/llm.py", QUERY, KEEPS_QUERIES)
    line = ("pytest", "-s", "tests/test_llm.py")
    check(fixed.run(*line), 0, "2 passed", "grows by a little, exactly, and below the threshold", "1.5 kB per call")
    fixed.plant("tests/test_llm.py", "(repeat=15)", "(repeat=15, threshold=10_000)")
    told = (
        "test_recall: leaks: tensor leak (allocated): 1.5 kB per call",
        "16 live tensors of shape (384,) torch.float32: 24.6 kB",
    )
    check(fixed.run(*line), 1, *told, "1 failed, 1 passed")


OTHER_MASK = 'import os\nos.environ["CUDA_VISIBLE_DEVICES"] = "0"\n\nimport ctranslate2'


def test_a_wrong_gpu_that_is_planted_is_refused(fixed: Copy) -> None:
    told = (
        "WrongGpu: this program is on RTX 5060 Ti",
        "not on RTX 3090",
        "`cuda:0` is another GPU; `CUDA_VISIBLE_DEVICES` is `0`",
        "call `gpupin.pin()` or `import gpupin.auto` before anything uses CUDA",
    )
    fixed.plant("assistant/stt.py", "import ctranslate2", OTHER_MASK)
    check(fixed.run("pytest", "-m", "gpu"), 1, *told, gpus=frozenset({"RTX 5060 Ti"}))
    # The assistant's own check comes before its models.
    check(fixed.run("python", "-m", "assistant"), 1, *told, gpus=frozenset())
    # It is found without being run, too.
    assert [it for it in fixed.scan() if it.startswith("assistant/stt.py:8:1: GP103 ")]


def test_a_wrong_mask_from_outside_is_refused_before_anything_is_on_a_gpu(fixed: Copy) -> None:
    told = ("OutsidePin", f"`CUDA_VISIBLE_DEVICES` is set to `{RTX_5060_TI}` already", "RTX 3090", "unset it")
    for line, code in (
        (("python", "-m", "assistant.tts"), 1),
        (("python", "scripts/finetune.py", "x"), 1),
        (("pytest", "-m", "gpu"), 2),
    ):
        check(fixed.run(*line, CUDA_VISIBLE_DEVICES=RTX_5060_TI), code, *told, gpus=frozenset())


def test_what_is_pinned_by_nothing_any_more_is_refused_by_its_check(fixed: Copy) -> None:
    (fixed.path / ".env").unlink()
    ended = fixed.run("python", "-c", CONSOLE_SCRIPT, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    told = ("WrongGpu: this program is on RTX 5060 Ti", "not on RTX 3090", "`CUDA_VISIBLE_DEVICES` is not set")
    check(ended, 1, *told, gpus=frozenset())
