"""Text in columns for a terminal, where some characters are two cells wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unicodedata import combining, east_asian_width

from router.config.document import shown
from router.telemetry.log.lines import printable

#: A column is padded up to this many cells; one text that is longer does not move all the others.
_WIDEST = 40

#: How many texts of a list are shown.
_FEW = 5


def columns(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Lines with each cell below its like; the last column is as long as it is."""
    widths = [
        max((width(cell) for cell in column if width(cell) <= _WIDEST), default=0)
        for column in zip(*(row[:-1] for row in rows), strict=True)
    ]
    for row in rows:
        cells = zip(row, widths, strict=False)
        padded = [cell + " " * (size - width(cell)) for cell, size in cells]
        yield " " * indent + "  ".join([*padded, row[-1]]).rstrip()


def width(text: str) -> int:
    """How many cells a terminal needs for it."""
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in printable(text))


def clipped(text: str, cells: int) -> str:
    """As much of it as goes into so many cells, and `…` where something is left out."""
    if width(text) <= cells:
        return text
    while width(text) > cells - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def few(texts: Sequence[str], join: str = ", ") -> str:
    """The first of them, and how many there are besides."""
    left = len(texts) - _FEW
    return join.join([*texts[:_FEW], f"{left:,} more"] if left > 0 else texts)


def quoted(names: Sequence[str]) -> str:
    """Names that may have blanks and commas in them."""
    return few([shown(name) for name in names])


def counted(count: int, noun: str) -> str:
    """`1 route`, `2 routes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
