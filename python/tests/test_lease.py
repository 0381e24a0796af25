"""Holding the GPU from inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Callable

import pytest
from conftest import BINARY, RTX_3090, Run, check, check_refused

Start = Callable[[str, str], "subprocess.Popen[str]"]

HOLD = "import gpupin, os, sys, time\n"


def holders(environment: dict[str, str], project: Path) -> list[str]:
    """The commands of who holds or waits, in order, as `gpupin lease ls` lists them."""
    line = [BINARY, "lease", "ls", "--output-format", "json"]
    done = subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, check=True)
    return [it["command"] for gpu in json.loads(done.stdout)["gpus"] for it in (*gpu["holders"], *gpu["waiting"])]


def line_of(program: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert program.stdout is not None
    return program.stdout.readline()


def wait_until(condition: Callable[[], bool]) -> None:
    """Until something has happened, or long enough for it."""
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.fixture
def start(project: Path, environment: dict[str, str]) -> Start:
    """Starts a program and leaves it running."""

    def starts(script: str, name: str) -> subprocess.Popen[str]:
        (project / name).write_text(textwrap.dedent(script))
        line = [BINARY, "-q", "sim", "--scene", "mixed", "--", sys.executable, name]
        return subprocess.Popen(
            line, cwd=project, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return starts


def test_a_lease_is_held_inside_and_given_back_behind(run: Run, environment: dict[str, str], project: Path) -> None:
    script = """
        import gpupin, os
        from pathlib import Path
        def tickets():
            return sorted(it.name for it in Path(os.environ["GPUPIN_STATE_DIR"]).rglob("GPU-*"))
        with gpupin.lease() as lease:
            print(lease.gpus, len(tickets()), "GPUPIN_LEASE" in os.environ)
        print(len(tickets()), "GPUPIN_LEASE" in os.environ)
    """
    check(run(script), f"('{RTX_3090}',) 1 True\n0 False\n")
    assert holders(environment, project) == []


def logged(environment: dict[str, str]) -> list[tuple[str, int]]:
    """What the log of the machine says of leases, and of which process."""
    lines = [it.read_text() for it in Path(environment["GPUPIN_STATE_DIR"]).rglob("log-*.jsonl")]
    entries = [json.loads(it) for it in "".join(lines).splitlines()]
    return [(it["event"], it["process"]["pid"]) for it in entries]


def test_what_is_missing_is_told(run: Run, project: Path) -> None:
    script = "import gpupin\nwith gpupin.lease(): pass\n"
    for scene in ("mixed", "no-driver"):
        done = run(script, policy=None, scene=scene)
        check_refused(done, "PolicyError", "there is no policy that declares a GPU", f"looked for in `{project}`")
        (project / "gpupin.toml").touch()
    check_refused(run(script, scene="no-driver"), "NoMatchingGpu", "no RTX 3090 is here", "no NVIDIA driver", "`gpupin doctor`")
    check_refused(run(script, policy="gpu.name = 'H100'\n"), "NoMatchingGpu", "its name is `RTX 3090`, not `H100`")


@pytest.mark.parametrize("scene", ["mixed", "no-driver"])
def test_without_the_gpu_nothing_is_held_if_the_policy_says_so(run: Run, scene: str) -> None:
    script = "import gpupin, os\nwith gpupin.lease() as it: print(it.gpus, 'GPUPIN_LEASE' in os.environ)\n"
    done = run(script, policy="gpu.name = 'H100'\nrun.on-missing = 'cpu'\n", scene=scene)
    check(done, "() False\n", "the policy lets this program run without it: nothing is held")


def test_what_is_given_back_in_order_is_logged_so(run: Run, environment: dict[str, str]) -> None:
    script = """
        import gpupin, os
        with gpupin.lease() as outer:
            with gpupin.lease():
                pass
        print(os.getpid())
    """
    done = run(script)
    check(done, done.stdout)
    holder = int(done.stdout)
    assert logged(environment) == [("lease-taken", holder), ("lease-given-back", holder)]


def test_what_ends_in_another_way_is_not(run: Run, environment: dict[str, str]) -> None:
    done = run("import gpupin, os\ngpupin.lease().__enter__()\nprint(os.getpid(), flush=True)\nos.kill(os.getpid(), 9)\n")
    assert logged(environment) == [("lease-taken", int(done.stdout))]


def test_what_is_decorated_holds_the_gpu_while_it_runs_and_no_longer(run: Run) -> None:
    script = """
    import asyncio, gpupin, os

    holds = lambda: "GPUPIN_LEASE" in os.environ

    @gpupin.lease()
    def plain(it):
        return it, holds()

    @gpupin.lease()
    async def coroutine(it):
        await asyncio.sleep(0)
        return it, holds()

    @gpupin.lease()
    def generator():
        sent = yield holds()
        yield sent, holds()
        return "last"

    def outer():
        print((yield from generator()))

    print(plain(1), asyncio.run(coroutine(2)), holds())
    items = outer()
    print(holds(), next(items), items.send("sent"), list(items), holds())

    async def both():
        return await asyncio.gather(coroutine(3), coroutine(4))

    print(asyncio.run(both()), holds())
    try:
        @gpupin.lease()
        async def asynchronous():
            yield
    except gpupin.GpupinError as error:
        print(error)
    """
    said = run(script)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        "(1, True) (2, True) False",
        "last",
        "False True ('sent', True) [] False",
        "[(3, True), (4, True)] False",
        "`asynchronous` is an asynchronous generator, which cannot be decorated; use `with gpupin.lease():` around its loop",
    ]


def test_a_second_program_waits_and_says_for_whom(run: Run, start: Start) -> None:
    first = start(HOLD + "with gpupin.lease():\n    print('held', flush=True)\n    sys.stdin.read()\n", "first.py")
    assert line_of(first) == "held\n"
    done = run(HOLD + "with gpupin.lease(timeout=0.2): pass\n")
    check_refused(done, "LeaseTimeout", "was not free in time", "`python first.py`")
    first.communicate()
    check(run(HOLD + "with gpupin.lease(timeout='10s'): print('mine')\n"), "mine\n")


def test_a_killed_holder_frees_the_gpu(run: Run, start: Start) -> None:
    script = HOLD + "with gpupin.lease():\n    print(os.getpid(), flush=True)\n    sys.stdin.read()\n"
    first = start(script, "first.py")
    os.kill(int(line_of(first)), signal.SIGKILL)
    first.communicate()
    check(run(HOLD + "with gpupin.lease(timeout='10s'): print('mine')\n"), "mine\n")


def test_who_waits_for_a_program_that_dies_leaves_the_line(start: Start, environment: dict[str, str], project: Path) -> None:
    first = start(HOLD + "with gpupin.lease():\n    print('held', flush=True)\n    sys.stdin.read()\n", "first.py")
    line_of(first)
    second = start(HOLD + "print(os.getpid(), flush=True)\nwith gpupin.lease(): pass\n", "second.py")
    waiter = int(line_of(second))
    wait_until(lambda: holders(environment, project) == ["python first.py", "python second.py"])
    os.kill(waiter, signal.SIGKILL)
    wait_until(lambda: holders(environment, project) == ["python first.py"])
    second.communicate()
    first.communicate()


def test_a_lease_inside_a_lease_is_the_same_one(run: Run) -> None:
    script = """
        import gpupin, subprocess, sys, threading
        @gpupin.lease()
        def inner():
            return gpupin.lease().__enter__().gpus
        with gpupin.lease() as outer:
            found = [inner() == outer.gpus]
            thread = threading.Thread(target=lambda: found.append(inner() == outer.gpus))
            thread.start()
            thread.join()
            child = "import gpupin\\nwith gpupin.lease(timeout=0) as it: print(it.gpus)"
            done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
            print(found, done.stdout.strip() == str(outer.gpus))
    """
    check(run(script), "[True, True] True\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_have_the_lease_of_who_started_them(run: Run, method: str) -> None:
    script = f"""
        import concurrent.futures, multiprocessing
        import gpupin
        def work(number):
            with gpupin.lease(timeout=0) as lease:
                return number, lease.gpus
        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            with gpupin.lease() as outer:
                with context.Pool(2) as pool:
                    print(pool.map(work, range(2)) == [(it, outer.gpus) for it in range(2)])
                with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
                    print(list(executor.map(work, range(2))) == [(it, outer.gpus) for it in range(2)])
            with gpupin.lease(timeout="10s"):
                print("again")
    """
    check(run(script), "True\nTrue\nagain\n")


def test_what_was_forked_keeps_the_gpu_until_it_ends(run: Run, start: Start, environment: dict[str, str], project: Path) -> None:
    script = """
        import gpupin, os, sys
        with gpupin.lease():
            child = os.fork()
            if child == 0:
                sys.stdin.read()
                os._exit(0)
        print("left", flush=True)
        os.waitpid(child, 0)
    """
    first = start(script, "first.py")
    assert line_of(first) == "left\n"
    assert holders(environment, project) == ["python first.py"]
    check_refused(run(HOLD + "with gpupin.lease(timeout=0): pass\n"), "LeaseTimeout")
    _, told = first.communicate()
    assert "stays held until what was forked meanwhile has ended" in told
    check(run(HOLD + "with gpupin.lease(timeout='10s'): print('mine')\n"), "mine\n")


def test_an_interrupt_ends_waiting(run: Run, start: Start, environment: dict[str, str], project: Path) -> None:
    first = start(HOLD + "with gpupin.lease():\n    print('held', flush=True)\n    sys.stdin.read()\n", "first.py")
    line_of(first)
    # Who tests in the background ignores the signal, and so do all that it starts.
    script = HOLD + "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    second = start(script + "print(os.getpid(), flush=True)\nwith gpupin.lease(): pass\n", "second.py")
    waiter = int(line_of(second))
    wait_until(lambda: holders(environment, project) == ["python first.py", "python second.py"])
    os.kill(waiter, signal.SIGINT)
    _, told = second.communicate()
    assert "KeyboardInterrupt" in told
    wait_until(lambda: holders(environment, project) == ["python first.py"])
    first.communicate()
