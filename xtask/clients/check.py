"""What real clients of NVML and CUDA say about a simulated machine, compared with its scene.

Runs inside of `gpupin sim`, as `check.py CLIENT [PROGRAM]`. Exits with 3 and a list of differences if the client saw something else.
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from pathlib import Path

STATE = Path(os.environ["GPUPIN_SIM"])
DIFFERS = 3
UNITS = {"B": 1, "MiB": 1 << 20, "GiB": 1 << 30}


def size(text):
    number, unit = text.split()
    return int(float(number) * UNITS[unit])


def expected():
    """The GPUs of the scene in NVML's order, with what is on them."""
    scene = tomllib.loads((STATE / "scene.toml").read_text())
    uses = []
    for file in (STATE / "processes").iterdir():
        if not file.name.startswith("."):
            pid = int(file.name.split("-")[0])
            uses += [(pid, use) for use in tomllib.loads(file.read_text())["use"] if "until" not in use]
    gpus = []
    for gpu in scene["gpu"]:
        on = [(pid, use) for pid, use in uses if use["gpu"] == gpu["uuid"]]
        listed = lambda kind: sorted((pid, use["memory"]) for pid, use in on if use["kind"] == kind)
        gpus.append(
            {
                "uuid": gpu["uuid"],
                "name": gpu["name"],
                "total": size(gpu["vram"]),
                "used": sum(use["memory"] for _, use in on) + size(gpu.get("unowned", "0 B")),
                "reserved": size(gpu.get("reserved", "300 MiB")),
                "temperature": gpu.get("temperature", 35),
                "power": round(gpu.get("power", 20.0) * 1000),
                "utilization": min(100, sum(use["utilization"] for _, use in on) + gpu.get("utilization", 0)),
                "compute": listed("compute"),
                "graphics": listed("graphics"),
            }
        )
    for gpu in gpus:
        assert len(gpu["compute"]) >= 2, "a wrong layout of rows is invisible with one process"
    return scene, gpus


def pynvml():
    """NVIDIA's own Python bindings, of any age."""
    import pynvml as nvml

    scene, gpus = expected()
    text = lambda it: it.decode() if isinstance(it, bytes) else it
    nvml.nvmlInit()
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        listed = lambda rows: sorted((row.pid, row.usedGpuMemory) for row in rows)
        uuid = text(nvml.nvmlDeviceGetUUID(handle))
        same = nvml.nvmlDeviceGetHandleByUUID(uuid.encode() if isinstance(nvml.nvmlDeviceGetName(handle), bytes) else uuid)
        assert nvml.nvmlDeviceGetIndex(same) == index
        found.append(
            {
                "uuid": uuid,
                "name": text(nvml.nvmlDeviceGetName(handle)),
                "total": memory.total,
                # The first version of the call counts what the driver keeps as used.
                "used": memory.used - gpus[index]["reserved"],
                "reserved": memory.total - memory.free - memory.used + gpus[index]["reserved"],
                "temperature": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
                "power": nvml.nvmlDeviceGetPowerUsage(handle),
                "utilization": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
                "compute": listed(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
                "graphics": listed(nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)),
            }
        )
    assert text(nvml.nvmlSystemGetDriverVersion()) == scene["driver"]
    nvml.nvmlShutdown()
    return found, gpus


def nvitop():
    import nvitop

    _, gpus = expected()
    found = []
    for device in nvitop.Device.all():
        processes = device.processes().values()
        listed = lambda kind: sorted((it.pid, it.gpu_memory()) for it in processes if kind in it.type)
        found.append(
            {
                "uuid": device.uuid(),
                "name": device.name(),
                "total": device.memory_total(),
                "used": device.memory_used(),
                "reserved": device.memory_reserved() if hasattr(device, "memory_reserved") else 300 << 20,
                "temperature": device.temperature(),
                "power": device.power_usage(),
                "utilization": device.gpu_utilization(),
                "compute": listed("C"),
                "graphics": listed("G"),
            }
        )
    return found, [gpu | {"reserved": found[0]["reserved"]} for gpu in gpus]


def gpustat():
    out = subprocess.run([Path(sys.executable).with_name("gpustat"), "--json"], capture_output=True, text=True, check=True).stdout
    _, gpus = expected()
    mib = 1 << 20
    found = [
        {
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "total": gpu["memory.total"] * mib,
            "used": gpu["memory.used"] * mib,
            "temperature": gpu["temperature.gpu"],
            "utilization": gpu["utilization.gpu"],
            "all": sorted((it["pid"], it["gpu_memory_usage"] * mib) for it in gpu["processes"]),
        }
        for gpu in json.loads(out)["gpus"]
    ]
    for gpu in gpus:
        gpu["all"] = sorted(gpu["compute"] + gpu["graphics"])
        for key in ("reserved", "power", "compute", "graphics"):
            del gpu[key]
    return found, gpus


def screen(command, seconds, wanted):
    """What a program draws on a terminal, without what moves the cursor."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", COLUMNS="200", LINES="60", HOME="/nonexistent")
        os.execv(command[0], command)
    import fcntl, struct, termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    drawn, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and not all(it.encode() in drawn for it in wanted):
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                drawn += os.read(terminal, 65536)
            except OSError:
                break
    os.write(terminal, b"q")
    # Who was started with hang-ups ignored, as by nohup, would stay.
    end = time.monotonic() + 5
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                os.read(terminal, 65536)
            except OSError:
                time.sleep(0.1)
    os.close(terminal)
    return re.sub(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()].|[=>])", b" ", drawn).decode(errors="replace")


def nvtop(program):
    _, gpus = expected()
    # The name without its vendor, and every process by its number.
    names = [gpu["name"].removeprefix("NVIDIA ") for gpu in gpus]
    pids = [str(pid) for gpu in gpus for pid, _ in gpu["compute"] + gpu["graphics"]]
    text = screen([program, "-d", "2"], 20, names + pids)
    return {it: it in text for it in names + pids}, {it: True for it in names + pids}


def on_gpus(work):
    """Runs `work` for every ordinal in two processes at once, and compares where NVML sees them."""
    import pynvml as nvml

    pipes = []
    for ordinal in (0, 1, 0, 1):
        ours, theirs = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours[1])
            try:
                said = work(ordinal)
            except BaseException:
                said = traceback.format_exc()
            os.write(theirs[1], said.encode())
            os.read(ours[0], 1)
            os._exit(0)
        os.close(ours[0])
        os.close(theirs[1])
        pipes.append((pid, ours[1], os.read(theirs[0], 60000).decode()))
    nvml.nvmlInit()
    seen = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        for row in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            seen[row.pid] = nvml.nvmlDeviceGetUUID(handle)
    said = {pid: uuid for pid, _, uuid in pipes}
    for pid, pipe, _ in pipes:
        # Later children hold this end too, so that closing it would not be noticed.
        os.write(pipe, b".")
        os.waitpid(pid, 0)
    order = tomllib.loads((STATE / "scene.toml").read_text())["cuda-order"]
    for (_, _, uuid), wanted in zip(pipes, order * 2):
        assert uuid == wanted, uuid
    return {pid: seen.get(pid) for pid in said}, said


def numba():
    def work(ordinal):
        from numba import cuda

        with cuda.gpus[ordinal] as gpu:
            free, total = cuda.current_context().get_memory_info()
            assert 0 < free < total
            return gpu._device.uuid if hasattr(gpu, "_device") else cuda.get_current_device().uuid

    return on_gpus(work)


def bindings():
    def work(ordinal):
        from cuda.bindings import driver as cuda

        def ok(result):
            assert result[0] == cuda.CUresult.CUDA_SUCCESS, result
            return result[1] if len(result) == 2 else result[1:]

        ok(cuda.cuInit(0))
        device = ok(cuda.cuDeviceGet(ordinal))
        context = ok(cuda.cuDevicePrimaryCtxRetain(device))
        ok(cuda.cuCtxSetCurrent(context))
        free, total = ok(cuda.cuMemGetInfo())
        ok(cuda.cuMemAlloc(64 << 20))
        assert ok(cuda.cuMemGetInfo())[0] == free - (64 << 20)
        assert cuda.cuMemAlloc(total)[0] == cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY
        digits = ok(cuda.cuDeviceGetUuid(device)).bytes.hex()
        return "GPU-" + "-".join(digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))

    return on_gpus(work)


if __name__ == "__main__":
    found, wanted = globals()[sys.argv[1]](*sys.argv[2:])
    if found != wanted:
        pairs = zip(found, wanted) if isinstance(found, list) else [(found, wanted)]
        for a, b in pairs:
            for key in sorted(b, key=str):
                if a.get(key) != b[key]:
                    print(f"{sys.argv[1]}: {key}: {a.get(key)} instead of {b[key]}")
        if len(found) != len(wanted):
            print(f"{sys.argv[1]}: {len(found)} instead of {len(wanted)}")
        sys.exit(DIFFERS)
