"""How much processor time two monitors take, in milliseconds, one figure a line.

    monitors.py gpustat N              of one query, N times, without the start of the interpreter
    monitors.py nvtop PROGRAM SECONDS  of all refreshes in SECONDS, without its start
"""

import fcntl
import os
import pty
import resource
import select
import signal
import struct
import sys
import termios
import time


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def gpustat(count):
    import gpustat

    # What is looked up once, such as the processes themselves, is no part of it.
    for _ in range(3):
        gpus = gpustat.new_query()
    assert [len(gpu.processes) for gpu in gpus] == [50] * 4, "it did not see what is there"
    for _ in range(count):
        before = used()
        gpustat.new_query()
        print((used() - before) * 1e3)


def used_by(pid):
    """Of all threads, from the scheduler, which counts in nanoseconds."""
    tasks = f"/proc/{pid}/task"
    return sum(int(open(f"{tasks}/{it}/schedstat").read().split()[0]) for it in os.listdir(tasks)) / 1e9


def nvtop(program, seconds):
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", HOME="/nonexistent")
        os.execv(program, [program, "-d", "1"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))

    def read_for(seconds):
        drawn = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([terminal], [], [], left)[0]:
                drawn += len(os.read(terminal, 65536))
        return drawn

    assert read_for(3) > 0, "it drew nothing"
    before = used_by(child)
    read_for(seconds)
    print((used_by(child) - before) * 1e3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if sys.argv[1] == "gpustat":
    gpustat(int(sys.argv[2]))
else:
    nvtop(sys.argv[2], float(sys.argv[3]))
