"""Which statements a fix changed, and whether it had a reason to.

Two syntax trees are compared without positions. A reason is a line of the old file that a finding or one of its edits
lies on. What is changed or removed must lie on such a line. What is added must be a part of the pin, or stand next to
such a line.
"""

import ast
import copy
import difflib
import re

BEGIN = "# gpupin: begin of the pin"
END = "# gpupin: end of the pin"

# What GP402 sets at the top of a program that has a pin of its own: the variable of the example's policy.
VARIABLE = 'os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:1024"'


def complaints(old, new, reasons):
    """Returns what has no reason, as (line, text): lines of the old file, or of the new one for what was added."""
    comparison = Comparison(reasons, pinned_lines(new))
    comparison.bodies(ast.parse(old).body, ast.parse(new).body)
    return comparison.found


def pinned_lines(text):
    """The lines between the two comments that `gpupin fix` writes around a pin, and those that set a variable alone."""
    pinned, inside = set(), False
    lines = split(text)
    for number, line in enumerate(lines, 1):
        if line == VARIABLE and lines[number - 2] == "import os":
            pinned |= {number - 1, number}
        if line.strip().startswith(BEGIN):
            inside = True
        elif line.strip().startswith(END):
            inside = False
        elif inside:
            pinned.add(number)
    return pinned


def split(text):
    """Lines as Python counts them; `splitlines` knows more line ends."""
    return re.split("\r\n|\r|\n", text)


def blocks(node):
    """The lists of statements inside a statement, by field; an `except` and a `case` count as statements."""
    inner = (ast.stmt, ast.excepthandler, ast.match_case)
    lists = ((field, value) for field, value in ast.iter_fields(node) if isinstance(value, list))
    return {field: value for field, value in lists if value and isinstance(value[0], inner)}


def head(node):
    """A statement without the statements inside it."""
    bare = copy.copy(node)
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        if isinstance(getattr(bare, field, None), list):
            setattr(bare, field, [])
    return ast.dump(bare)


def first_line(node):
    at = node.pattern if isinstance(node, ast.match_case) else node
    return min([at.lineno, *(it.lineno for it in getattr(node, "decorator_list", []))])


def last_line(node):
    inner = [it for block in blocks(node).values() for it in block]
    return max([getattr(node, "end_lineno", 0), *map(last_line, inner)])


def head_lines(node):
    """The lines of a statement in front of the statements inside it."""
    inner = [first_line(it) for block in blocks(node).values() for it in block]
    first = first_line(node)
    return range(first, max(first + 1, min(inner))) if inner else range(first, last_line(node) + 1)


def tail_lines(node):
    """The lines of the last statement inside a statement, or its own."""
    inner = [it for block in blocks(node).values() for it in block]
    return tail_lines(max(inner, key=last_line)) if inner else head_lines(node)


class Comparison:
    def __init__(self, reasons, pinned):
        self.reasons, self.pinned, self.found = reasons, pinned, []

    def bodies(self, old, new):
        """Compares two lists of statements."""
        for tag, o1, o2, n1, n2 in opcodes(old, new, ast.dump):
            if tag == "equal":
                continue
            around = [*map(tail_lines, old[max(0, o1 - 1) : o1]), *map(head_lines, old[o2 : o2 + 1])]
            self.differing(old[o1:o2], new[n1:n2], around)

    def differing(self, old, new, around):
        """Compares statements of which none is the same; `around` are the lines next to them."""
        for tag, o1, o2, n1, n2 in opcodes(old, new, head):
            gone, come = old[o1:o2], new[n1:n2]
            if tag == "equal" or [type(it) for it in gone] == [type(it) for it in come]:
                for one, other in zip(gone, come):
                    self.pair(one, other)
                continue
            for one in gone:
                self.removed(one)
            beside = [*map(tail_lines, old[max(0, o1 - 1) : o1]), *map(head_lines, old[o2 : o2 + 1])]
            replaced = [lines for it in gone for lines in (head_lines(it), tail_lines(it))]
            for one in come:
                self.added(one, [*around, *beside, *replaced])

    def pair(self, old, new):
        """Compares a statement with what became of it."""
        if head(old) != head(new) and not self.has_reason(head_lines(old)):
            self.complain(first_line(old), "changed", old)
        inside, now = blocks(old), blocks(new)
        for field in {**inside, **now}:
            self.bodies(inside.get(field, []), now.get(field, []))

    def removed(self, node):
        if not self.has_reason(head_lines(node)):
            self.complain(first_line(node), "removed", node)
        for block in blocks(node).values():
            for inner in block:
                self.removed(inner)

    def added(self, node, beside):
        is_pin = self.pinned.issuperset(range(first_line(node), last_line(node) + 1))
        is_import = isinstance(node, ast.Import) and [it.name for it in node.names] == ["gpupin.auto"]
        if not (is_pin or is_import or isinstance(node, ast.Pass) or any(map(self.has_reason, beside))):
            self.complain(first_line(node), "added", node)

    def has_reason(self, lines):
        return not self.reasons.isdisjoint(lines)

    def complain(self, line, what, node):
        text = "an `except` or `case`" if not isinstance(node, ast.stmt) else f"`{ast.unparse(node).splitlines()[0]}`"
        self.found.append((line, f"{what} without a reason: {text}"))


def opcodes(old, new, key):
    matcher = difflib.SequenceMatcher(None, [*map(key, old)], [*map(key, new)], autojunk=False)
    return matcher.get_opcodes()


def line_complaints(old, new, reasons):
    """The same for a file that is not Python: its lines are its statements."""
    old, new = split(old), split(new)
    found = []
    for tag, o1, o2, n1, n2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        found += [
            (number, f"changed or removed without a reason: `{old[number - 1].strip()}`")
            for number in range(o1 + 1, o2 + 1)
            if number not in reasons and old[number - 1].strip()
        ]
        if o1 == o2 and reasons.isdisjoint((o1, o1 + 1)):
            found.append((n1 + 1, f"added without a reason: `{new[n1].strip()}`"))
    return found
