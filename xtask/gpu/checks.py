"""Runs everything that needs a real GPU and writes `hardware.json`, for `cargo xtask gpu record`.

usage: python3 checks.py OUT [--libraries-from FACTS]

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


def policy(directory, *lines):
    """A project whose policy has these lines."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "gpupin.toml").write_text("\n".join(lines) + "\n")
    return directory


def identity(uuid):
    table = Table("What gpupin sees", "`gpupin gpus`, beside `nvidia-smi`.", "what", "gpupin", "nvidia-smi")
    status, out, err = gpupin("gpus", "--no-policy", "--output-format", "json")
    if status != 0:
        table.row("gpus", f"exit {status}: {err.strip()[:200]}", "")
        return table
    said = json.loads(out)
    gpu = said["gpus"][0]
    for ours, theirs in [("name", "name"), ("uuid", "uuid"), ("pci", "pci.bus_id"), ("vram", "memory.total"), ("compute_capability", "compute_cap")]:
        table.row(ours, gpu.get(ours), "the same UUID" if theirs == "uuid" and smi(theirs) == gpu.get(ours) else smi(theirs))
    table.rows[1][1] = "a UUID"
    for ours, theirs in [("temperature", "temperature.gpu"), ("throttle", "clocks_event_reasons.active"), ("uncorrected_errors", "ecc.errors.uncorrected.volatile.total")]:
        table.row(ours, gpu.get(ours), smi(theirs))
    limits = ("slowdown_temperature", "shutdown_temperature")
    told = [str(gpu.get(it) or gpu["silent"].get(it)) for it in limits]
    theirs = run(["nvidia-smi", "-q", "-d", "TEMPERATURE"])[1].splitlines()
    theirs = [" ".join(it.split()) for it in theirs if "lowdown" in it or "hutdown" in it]
    table.row(", ".join(limits), ", ".join(told), "; ".join(theirs))
    for command in (["doctor"], ["which"]):
        status, out, err = gpupin(*command, "--no-policy")
        table.row(f"`gpupin {command[0]}`", f"exit {status}", (out + err).strip().splitlines()[-1][:160])
    status, out, err = gpupin("debug", "visibility-facts", timeout=240)
    try:
        answers = json.loads(out)
        differ = [it for it in answers if not it.get("agree", True)]
        table.row("masks and orders asked of CUDA", len(answers), f"{len(differ)} differ: {json.dumps(differ)[:300]}")
    except ValueError:
        table.row("masks and orders asked of CUDA", f"exit {status}", err.strip()[:200])
    return table


TORCH_WORK = """
import torch, time
x = torch.ones(1 << 20, device="cuda")
for _ in range(20):
    x = x * 1.0001
    torch.cuda.synchronize()
    time.sleep(0.05)
print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)
"""

REWRITES = """
import os
for name in list(os.environ):
    if name.startswith("CUDA_"):
        del os.environ[name]
""" + TORCH_WORK

REACHES = """
import ctypes, os, subprocess
for name in list(os.environ):
    if name.startswith("CUDA_"):
        del os.environ[name]
tried = []
for command in (["umount", "-l", "/dev/nvidia0"], ["mknod", "/tmp/nv0", "c", "195", "0"], ["chmod", "666", "/dev/nvidia0"]):
    tried.append(subprocess.run(command, capture_output=True).returncode)
opened = []
for path in ("/dev/nvidia0", "/tmp/nv0"):
    try:
        os.close(os.open(path, os.O_RDWR))
        opened.append(path)
    except OSError as error:
        opened.append(f"{path}: {error.strerror}")
print("tried", tried, "opened", opened, "cuInit", ctypes.CDLL("libcuda.so.1").cuInit(0))
"""


def evidence(directory):
    """The newest evidence of a project."""
    files = sorted((directory / ".gpupin" / "evidence").glob("*.json"), key=lambda it: it.stat().st_mtime)
    return json.loads(files[-1].read_text()) if files else {}


def runs(base, name):
    table = Table(
        "Runs",
        "`gpupin run`: what the program printed last, the exit code, and the evidence. One GPU: nothing else has to be isolated.",
        "run", "program", "exit", "verdict", "reasons", "isolation achieved", "refused",
    )
    meant = policy(base / "meant", "[gpu]", f'name = "{name}"')
    foreign = policy(
        base / "foreign", "[gpu]", 'name = "RTX 3090"', "[[forbid]]", f'name = "{name}"', "[run]", 'on-missing = "cpu"'
    )
    python = sys.executable
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    for title, directory, options, command, prefix in [
        ("CUDA driver alone", meant, [], [GPUPIN, "debug", "use-gpu", "--seconds", "2"], []),
        ("PyTorch", meant, [], [python, "-c", TORCH_WORK], []),
        ("PyTorch, isolated", meant, ["--isolate"], [python, "-c", TORCH_WORK], []),
        ("PyTorch, isolated, as another user", meant, ["--isolate"], [python, "-c", TORCH_WORK], nobody),
        ("no GPU used", meant, [], ["sleep", "1"], []),
        ("in a session of its own", meant, [], ["sh", "-c", f"setsid {GPUPIN} debug use-gpu --seconds 3 & sleep 0.2"], []),
        ("forbidden, mask rewritten", foreign, [], [python, "-c", REWRITES], []),
        ("forbidden, warned", foreign, ["--on-violation", "warn"], [python, "-c", REWRITES], []),
        ("forbidden, isolated", foreign, ["--isolate"], [python, "-c", REACHES], []),
        ("forbidden, isolated, as another user", foreign, ["--isolate"], [python, "-c", REACHES], nobody),
    ]:
        os.chmod(directory, 0o777)
        state = {**os.environ, "GPUPIN_STATE_DIR": str(base / ("state-nobody" if prefix else "state")), "HOME": str(base)}
        Path(state["GPUPIN_STATE_DIR"]).mkdir(exist_ok=True)
        if prefix:
            os.chown(state["GPUPIN_STATE_DIR"], 65534, 65534)
        where = base / "evidence" / str(len(table.rows))
        where.mkdir(parents=True)
        os.chmod(where, 0o777)
        full = [*prefix, GPUPIN, "run", *options, "--evidence-dir", str(where), "--", *command]
        status, out, err = run(full, timeout=90, cwd=directory, env=state)
        files = sorted(where.glob("*.json"))
        seen = json.loads(files[-1].read_text()) if files else {}
        reasons = ", ".join(it.get("code", str(it)) for it in seen.get("reasons", []))
        isolation = seen.get("isolation", {})
        last = (out.strip().splitlines() or err.strip().splitlines() or [""])[-1]
        last = last.replace(facts.child(facts.DRIVER, {})["devices"][0][4:], "<digits of the UUID>")
        table.row(
            title, code(last[:200]), status, seen.get("verdict", "none"), reasons,
            json.dumps(isolation.get("achieved", [])), json.dumps(isolation.get("refused", []))[:300],
        )
    return table


PACKAGE = {
    "pinned, required": """
import gpupin.auto
import torch
torch.randn(1, device="cuda")
import gpupin
print(gpupin.require().name, torch.cuda.device_count())
""",
    "pinned after PyTorch has started CUDA": """
import torch
torch.randn(1, device="cuda")
import gpupin
gpupin.pin()
""",
    "another GPU required": """
import torch
torch.randn(1, device="cuda")
import gpupin
gpupin.require(profile="other")
""",
    "lease": """
import gpupin
with gpupin.lease(timeout="10s") as held:
    print(len(held.gpus))
""",
    "guard, nothing leaks": """
import gpupin.auto
import torch
import gpupin
g = gpupin.guard("clean", repeat=True, mode="dev")
@g
def work():
    torch.randn(1 << 20, device="cuda")
work()
print(g.verdict.outcome, g.verdict.text)
""",
    "guard, tensors leak": """
import gpupin.auto
import torch
import gpupin
kept = []
g = gpupin.guard("leak", repeat=True, mode="dev")
@g
def work():
    kept.append(torch.randn(5 << 20, device="cuda"))
work()
print(g.verdict.outcome, g.verdict.text, g.verdict.hints[:1])
""",
}


def package(base, name):
    table = Table(
        "The Python package, with PyTorch",
        "What a program printed last, or its error. A leak of 20 MiB a call has to be found, and no leak where there is none.",
        "program", "exit", "what it said",
    )
    directory = policy(
        base / "package", "[gpu]", f'name = "{name}"', "[profiles.other.gpu]", 'name = "RTX 5060 Ti"', "[guard]", 'leak-threshold = "50 MB"'
    )
    state = base / "state-package"
    state.mkdir(mode=0o700, exist_ok=True)
    paths = [str(HERE / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GPUPIN_BINARY": GPUPIN, "GPUPIN_STATE_DIR": str(state)}
    for number, (title, script) in enumerate(PACKAGE.items()):
        file = directory / f"program{number}.py"
        file.write_text(script)
        status, out, err = run([sys.executable, str(file)], timeout=90, cwd=directory, env=variables)
        said = out.strip().splitlines() if status == 0 else [it for it in err.splitlines() if it.startswith("gpupin.")] or err.splitlines()
        table.row(title, status, code((said or [""])[-1][:300]))
    return table


def given_back(base):
    table = Table(
        "How late a killed program gives its GPU back",
        "From SIGKILL of a program with 8 GiB until it is gone from NVML's list, and until `gpupin run` of the next waiter starts its program. "
        "Seconds, sorted; the second asks the lease, held by a runner that is killed too.",
        "what", "seconds",
    )
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def listed():
        return [it.pid for it in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]

    times = []
    for _ in range(8):
        user = subprocess.Popen([GPUPIN, "debug", "use-gpu", "--memory", "8 GiB", "--seconds", "60"], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while user.pid not in listed() and time.monotonic() < end:
            time.sleep(0.01)
        start = time.monotonic()
        user.kill()
        while user.pid in listed() and time.monotonic() < end + 20:
            time.sleep(0.001)
        times.append(time.monotonic() - start)
        user.wait()
    table.row("gone from NVML's list", ", ".join(f"{it:.3f}" for it in sorted(times)))

    directory = base / "meant"
    state = {**os.environ, "GPUPIN_STATE_DIR": str(base / "state")}
    times = []
    for _ in range(4):
        use = [GPUPIN, "debug", "use-gpu", "--memory", "8 GiB", "--seconds", "60"]
        while listed():
            time.sleep(0.01)
        first = subprocess.Popen([GPUPIN, "run", "--", *use], cwd=directory, env=state, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not listed():
            time.sleep(0.01)
        user = listed()[0]
        show = "date +%s.%N; nvidia-smi --query-compute-apps=pid --format=csv,noheader | tr '\\n' ' '"
        second = subprocess.Popen(
            [GPUPIN, "run", "--", "sh", "-c", show], cwd=directory, env=state, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        time.sleep(1)
        start = time.time()
        first.kill()
        os.kill(user, signal.SIGKILL)
        out = second.communicate(timeout=30)[0].strip().splitlines()
        times.append((float(out[0]) - start, str(user) in " ".join(out[1:])))
        first.wait()
    times = sorted(times)
    early = sum(1 for it in times if it[1])
    table.row("programs that found the killed one still listed", f"{early} of {len(times)}")
    times = [it[0] for it in times]
    table.row("the next waiter's program started", ", ".join(f"{it:.3f}" for it in sorted(times)))
    return table


def libraries_from(file, uuid):
    """What libraries said on another machine of the same kind, whose GPU has another UUID."""
    text = file.read_text()
    other = json.loads(text)["driver"]["devices"][0]
    said = json.loads(text.replace(other, uuid).replace(other.upper(), uuid.upper()).replace(other[:13], uuid[:13]))
    return {name: said[name] for name in ("missing", "freezes", "torch_masks", "allocator")}


def attempt(build, *arguments):
    """A table, or one that says why there is none: the other checks go on."""
    try:
        return build(*arguments)
    except Exception as error:
        table = Table(build.__name__, "This check did not come to an end.", "error")
        table.row(f"{type(error).__name__}: {error}")
        return table


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="gpupin-gpu-"))
    os.chmod(base, 0o755)
    earlier = sys.argv[sys.argv.index("--libraries-from") + 1] if "--libraries-from" in sys.argv else None
    asked = facts.ask(libraries=earlier is None)
    uuid = asked["driver"]["devices"][0]
    if earlier:
        asked = {**libraries_from(Path(earlier), uuid), **asked}
    tables = [
        attempt(identity, uuid), attempt(runs, base, smi("name").removeprefix("NVIDIA ")),
        attempt(package, base, smi("name").removeprefix("NVIDIA ")), attempt(given_back, base),
        attempt(masks, asked), attempt(orders, asked), attempt(freezes, asked), attempt(allocator, asked),
    ]
    written = {"machine": machine(), "tables": [it.json() for it in tables], "facts": asked}
    (out / "hardware.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
