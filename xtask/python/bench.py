"""What the Python package costs: one question to the program, and a guarded call in production. Simulated machine, real times.

Run by `cargo xtask bench python` under `gpupin sim`; each figure is a ratio to a floor of the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Callable

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 200


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    from gpupin import binary, plan

    program = binary.find()
    question = binary.command("pin")

    def start(line: list[str]) -> None:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def whole() -> None:
        plan._cache.clear()
        plan.resolve(None, None)

    contenders: dict[str, Callable[[], object]] = {
        "/bin/true": lambda: start(["/bin/true"]),
        "gpupin --version": lambda: start([program, "--version"]),
        "gpupin for-python pin": lambda: start(question),
        "resolve() in Python": whole,
    }
    sys.stderr = open(os.devnull, "w")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            times[name].append(milliseconds(work))
    print(f"one question to the program: simulated machine, {ROUNDS} rounds in turns, medians in ms")
    floor = statistics.median(times["/bin/true"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"  {name:<24} {median:7.2f}  ({min(found):.2f} to {max(found):.2f})  {median / floor:5.2f} x /bin/true")
    print(f"  goal: one call below 15 ms; it took {statistics.median(times['resolve() in Python']):.1f} ms")

    import gpupin

    gpupin.configure("production")

    def bare(number: int) -> int:
        return number + 1

    guarded = gpupin.guard("bench")(bare)
    guarded(0)
    calls = 20_000

    def loop(work: Callable[[int], int]) -> float:
        start = time.perf_counter()
        for number in range(calls):
            work(number)
        return (time.perf_counter() - start) / calls * 1e9

    pairs = [(loop(bare), loop(guarded)) for _ in range(15)]
    before, after = (statistics.median(it) for it in zip(*pairs))
    print(f"a guarded call in production, {calls} calls, median of 15 in turns: {after:.0f} ns, bare {before:.0f} ns: {after / before:.1f} x")
    print(f"  goal: below 1000 ns more; it was {after - before:.0f} ns more")


main()
