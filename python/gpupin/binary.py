"""The ``gpupin`` program: where it is, and how it is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from gpupin.errors import BinaryNotFound, GpupinError, LeaseTimeout, NoMatchingGpu, PolicyError

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "GPUPIN_BINARY"
"""Names the program, where it is neither beside Python nor on ``PATH``."""

_ERRORS: dict[int, type[GpupinError]] = {2: PolicyError, 3: NoMatchingGpu, 75: LeaseTimeout}
"""By exit code of the program, as its reference lists them."""


def find() -> str:
    """The program's path: what ``GPUPIN_BINARY`` names, else the one installed with this package, else from ``PATH``."""
    named = os.environ.get(VARIABLE)
    if named:
        if Path(named).is_file():
            return named
        raise BinaryNotFound(f"`{VARIABLE}` names `{named}`, which is no file")
    name = "gpupin" + (sysconfig.get_config_var("EXE") or "")
    schemes = [sysconfig.get_path("scripts")]
    user_scheme = {"posix": "posix_user", "nt": "nt_user"}.get(os.name)
    if user_scheme is not None:
        schemes.append(sysconfig.get_path("scripts", scheme=user_scheme))
    # `pip install --target` puts programs below the packages.
    schemes.append(str(Path(__file__).parent.parent / "bin"))
    for directory in schemes:
        path = Path(directory) / name
        if path.is_file():
            return str(path)
    on_path = shutil.which(name)
    if on_path is None:
        raise BinaryNotFound(
            f"the program `{name}` is neither in `{schemes[0]}` nor on `PATH`; "
            f"`pip install --force-reinstall gpupin` brings it, or name it with `{VARIABLE}`"
        )
    return on_path


def command(*arguments: str) -> list[str]:
    """The command line that asks the program on behalf of this package."""
    return [find(), "for-python", *arguments]


def ask(*arguments: str, given: str | None = None) -> dict[str, Any]:
    """Asks the program for one JSON object. What it warns of goes to standard error."""
    with start(command(*arguments)) as process:
        out, err = process.communicate(given)
    return answer(process.returncode, out, err)


def tell(*arguments: str, given: str) -> None:
    """Tells the program something. It has no answer."""
    with start(command(*arguments)) as process:
        _, err = process.communicate(given)
    if process.returncode != 0:
        refuse(process.returncode, err)


def start(line: Sequence[str], *, pass_fds: Sequence[int] = (), err: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    """Starts the program with pipes."""
    try:
        return subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=pass_fds,
        )
    except OSError as error:
        raise BinaryNotFound(f"`{line[0]}` cannot be started: {error.strerror}") from None


def answer(code: int, out: str, err: str) -> dict[str, Any]:
    """What the program printed, or the error that it told of."""
    if code != 0:
        refuse(code, err)
    sys.stderr.write(err)
    try:
        found: object = json.loads(out)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise GpupinError(f"the program `gpupin` gave no JSON object: {out[:200]!r}")
    document = cast("dict[str, Any]", found)
    if document.get("version") != 1:
        raise BinaryNotFound("the program `gpupin` is of another version than this package; install both from one wheel")
    return document


def refuse(code: int, err: str) -> NoReturn:
    """Raises what an exit code stands for, with what the program said."""
    message = err.strip()
    prefix = "error: "
    if message.startswith(prefix):
        message = message[len(prefix) :]
    if "unrecognized subcommand" in message:
        raise BinaryNotFound("the program `gpupin` is older than this package; install both from one wheel")
    raise _ERRORS.get(code, GpupinError)(message or f"`gpupin` ended with code {code}")
