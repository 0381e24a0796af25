"""Unpacks the fetched source packages and builds the sets that are scanned.

usage: corpus.py CORPUS.TXT DIRECTORY

DIRECTORY/archives holds what was fetched. Written are
DIRECTORY/packages/<package>: every text file that gpupin reads, of whatever language;
DIRECTORY/sets/<set>/<package>: its Python files as hard links, so that every tool is
given the same files and none has to be told which to skip.
"""

import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

TEXT = re.compile(
    r"\.(py|pyi|ipynb|sh|bash|ps1|bat|cmd|ya?ml|toml|ini|cfg|json|env|service|mk)$|(Dockerfile|Makefile|\.env)[^/]*$",
    re.IGNORECASE,
)


def sets(corpus):
    """Yields (set, packages), each set with the packages of those before it."""
    name, packages = None, []
    for line in corpus.read_text(encoding="utf-8").splitlines():
        if line.startswith("# set "):
            if name:
                yield name, list(packages)
            name = line.removeprefix("# set ")
        elif line and not line.startswith("#"):
            packages.append(line.replace("==", "-"))
    yield name, packages


def members(archive):
    """Yields (path, bytes) of the regular files of an archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    yield info.filename, lambda info=info: opened.read(info)
    else:
        with tarfile.open(archive) as opened:
            for info in opened:
                if info.isfile():
                    yield info.name, lambda info=info: opened.extractfile(info).read()


def unpack(archive, directory):
    for name, read in members(archive):
        # The first part is the package's name and version.
        path = PurePosixPath(*PurePosixPath(name).parts[1:])
        if not path.parts or path.is_absolute() or ".." in path.parts or not TEXT.search(path.name):
            continue
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read())


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def main():
    corpus, directory = Path(sys.argv[1]), Path(sys.argv[2])
    archives = {normal(re.sub(r"\.(tar\.gz|zip)$", "", file.name)): file for file in (directory / "archives").iterdir()}
    for name in ("packages", "sets"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name, packages in sets(corpus):
        for package in packages:
            unpacked = directory / "packages" / package
            if not unpacked.exists():
                unpack(archives[normal(package)], unpacked)
            for file in unpacked.rglob("*.py"):
                inside = file.relative_to(unpacked)
                # ripgrep skips hidden files, and so would have less to read.
                if any(part.startswith(".") for part in inside.parts):
                    continue
                link = directory / "sets" / name / package / inside
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, link)


main()
