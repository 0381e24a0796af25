"""Copies of projects, what changed in them, and gpupin run there."""

import hashlib
import json
import shutil
import subprocess


def copy(source, target, policy, inside="."):
    """Copies a project in place of what is there, with the policy and the lock file of another beside it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target / inside, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for name in ("gpupin.toml", "gpupin.lock"):
        shutil.copy(policy / name, target / name)


def hashes(directory):
    """The mode and the hash of every file, by path. What gpupin keeps for itself does not count."""
    found = {}
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory)
        if path.is_file() and inside.parts[0] != ".gpupin":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[inside.as_posix()] = f"{path.stat().st_mode:o} {digest}"
    return found


def differences(old, new):
    return sorted(path for path in {**old, **new} if old.get(path) != new.get(path))


def run(gpupin, directory, *args):
    """Runs gpupin in a directory."""
    return subprocess.run([gpupin, *args], cwd=directory, capture_output=True, encoding="utf-8", check=False)


def report(gpupin, directory, *args):
    """Runs a command of gpupin that prints JSON, with every rule."""
    done = run(gpupin, directory, *args, "--select", "all", "--output-format", "json", ".")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"`gpupin {args[0]}` printed no JSON in `{directory}`: {done.stderr}") from None


def fix(gpupin, directory):
    return report(gpupin, directory, "fix", "--unsafe-fixes", "--allow-dirty")


def scan(gpupin, directory):
    return report(gpupin, directory, "scan")


class Claims:
    """What must hold. All of it is looked at, also after something does not."""

    def __init__(self):
        self.failed = 0

    def claim(self, what, complaints):
        """Prints whether it holds; every complaint is a line."""
        complaints = list(complaints)
        self.failed += bool(complaints)
        print(f"  {'FAIL' if complaints else 'ok  '} {what}")
        for complaint in complaints:
            print(f"         {complaint}")
