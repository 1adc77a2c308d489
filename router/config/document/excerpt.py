"""A problem with its line and a caret below its place, for a terminal.

Any text may be a secret. So a line shows only YAML's own characters, the keys of the format, and
the scalars that their reader finds harmless; dots stand for the rest.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from unicodedata import east_asian_width

from router.config.document.reading import Scalar
from router.config.document.syntax import LOOKALIKES
from router.model.errors import Problem

#: The most of a line that is shown, in characters.
_WIDTH = 100

#: A character of YAML or its lookalike; a mark that begins a value; a variable without its default;
#: a word before a colon; anything else.
_PIECES = re.compile(
    rf"""(?P<form> [\s{{}}\[\],:"'{"".join(LOOKALIKES)}] | ^--- | (?<![^\s{{\[,])[-?&*!|>%@`\#]
    | \$\{{ (?: file:[\w./-]+ | \w+ ) (?: \}} | (?=:-) ) )
    | (?P<key> [\w-]+ ) (?= ["']?\s*[:\uff1a] ) | [\w-]+ | .""",
    re.VERBOSE,
)


class Shown:
    """The lines of a document, without what may be a secret."""

    def __init__(
        self, lines: Sequence[str], keys: Collection[str], harmless: Iterable[Scalar] = ()
    ) -> None:
        """Takes the format's keys, and the scalars that may be shown."""
        self._lines = lines
        self._keys = keys
        self._harmless: defaultdict[int, list[Scalar]] = defaultdict(list)
        for node in harmless:
            self._harmless[node.start_mark.line + 1].append(node)

    def excerpt(self, problem: Problem) -> str:
        """Format three lines: the problem, its line, a caret; only the first if it has no line."""
        if not 1 <= problem.line <= len(self._lines):
            return str(problem)
        line = _printable(self.shown(problem.line))
        start = max(0, problem.column - 1 - _WIDTH // 2) if len(line) > _WIDTH else 0
        before = line[start : problem.column - 1]
        # An ideographic space is as wide as the character above.
        gap = "".join("\u3000" if east_asian_width(c) in "WF" else " " for c in before)
        return f"{problem}\n    {line[start : start + _WIDTH]}\n    {gap}^"

    def shown(self, number: int) -> str:
        line = self._lines[number - 1]
        shown = _PIECES.sub(self._piece, line)
        for node in self._harmless.get(number, ()):
            start = node.start_mark.column
            for quote in ("'", '"') if node.style else ("",):
                # Not if it has escapes or goes over lines: the line does not have its value then.
                written = f"{quote}{node.value}{quote}"
                if line.startswith(written, start):
                    shown = shown[:start] + written + shown[start + len(written) :]
        return shown

    def _piece(self, match: re.Match[str]) -> str:
        harmless = match["form"] or match["key"] in self._keys
        return match[0] if harmless else "•" * len(match[0])


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in line.replace("\t", "→"))
