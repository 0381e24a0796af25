"""``import gpupin.auto``: pins this program, before anything initialises CUDA.

Make it the first import of a program. A second import does nothing.
"""

from __future__ import annotations

import gpupin

gpupin.pin()
