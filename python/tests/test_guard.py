"""Which memory grows."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, check, check_refused

HEAD = """
import gpupin.auto
from allocator import MB, install
torch = install()
"""


def test_a_steady_function_is_steady(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(64 * MB)
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.allocated += 8 * MB
    torch.allocated -= 8 * MB
    return 7
print(work())
"""
    check(run(script), "7\n")


def test_live_tensors_are_a_tensor_leak(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.allocated += 20 * MB
work()
"""
    done = run(script)
    check_refused(done, "MemoryGrowth", "work: leaks: tensor leak (allocated): 20.0 MB per call", "out of memory in")


def test_a_little_is_suspect_and_goes_on(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(64 * MB)
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.allocated += 512
work()
print("on")
"""
    check(run(script), "on\n", "grows by a little, exactly, and below the threshold", "512 B per call")


def test_what_the_framework_does_not_know_is_the_drivers_or_an_extensions(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(64 * MB)
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.take(20 * MB)
work()
"""
    check_refused(run(script), "MemoryGrowth", "driver or extension leak (driver): 2", "MB per call")


def test_fragments_are_fragmentation(run: Run) -> None:
    script = f"""{HEAD}
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.reserve(20 * MB)
    torch.inactive += 20 * MB
work()
"""
    check_refused(run(script), "MemoryGrowth", "fragmentation (non_releasable)")


def test_a_cache_that_fills_is_no_leak(run: Run) -> None:
    script = f"""{HEAD}
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.reserve(20 * MB)
work()
print("on")
"""
    check(run(script), "on\n")


def test_host_memory_is_a_host_leak(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(64 * MB)
kept = []
@gpupin.guard(repeat=True, mode="ci")
def work():
    kept.append(bytearray(b"x" * 20 * MB))
work()
"""
    check_refused(run(script), "MemoryGrowth", "host leak (host): 2", "MB per call")


def test_a_loop_is_guarded_by_its_steps(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
with gpupin.guard("training", mode="dev") as g:
    for _ in g.steps(range(15)):
        torch.allocated += 20 * MB
print(g.verdict.outcome, [it.counter for it in g.verdict.counters if it.verdict == "leak"])
"""
    check(run(script), "leak ['allocated']\n", "training: leaks: tensor leak", "afterwards: collected")


def test_calls_count_one_by_one(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
@gpupin.guard("step", warmups=2, calls=8, mode="ci")
def work():
    torch.allocated += 20 * MB
for number in range(1, 20):
    try:
        work()
    except gpupin.MemoryGrowth as error:
        print(number, error.verdict.calls)
        break
"""
    check(run(script), "10 8\n")


def test_an_exception_goes_through_and_is_reported(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
try:
    with gpupin.guard("loop", mode="ci") as g:
        for number in g.steps(range(40)):
            torch.allocated += 15 * MB
            if number == 30:
                raise KeyError("mine")
except KeyError as error:
    print(error, g.verdict.outcome)
"""
    check(run(script), "'mine' leak\n", "loop: leaks: tensor leak")


def test_an_exception_that_is_handled_around_a_call_hides_no_leak(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
@gpupin.guard("step", mode="ci")
def work():
    torch.allocated += 20 * MB
for _ in range(20):
    try:
        raise KeyError("mine")
    except KeyError:
        work()
"""
    check_refused(run(script), "MemoryGrowth", "step: leaks: tensor leak")


def test_calls_that_fail_count_and_keep_their_exception(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
guard = gpupin.guard("step", mode="ci")
@guard
def work():
    torch.allocated += 20 * MB
    raise KeyError("mine")
for _ in range(13):
    try:
        work()
    except KeyError as error:
        assert error.__context__ is None
print(guard.verdict.outcome, guard.verdict.calls)
"""
    check(run(script), "leak 10\n", "step: leaks: tensor leak")


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("async def work(self):\n        await asyncio.sleep(0)\n        LEAK", "asyncio.run(it.work())"),
        ("def work(self):\n        LEAK\n        yield 1\n        yield 2", "assert list(it.work()) == [1, 2]"),
        ("def work(self):\n        LEAK\n        yield 1\n        yield 2", "items = it.work(); next(items); items.close()"),
        ("async def work(self):\n        LEAK\n        yield 1\n        yield 2", "asyncio.run(drain(it.work()))"),
        ("@classmethod\n    def work(cls):\n        LEAK", "it.work()"),
        ("@staticmethod\n    def work():\n        LEAK", "It.work()"),
        ("def work(self):\n        LEAK", "it.work()"),
    ],
)
def test_every_kind_of_function_is_guarded(run: Run, function: str, call: str) -> None:
    script = f"""{HEAD}
import asyncio
torch.reserve(640 * MB)
guard = gpupin.guard(mode="dev")
async def drain(items):
    assert [it async for it in items] == [1, 2]
class It:
    @guard
    {function.replace("LEAK", "torch.allocated += 20 * MB")}
it = It()
for _ in range(12):
    {call}
assert guard.verdict is None
{call}
print(guard.verdict.name, guard.verdict.outcome, guard.verdict.calls)
"""
    check(run(script), "It.work leak 10\n")


def test_what_is_sent_to_and_thrown_into_a_generator_arrives(run: Run) -> None:
    script = """
        import asyncio, gpupin
        @gpupin.guard()
        def plain():
            try:
                got = yield 1
            except KeyError:
                got = "thrown"
            yield got
            return "end"
        @gpupin.guard()
        async def other():
            try:
                got = yield 1
            except KeyError:
                got = "thrown"
            yield got
        async def ask():
            items = other()
            found = [await items.asend(None), await items.asend("sent")]
            items = other()
            await items.asend(None)
            found.append(await items.athrow(KeyError()))
            await items.aclose()
            return found
        def through():
            return (yield from plain())
        items = through()
        found = [next(items), items.send("sent")]
        try:
            next(items)
        except StopIteration as end:
            found.append(end.value)
        items = plain()
        next(items)
        print(found, items.throw(KeyError()), asyncio.run(ask()))
    """
    check(run(script), "[1, 'sent', 'end'] thrown [1, 'sent', 'thrown']\n")


def test_a_coroutine_function_is_repeated_and_a_generator_is_not(run: Run) -> None:
    script = f"""{HEAD}
import asyncio
torch.reserve(640 * MB)
calls = 0
@gpupin.guard(repeat=True, mode="ci")
async def work():
    global calls
    calls += 1
    return "result"
print(asyncio.run(work()), calls)
@gpupin.guard(repeat=True)
def items():
    yield
"""
    done = run(script)
    assert done.stdout == "result 13\n", done
    check_refused(done, "GpupinError", "`items` is a generator, which cannot be repeated")


def test_threads_that_call_a_repeated_function_are_judged_apart(run: Run) -> None:
    script = f"""{HEAD}
import threading
torch.reserve(64 * MB)
barrier = threading.Barrier(2)
@gpupin.guard(repeat=True, warmups=1, calls=4, mode="ci")
def work():
    barrier.wait()
for_both = [threading.Thread(target=work) for _ in range(2)]
for it in for_both: it.start()
for it in for_both: it.join()
print(barrier.broken)
"""
    check(run(script), "False\n")


def test_between_two_looks_production_reads_the_clock_and_nothing_else(run: Run) -> None:
    script = f"""{HEAD}
import os, sys
from gpupin import configuring
gpupin.configure("production")
calls = 0
@gpupin.guard()
def work():
    global calls
    calls += 1
work()
called = []
sys.setprofile(lambda frame, event, what: called.append(frame.f_code.co_name if event == "call" else what.__name__)
    if event in {{"call", "c_call"}} else None)
work()
sys.setprofile(None)
print([it for it in called if it != "setprofile"], calls)
"""
    check(run(script), "['guarded', 'work', 'next', 'monotonic'] 2\n")


def test_a_mode_that_is_chosen_later_counts_from_the_next_call_on(run: Run) -> None:
    script = f"""{HEAD}
guard = gpupin.guard("step", calls=1000)
own = gpupin.guard("own", calls=1000, mode="production")
@guard
@own
def work():
    pass
counted = []
for mode in ("production", "ci", "production", "dev", "production"):
    gpupin.configure(mode)
    for _ in range(5):
        work()
    counted.append((len(guard._series.samples), len(own._series.samples)))
print(counted)
"""
    check(run(script), "[(2, 2), (7, 2), (7, 2), (12, 2), (12, 2)]\n")


def test_what_keeps_the_judge_from_judging_ends_no_program_but_in_ci(run: Run) -> None:
    script = """
        import os, gpupin
        @gpupin.guard("step", warmups=0, calls=2)
        def work():
            os.environ["GPUPIN_BINARY"] = "/no/such/file"
        for _ in range(5):
            work()
        print("on")
    """
    for mode in ("dev", "production"):
        told = "step: memory is counted and not judged: `GPUPIN_BINARY` names `/no/such/file`, which is no file"
        check(run(script, GPUPIN_MODE=mode), "on\n", *([told] if mode == "dev" else []))
    check_refused(run(script, GPUPIN_MODE="ci"), "BinaryNotFound", "which is no file")


def test_a_framework_that_fails_is_unknown(run: Run) -> None:
    script = """
        import sys, types
        import gpupin
        def fail():
            raise RuntimeError("no device")
        sys.modules["cupy"] = types.SimpleNamespace(
            get_default_memory_pool=fail, cuda=types.SimpleNamespace(runtime=types.SimpleNamespace(deviceSynchronize=fail))
        )
        with gpupin.guard("loop", mode="ci") as g:
            for _ in g.steps(range(20)):
                pass
        print([it.counter for it in g.verdict.counters])
    """
    check(run(script, scene="no-driver", policy=None), "['host']\n")


THRESHOLDS = """
[gpu]
name = "RTX 3090"
[guard]
leak-threshold = "500 MB"
[profiles.dev]
guard.leak-threshold = "400 MB"
[profiles.ci]
guard.leak-threshold = "1 MB"
[profiles.production]
guard.leak-threshold = "2 GB"
"""
SHOW = """
import gpupin
from gpupin import configuring, plan
print(plan.leak_threshold(), configuring.mode().name)
"""


@pytest.mark.parametrize("scene", ["mixed", "no-gpu", "no-driver", "twin-3090"])
def test_the_policys_profile_says_the_threshold_and_the_mode_whatever_the_machine_has(run: Run, scene: str) -> None:
    check(run(SHOW, policy=THRESHOLDS, scene=scene), "500000000 dev\n")
    for profile, threshold in (("dev", 400_000_000), ("ci", 1_000_000), ("production", 2_000_000_000)):
        check(run(SHOW, policy=THRESHOLDS, scene=scene, GPUPIN_PROFILE=profile), f"{threshold} {profile}\n")
    # The mode alone changes no threshold.
    check(run(SHOW, policy=THRESHOLDS, scene=scene, GPUPIN_MODE="ci"), "500000000 ci\n")


def test_without_a_policy_the_threshold_is_the_default(run: Run) -> None:
    check(run(SHOW, policy=None), "100000000 dev\n")


def test_the_threshold_is_what_is_judged_by(run: Run) -> None:
    script = f"""{HEAD}
torch.reserve(640 * MB)
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.allocated += 2 * MB
work()
print("on")
"""
    check(run(script, policy=THRESHOLDS), "on\n", "below the threshold")
    check_refused(run(script, policy=THRESHOLDS, GPUPIN_PROFILE="ci"), "MemoryGrowth", "tensor leak")
    check(run(script.replace("repeat=True", "repeat=True, threshold=10**9"), policy=THRESHOLDS, GPUPIN_PROFILE="ci"), "on\n")


def test_a_policy_that_cannot_be_read_is_told_by_the_guard_too(run: Run) -> None:
    script = """
        import gpupin
        with gpupin.guard("loop") as g:
            for _ in g.steps(range(20)):
                pass
        print("on")
    """
    wrong = "[guard]\nleak-threshold = 'much'\n"
    check(run(script, policy=wrong), "on\n", "not judged", "gpupin.toml:2:18", "leak-threshold")
    check_refused(run(script, policy=wrong, GPUPIN_MODE="ci"), "PolicyError", "gpupin.toml:2:18")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_count_for_themselves(run: Run, method: str) -> None:
    script = f"""
        import concurrent.futures, multiprocessing, os
        import gpupin
        kept = []
        guard = gpupin.guard("step", mode="dev", threshold=1_000_000)
        @guard
        def work(size):
            kept.append(b"x" * size)
            return size
        def judged(size):
            before = guard.verdict
            for _ in range(13):
                work(size)
            return before is None, guard.verdict.calls, guard.verdict.outcome, os.getpid()
        if __name__ == "__main__":
            with guard._lock:
                for _ in range(9):
                    work(0)
                context = multiprocessing.get_context("{method}")
                with context.Pool(1) as pool:
                    found = [pool.apply(judged, (20_000_000,))]
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
                    found.append(executor.submit(judged, 20_000_000).result())
            print([it[:3] for it in found], os.getpid() not in [it[3] for it in found])
            for _ in range(4):
                work(0)
            print(guard.verdict.calls)
    """
    check(run(script, policy=None), "[(True, 10, 'leak'), (True, 10, 'leak')] True\n10\n")


def test_a_pool_of_threads_is_one_process(run: Run) -> None:
    script = f"""{HEAD}
import concurrent.futures
torch.reserve(64 * MB)
guard = gpupin.guard("step", mode="ci", calls=47)
@guard
def work(number):
    return number
with concurrent.futures.ThreadPoolExecutor(8) as executor:
    assert list(executor.map(work, range(50))) == list(range(50))
print(guard.verdict.name, guard._done)
"""
    check(run(script), "step 50\n")


def test_a_block_that_is_left_in_a_forked_process_is_not_judged_there(run: Run) -> None:
    script = """
        import os, sys
        import gpupin
        try:
            with gpupin.guard("loop", mode="ci") as g:
                g.step()
                child = os.fork()
                if child == 0:
                    sys.exit(7)
        finally:
            if child == 0:
                print(g.verdict, flush=True)
        print(os.waitpid(child, 0)[1] >> 8, g.verdict is None)
    """
    check(run(script, policy=None), "None\n7 False\n")


def test_production_only_counts(run: Run) -> None:
    script = f"""{HEAD}
from gpupin import counters, guarding
def forbidden():
    raise AssertionError("production is not interfered with")
guarding.settle = guarding.tidy = forbidden
torch.reserve(640 * MB)
gpupin.configure("production")
@gpupin.guard("step", warmups=0, calls=2)
def work():
    torch.allocated += 20 * MB
for _ in range(50):
    work()
print("on")
"""
    check(run(script), "on\n")


def test_others_that_move_make_the_drivers_count_worthless(run: Run) -> None:
    script = f"""{HEAD}
import subprocess, sys
torch.reserve(64 * MB)
other = '''
import sys
from allocator import MB, Allocator
it = Allocator()
for line in sys.stdin:
    it.take(50 * MB)
    print("taken", flush=True)
'''
other = subprocess.Popen([sys.executable, "-c", other], stdin=-1, stdout=-1, text=True, start_new_session=True)
from gpupin import counters
counters._family = lambda: {{__import__("os").getpid()}}
@gpupin.guard(repeat=True, mode="ci")
def work():
    torch.take(20 * MB)
    other.stdin.write("more\\n")
    other.stdin.flush()
    other.stdout.readline()
work()
print("on")
other.communicate()
"""
    done = run(script)
    assert done.stdout == "on\n", done


def test_a_long_running_program_is_watched_from_a_thread(run: Run, tmp_path: Path) -> None:
    script = f"""{HEAD}
import time
torch.reserve(640 * MB)
watch = gpupin.watch_memory("service", every=0.02, export={str(tmp_path / "memory.prom")!r})
while len(watch._series.samples) < 60:
    torch.allocated += 2 * MB
    time.sleep(0.01)
verdict = watch.stop()
print(verdict.outcome, [it.counter for it in verdict.counters if it.verdict == "leak"])
"""
    check(run(script), "leak ['allocated']\n")
    text = (tmp_path / "memory.prom").read_text()
    assert '# TYPE gpupin_memory_allocated_bytes gauge\ngpupin_memory_allocated_bytes{name="service"} ' in text


def test_without_a_policy_a_guard_knows_less_and_works(run: Run) -> None:
    script = """
        import gpupin
        with gpupin.guard("loop", mode="ci") as g:
            for _ in g.steps(range(20)):
                pass
        print(g.verdict.outcome, [it.counter for it in g.verdict.counters])
    """
    check(run(script, policy=None), "insufficient ['host']\n")


def test_off_guards_nothing(run: Run) -> None:
    script = """
        import gpupin
        @gpupin.guard(repeat=True)
        def work():
            print("once")
        work()
    """
    check(run(script, GPUPIN="off"), "once\n", "nothing guards memory")


def test_a_mode_that_is_none_is_refused(run: Run) -> None:
    check_refused(run("import gpupin\ngpupin.configure('prod')\n"), "GpupinError", "no mode `prod`", "`production`")
