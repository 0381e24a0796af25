"""Runs everything that needs a real GPU and writes `hardware.json`, for `cargo xtask gpu record`.

usage: python3 checks.py OUT

Needs the standard library; PyTorch and its kin are asked where they are installed. Lies beside `gpupin`. What a check
cannot do it says, and goes on: an answer that is missing must be seen.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import facts

HERE = Path(__file__).resolve().parent
GPUPIN = str(HERE / "gpupin")


class Table:
    """A table of the document, and what of it disagrees with gpupin."""

    def __init__(self, title, about, *columns):
        self.title, self.about, self.columns, self.rows = title, about, columns, []

    def row(self, *cells):
        self.rows.append([str(it) for it in cells])

    def json(self):
        return {"title": self.title, "about": self.about, "columns": self.columns, "rows": self.rows}


def run(command, timeout=120, **options):
    """What a command did: its exit code, output and errors. 124 where it took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired as error:
        return 124, str(error.stdout or ""), str(error.stderr or "")
    return done.returncode, done.stdout, done.stderr


def gpupin(*arguments, timeout=120, **options):
    return run([GPUPIN, *arguments], timeout, **options)


def code(text):
    return f"`{text}`" if text.strip() == text and text else f"`` {json.dumps(text)} ``"


def smi(query):
    out = run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])[1]
    return out.strip().splitlines()[0] if out.strip() else "unknown"


def machine():
    version = run(["nvidia-smi", "--version"])[1]
    cuda = [line.split(":")[1].strip() for line in version.splitlines() if line.startswith("CUDA Version")]
    return {
        "date": date.today().isoformat(),
        "gpu": smi("name"),
        "driver": smi("driver_version"),
        "cuda": (cuda or ["unknown"])[0],
        "kernel": platform.release(),
    }


def masks(asked):
    table = Table(
        "Masks",
        "`CUDA_VISIBLE_DEVICES` in the environment of a fresh process, and what `cuInit` and `cuDeviceGetCount` say then: "
        "100 is no device, 101 an invalid one. `UUID` is the GPU's. gpupin's answer is `gpupin which`'s.",
        "mask", "the driver's GPUs", "code", "PyTorch counts", "gpupin's GPUs", "gpupin's certainty",
    )
    uuid = asked["driver"]["devices"][0]
    torch = {it["CUDA_VISIBLE_DEVICES"]: it for it in asked.get("torch_masks", [])}
    for answer in asked["masks"]:
        mask = answer["CUDA_VISIBLE_DEVICES"]
        counted = torch.get(mask, {})
        ours = which({"CUDA_VISIBLE_DEVICES": mask})
        shown = mask
        for text, name in [(uuid, "UUID"), (uuid.upper(), "UUID in capitals"), (uuid[4:], "digits of the UUID")]:
            shown = shown.replace(text, f"<{name}>")
        table.row(
            code(shown), len(answer.get("devices", [])), answer.get("code", answer.get("error")),
            counted.get("count", counted.get("error", "")), ours[0], ours[1],
        )
    return table


def which(environment):
    """How many GPUs gpupin says are visible, and how certain it is."""
    arguments = ["which", "--ignore-env", "--no-policy", "--output-format", "json"]
    for name, value in environment.items():
        arguments += ["--env", f"{name}={value}"]
    status, out, err = gpupin(*arguments)
    try:
        answer = json.loads(out)
    except ValueError:
        return f"exit {status}", err.strip().splitlines()[:1]
    return len(answer["visible"]), answer["certainty"]


def orders(asked):
    table = Table(
        "Orders",
        "`CUDA_DEVICE_ORDER` in the environment of a fresh process, without a mask, with the GPU's UUID as mask, and with an empty mask.",
        "order", "code without a mask", "code with the UUID", "code with an empty mask", "gpupin's GPUs",
    )
    answers = zip(asked["orders"], asked["orders_with_uuid"], asked["orders_without_gpu"], strict=True)
    for alone, with_uuid, without in answers:
        order = alone["CUDA_DEVICE_ORDER"]
        ours = which({"CUDA_DEVICE_ORDER": order})
        table.row(code(order), *(it.get("code", it.get("error")) for it in (alone, with_uuid, without)), ours[0])
    return table


def freezes(asked):
    table = Table(
        "What makes CUDA read its environment",
        "After the statement the mask is set to `-1` and the driver asked: one GPU means that it was too late. "
        "Versions: " + versions() + ". Not installed: " + (", ".join(asked.get("missing", [])) or "none") + ".",
        "statement", "freezes",
    )
    for answer in asked.get("freezes", []):
        if "error" in answer:
            frozen = "error: " + answer["error"][:120]
        else:
            frozen = "yes" if answer["gpus"] else "no"
        table.row(code(answer["statement"]), frozen)
    return table


def versions():
    program = (
        "import importlib.metadata as m\n"
        "for name in 'torch transformers accelerate lightning jax cupy-cuda13x numba-cuda torch-geometric'.split():\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass"
    )
    return ", ".join(run([sys.executable, "-c", program])[1].split("\n")[:-1])


def allocator(asked):
    table = Table(
        "Allocator settings",
        "The first allocation of PyTorch under these variables.",
        "variables", "what it said",
    )
    for answer in asked.get("allocator", []):
        variables = " ".join(f"{name}={value}" for name, value in answer["environment"].items())
        table.row(code(variables), answer.get("error") or "nothing")
    return table


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    sys.argv.append("--libraries")
    asked = facts.ask(libraries=True)
    tables = [masks(asked), orders(asked), freezes(asked), allocator(asked)]
    written = {"machine": machine(), "tables": [it.json() for it in tables], "facts": asked}
    (out / "hardware.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
