"""The documents that the program and the package exchange, in the golden files of both."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import RTX_3090

from gpupin import plan, verdict
from gpupin.counters import Sample

WIRE = Path(__file__).parent.parent.parent / "wire"


def test_the_programs_pin_is_read() -> None:
    found = plan.parse(json.loads((WIRE / "python-pin.json").read_text()))
    assert [it.uuid for it in found.chosen] == [RTX_3090]
    assert [it.name for it in found.machine] == ["RTX 5060 Ti", "RTX 3090"]
    assert found.variables == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": RTX_3090, "A": "b"}
    assert (found.mask, found.leak_threshold, found.is_simulated) == ("nobody", 100_000_000, True)


def test_the_programs_verdict_is_read() -> None:
    found = verdict.parse("loop", json.loads((WIRE / "python-verdict.json").read_text()))
    assert (found.outcome, found.calls, found.counters[0].per_call) == ("leak", 10, 20e6)
    assert str(found).startswith("loop: leaks: tensor leak (allocated): 20.0 MB per call")


def test_samples_are_written_as_the_program_reads_them() -> None:
    golden = json.loads((WIRE / "python-samples.json").read_text())["samples"][0]
    sample = Sample(
        0.0, 0, allocated=0, non_releasable=0, reserved=64_000_000, process=364_000_000, others=0, host=900_000_000, pinned=None
    )
    assert sample.as_json() == golden
