"""Which memory grows."""

from __future__ import annotations

from pathlib import Path

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
