"""The pytest plugin: ``@pytest.mark.gpu`` takes the lease, pins, requires and guards a test."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import gpupin
from gpupin import guarding, off
from gpupin.errors import GpupinError, LeaseTimeout, NoMatchingGpu
from gpupin.plan import resolve

if TYPE_CHECKING:
    from collections.abc import Generator

    from gpupin.verdict import Verdict

_REPORT = pytest.StashKey["list[dict[str, Any]]"]()
_LEASE = pytest.StashKey[gpupin.lease]()
_CHOICES = ("fail", "warn", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--gpupin-leak`` and ``--gpupin-report``."""
    group = parser.getgroup("gpupin", "which GPU tests run on, and what they leak")
    group.addoption(
        "--gpupin-leak",
        choices=_CHOICES,
        default="fail",
        help="what happens when a test marked `gpu` leaks memory (default: fail)",
    )
    group.addoption(
        "--gpupin-report",
        metavar="FILE",
        default=None,
        help="write what was measured about each test marked `gpu` as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line(
        "markers",
        "gpu(role=None, profile=None, timeout=None, repeat=1, threshold=None): needs the policy's GPU: holds it, pins the process, "
        "proves that it is there, and guards its memory; `repeat` calls the test so often that a leak can be told from a warm-up",
    )
    config.stash[_REPORT] = []


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skips a file that pins itself by ``import gpupin.auto`` where no GPU matches, as a marked test is, and says why."""
    report = yield
    call: pytest.CallInfo[Any] | None = getattr(report, "call", None)
    error = None if call is None or call.excinfo is None else call.excinfo.value
    if isinstance(error, NoMatchingGpu):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {error}")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Takes the GPU before a fixture may use it. Skips what has none here, and says why: what did not run has not passed."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    if off.is_off("tests marked `gpu` are skipped"):
        pytest.skip("gpupin is switched off (`GPUPIN=off`)")
    role, profile = _text(marker, "role"), _text(marker, "profile")
    try:
        plan = resolve(role, profile)
    except NoMatchingGpu as error:
        pytest.skip(str(error))
    except GpupinError as error:
        # Where in this package it was raised helps nobody.
        pytest.fail(str(error), pytrace=False)
    if not plan.chosen and plan.mask != "kept":
        pytest.skip(f"no {plan.wanted} is here")
    lease = gpupin.lease(role, profile=profile, timeout=marker.kwargs.get("timeout"))
    try:
        lease.__enter__()
    except LeaseTimeout as error:
        pytest.fail(str(error), pytrace=False)
    item.stash[_LEASE] = lease
    gpupin.pin(role, profile=profile)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Gives the GPU back when the last fixture is done with it."""
    lease = item.stash.get(_LEASE, None)
    if lease is not None:
        del item.stash[_LEASE]
        lease.__exit__(None, None, None)


def _text(marker: pytest.Mark, name: str) -> str | None:
    value: object = marker.kwargs.get(name)
    return None if value is None else str(value)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Runs a marked test with the GPU."""
    marker = pyfuncitem.get_closest_marker("gpu")
    if marker is None or off.is_off("tests marked `gpu` are skipped"):
        return (yield)
    role, profile = _text(marker, "role"), _text(marker, "profile")
    verdicts: list[Verdict] = []
    record: dict[str, Any] = {"test": pyfuncitem.nodeid, "waited": pyfuncitem.stash[_LEASE].waited}
    pyfuncitem.config.stash[_REPORT].append(record)
    try:
        gpu = gpupin.require(role, profile=profile)
        record["gpu"] = None if gpu is None else gpu.uuid
        record["kind"] = resolve(role, profile).kind
        with guarding.listening(verdicts.append):
            return (yield from _guarded(pyfuncitem, marker))
    finally:
        record["verdicts"] = [{"name": it.name, "outcome": it.outcome, "text": it.text} for it in verdicts]


def _guarded(item: pytest.Function, marker: pytest.Mark) -> Generator[None, object, object]:
    leak = str(item.config.getoption("--gpupin-leak"))
    if leak == "off":
        return (yield)
    repeat = int(marker.kwargs.get("repeat", 1))
    mode = "ci" if leak == "fail" else "dev"
    guard = gpupin.guard(item.nodeid, threshold=marker.kwargs.get("threshold"), mode=mode)
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}  # pyright: ignore[reportPrivateUsage]
    with guard:
        for _ in range(repeat - 1):
            item.obj(**arguments)
            guard.step()
        result = yield
        guard.step()
        return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the report."""
    records = session.config.stash[_REPORT]
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        # A worker of xdist tells the one that started it.
        output["gpupin"] = json.dumps(records)
        return
    name = session.config.getoption("--gpupin-report")
    if name is not None:
        document = {"version": 1, "tests": sorted(records, key=lambda it: it["test"])}
        Path(str(name)).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tells on which GPUs the marked tests were, and whether these are real: what a passing test says is not shown."""
    records = config.stash[_REPORT]
    told = Counter((it["gpu"], it["kind"]) for it in records if it.get("gpu") is not None)
    for (gpu, kind), number in sorted(told.items()):
        tests = "1 test" if number == 1 else f"{number} tests"
        proof = "" if kind == "measured" else f"; the machine is {kind}: this proves nothing about hardware"
        terminalreporter.write_line(f"gpupin: {tests} on {gpu}{proof}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what a worker of xdist measured."""
    told = getattr(node, "workeroutput", {}).get("gpupin")
    if told is not None:
        node.config.stash[_REPORT].extend(json.loads(told))
