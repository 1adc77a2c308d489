"""A problem with the line it is about and a caret below its place, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import east_asian_width

from router.errors import Problem

#: The most of a line that is shown, in characters.
_WIDTH = 100

#: What may be a secret: behind `://` up to an `@`, and behind a key that is named like one.
_CREDENTIALS = re.compile(r"(?<=://)(?:(?!://)[^\s@])*(?=@)")
_TELLING = re.compile(
    r"(?i)(?:auth|token|secret|passw|api.?key|cookie|credential)[^:]{0,40}:(?:\s(.*)|$)"
)
#: An item of a list that has lines of its own.
_ITEM = re.compile(r"\s*-\s(.*)")
_VALUE = re.compile(r":\s(.*)")
#: Inside of those, what is no secret: keys, variables without their defaults, what YAML is made of.
_HARMLESS = re.compile(
    r"((?:(?<=\{)|(?<=, ))[\w-]+(?=:\s)|\$\{(?:file:[\w./-]*|\w*)|[\s{}\[\],:\"'])|[\w-]+|."
)


def excerpt(problem: Problem, lines: Sequence[str]) -> str:
    """Three lines: the problem, the line, the caret. Only the first where there is no place.

    `lines` are the document's. What may be a secret in them is shown as dots.
    """
    if not 1 <= problem.line <= len(lines):
        return str(problem)
    line = _printable(_masked(lines, problem))
    start = max(0, problem.column - 1 - _WIDTH // 2) if len(line) > _WIDTH else 0
    before = line[start : problem.column - 1]
    # An ideographic space is as wide as what it stands below.
    gap = "".join("\u3000" if east_asian_width(c) in "WF" else " " for c in before)
    return f"{problem}\n    {line[start : start + _WIDTH]}\n    {gap}^"


def _masked(lines: Sequence[str], problem: Problem) -> str:
    at = problem.line - 1
    line = _CREDENTIALS.sub(lambda match: "•" * len(match[0]), lines[at])
    value = _VALUE.search(line) if ".headers" in problem.path else _TELLING.search(line)
    if value is None and _TELLING.search(_owner(lines, at)):
        value = _ITEM.match(line)
    if value is None or value[1] is None:
        return line
    dots = _HARMLESS.sub(lambda match: match[1] or "•" * len(match[0]), value[1])
    return line[: value.start(1)] + dots


def _owner(lines: Sequence[str], at: int) -> str:
    """The line that the list begins with, of which the line `at` may be an item."""
    while at > 0 and _ITEM.match(lines[at]):
        at -= 1
    return lines[at]


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in line.replace("\t", "→"))
