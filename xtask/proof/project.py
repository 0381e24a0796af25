"""Fixes a copy of a real project and shows that it stayed what it was.

usage: project.py GPUPIN POLICY SOURCE COPY

Run by a Python that has nbformat. Syntax trees may differ only where findings were, a second fix changes nothing, and
undoing gives back every byte.
"""

import ast
import collections
import json
import os
import subprocess
import sys
import tokenize
import warnings
from pathlib import Path

import nbformat
import tree
import trees


def main():
    gpupin, policy, source, copied = [Path(it).resolve() for it in sys.argv[1:5]]
    warnings.simplefilter("ignore")
    claims = tree.Claims()
    tree.copy(source, copied, policy)
    original = tree.hashes(copied)
    reasons = reasons_of(tree.scan(gpupin, copied))

    fixed = tree.fix(gpupin, copied)
    now = tree.hashes(copied)
    touched = tree.differences(original, now)
    refused = {it["path"] for it in fixed["refused"]}
    print(f"{source.name}: {len(touched)} files touched, {sum(it['findings'] for it in fixed['fixed'])} findings fixed")
    by_rule = collections.Counter()
    for it in fixed["fixed"]:
        by_rule[it["code"]] += it["findings"]
    print("       " + ", ".join(f"{code} {number}" for code, number in sorted(by_rule.items())))
    for it in fixed["refused"]:
        print(f"       left alone: `{it['path']}`: {it['why']}")
    files = collections.Counter(Path(path).suffix or Path(path).name for path in touched)
    print("       " + ", ".join(f"{number} {kind}" for kind, number in files.most_common()))

    claims.claim("something is fixed", [] if touched else ["nothing was touched"])
    claims.claim("the files it names are those that changed", sorted(set(touched) ^ set(fixed["files"])))
    scripts = [path for path in touched if path.endswith(".py")]
    claims.claim(f"{len(scripts)} scripts compile", uncompiled(scripts, copied))
    notebooks = [path for path in touched if path.endswith(".ipynb")]
    claims.claim(f"{len(notebooks)} notebooks are valid", invalid(notebooks, source, copied))
    claims.claim("syntax trees and lines differ only where findings were", unfounded(touched, source, copied, reasons))
    spoiling = [it for it in fixed["left"] if it["why"].startswith("its fix was not made: it would bring ")]
    for it in spoiling:
        print(f"       not made: {it['code']} {it['findings']}: {it['why'].split(': ', 1)[1][:100]}")
    spoiling = {(it["code"], place["path"], place["line"]) for it in spoiling for place in it["places"]}
    left = fixable(tree.scan(gpupin, copied), refused, spoiling)
    claims.claim("nothing that could be fixed is left, but what would spoil something", left)
    again = tree.fix(gpupin, copied)
    changed = set(again["files"]) | set(tree.differences(now, tree.hashes(copied)))
    claims.claim("a second fix changes nothing", sorted(changed))
    undone = tree.run(gpupin, copied, "undo")
    claims.claim("`gpupin undo` succeeds", undone.stderr.splitlines()[:3] if undone.returncode else [])
    different = tree.differences(original, tree.hashes(copied))
    claims.claim("every byte is back", [f"{len(different)} files differ"] if different else [])
    sys.exit(claims.failed > 0)


def reasons_of(report):
    """The lines that findings and their edits lie on, by path."""
    reasons = collections.defaultdict(set)
    for finding in report["findings"]:
        fix = finding["fix"] or {"edits": []}
        for place in [finding, *fix["edits"]]:
            path = place.get("path", finding["path"])
            reasons[path].update(range(place["line"], place["end_line"] + 1))
    return reasons


def uncompiled(paths, directory):
    """What `compileall` says; its output goes elsewhere. Without any path it would compile Python itself."""
    if not paths:
        return []
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(directory.parent / "pycache"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "compileall", "-q", "-f", "-i", "-"]
    listed = "\n".join(paths)
    done = subprocess.run(command, cwd=directory, env=environment, input=listed, capture_output=True, encoding="utf-8")
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def invalid(paths, source, directory):
    """Notebooks that are no JSON, or break the notebook format where they did not before."""
    for path in paths:
        try:
            error = error_of((directory / path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as broken:
            error = f"no JSON: {broken}"
        if error and error != error_of((source / path).read_text(encoding="utf-8")):
            yield f"`{path}`: {error}"


def error_of(text):
    try:
        nbformat.validate(json.loads(text))
    except nbformat.ValidationError as error:
        return error.message


def unfounded(paths, source, directory, reasons):
    """Changes for which no finding gives a reason."""
    for path in paths:
        old = read(source / path) if (source / path).exists() else ""
        new = read(directory / path)
        if path.endswith(".py") and is_python(old):
            found = trees.complaints(old, new, reasons[path]) if is_python(new) else [(1, "no Python any more")]
        else:
            found = trees.line_complaints(old, new, reasons[path])
        for line, text in found:
            yield f"{path}:{line}: {text}"


def read(path):
    with path.open("rb") as file:
        encoding = tokenize.detect_encoding(file.readline)[0] if path.suffix == ".py" else "utf-8"
    return path.read_bytes().decode(encoding)


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def fixable(report, refused, spoiling):
    """Findings that have a fix, but those in files that the fix said it leaves alone, and those whose own fix it said would spoil something."""
    for finding in report["findings"]:
        if not finding["fix"] or (finding["code"], finding["path"], finding["line"]) in spoiling:
            continue
        paths = {finding["path"], *(it["path"] for key in ("edits", "new_files") for it in finding["fix"][key])}
        if not paths & refused:
            yield f"{finding['path']}:{finding['line']}: {finding['code']} {finding['message']}"


main()
