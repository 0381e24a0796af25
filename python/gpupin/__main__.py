"""``python -m gpupin``: runs the program."""

from __future__ import annotations

import os
import subprocess
import sys

from gpupin import binary
from gpupin.errors import BinaryNotFound


def main() -> None:
    """Becomes the program, with this process's arguments."""
    try:
        program = binary.find()
    except BinaryNotFound as error:
        sys.exit(f"error: {error}")
    line = [program, *sys.argv[1:]]
    if os.name == "nt":
        # A process of Windows cannot become another.
        sys.exit(subprocess.run(line, check=False).returncode)
    sys.stdout.flush()
    os.execv(program, line)


if __name__ == "__main__":
    main()
