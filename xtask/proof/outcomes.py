"""Fixes an installed scikit-learn and shows that its tests end as they did before.

usage: outcomes.py GPUPIN POLICY DIRECTORY

Run by a Python that has scikit-learn and pytest. The tests are those in the `tests` directories nearest to what the
fix touches.
"""

import collections
import concurrent.futures
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import sklearn
import tree

LIBRARIES = "scikit_learn.libs"

# Left out where the fix touches them: each takes many minutes, twice.
SLOW = {"sklearn/tests", "sklearn/linear_model/tests", "sklearn/utils/tests"}


def main():
    gpupin, policy, directory = [Path(it).resolve() for it in sys.argv[1:4]]
    claims = tree.Claims()
    installed = Path(sklearn.__file__).parent
    before, after = directory / "before", directory / "after"
    for side in (before, after):
        tree.copy(installed, side, policy, inside=installed.name)
        # Its wheel has shared libraries beside it.
        shutil.copytree(installed.parent / LIBRARIES, side / LIBRARIES)
    fixed = tree.fix(gpupin, after)
    touched = tree.differences(tree.hashes(before), tree.hashes(after))
    print(f"scikit-learn {sklearn.__version__} as installed: {len(touched)} files touched")
    claims.claim("the files it names are those that changed", sorted(set(touched) ^ set(fixed["files"])))

    nearest = {nearest_tests(after, Path(path).parent) for path in touched} - {None}
    tests = sorted(nearest - SLOW)
    print("       tests: " + ", ".join(tests))
    print("       slow, and left out: " + (", ".join(sorted(nearest & SLOW)) or "none"))
    claims.claim("it touches what has tests", [] if tests else ["nothing touched is near tests"])
    if tests:
        with concurrent.futures.ThreadPoolExecutor() as both:
            old, new = both.map(lambda side: outcomes(side, tests), (before, after))
        counts = collections.Counter(old.values())
        told = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
        claims.claim("tests pass before the fix", [] if counts["passed"] else ["no test passed"])
        claims.claim(
            f"each of {len(old)} tests ends as before ({told})",
            (f"{name}: {old.get(name)}, then {new.get(name)}" for name in tree.differences(old, new)),
        )
    sys.exit(claims.failed > 0)


def nearest_tests(root, directory):
    """The directory itself if it has tests, or the `tests` in it or above it."""
    for above in [directory, *directory.parents]:
        for tests in (above, above / "tests"):
            if tests.name == "tests" and (root / tests).is_dir():
                return tests.as_posix()
    return None


def outcomes(side, tests):
    """How every test ends, by its name."""
    results = side.parent / f"{side.name}.xml"
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", *tests]
    # Both sides run at once; more threads would only wait for each other.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Started where the copy is, so that the copy is what it imports.
    where = "import sklearn; print(sklearn.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=side, env=environment, capture_output=True, check=True)
    if Path(found.stdout.decode().strip()).parent != side / "sklearn":
        raise SystemExit(f"the tests would import {found.stdout.decode()}")
    done = subprocess.run(command, cwd=side, env=environment, capture_output=True, encoding="utf-8", check=False)
    if not results.exists():
        raise SystemExit(f"pytest wrote no results: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = {}
    for case in xml.parse(results).iter("testcase"):
        kinds = [it.tag for it in case if it.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = " and ".join(kinds) or "passed"
    return found


main()
