"""Text for people: columns in a terminal, counts, ages and times."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from unicodedata import combining, east_asian_width

from router.cli.options import add_option
from router.config.document import shown
from router.contract.schedule import parse_time
from router.model.errors import SettingInvalid
from router.telemetry.log.lines import printable

#: A column is padded up to so many cells. A longer text does not move all the others.
_WIDEST = 40

#: How many texts of a list are shown.
_FEW = 5


def columns(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Yield lines with aligned cells; the last column is not padded."""
    widths = [
        max((width(cell) for cell in column if width(cell) <= _WIDEST), default=0)
        for column in zip(*(row[:-1] for row in rows), strict=True)
    ]
    for row in rows:
        cells = zip(row, widths, strict=False)
        padded = [cell + " " * (size - width(cell)) for cell, size in cells]
        yield " " * indent + "  ".join([*padded, row[-1]]).rstrip()


def width(text: str) -> int:
    """Return how many cells a terminal needs."""
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in printable(text))


def clipped(text: str, cells: int) -> str:
    """Return as much as fits into so many cells, with `…` if something is left out."""
    if width(text) <= cells:
        return text
    while width(text) > cells - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def few(texts: Sequence[str], join: str = ", ") -> str:
    """Return the first of them, and how many more there are."""
    left = len(texts) - _FEW
    return join.join([*texts[:_FEW], f"{left:,} more"] if left > 0 else texts)


def quoted(names: Sequence[str]) -> str:
    """Join names that may have blanks and commas in them."""
    return few([shown(name) for name in names])


def counted(count: int, noun: str) -> str:
    """Return `1 route`, `2 routes`, `2 deliveries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


#: A retry that is late by no more than so many seconds is not overdue.
_PROMPT = 5.0

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def age(seconds: float) -> str:
    """Return `40s`, `2h 5m`, `3d 4h`: the two largest units."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, size in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join([part for part in parts[:2] if part[0] != "0"]) or "0s"


def seconds(at: str) -> float:
    """Return the Unix time of a time in JSON."""
    return datetime.fromisoformat(at).timestamp()


def since(at: str, now: float) -> str:
    return age(now - seconds(at))


def when(at: str, now: float) -> str:
    """Return how far ahead a time is, or for how long it has been overdue."""
    left = seconds(at) - now
    if left > 0:
        return f"in {age(left)}"
    return "now" if left > -_PROMPT else f"overdue by {age(-left)}"


class Moment(float):
    """A Unix time with the words that it was given in."""

    words: str


def parse_moment(text: str) -> Moment:
    """Read `3h`, which is so long ago, or a time in ISO 8601, in UTC if it has no zone. Raises
    ValueError."""
    try:
        moment = Moment(parse_time(text, time.time()))
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time ago (like 90s, 3h, 2d) nor one like 2026-11-26T13:00:00Z"
        ) from None
    moment.words = text
    return moment


def add_times(parser: argparse._ArgumentGroup) -> None:
    add_option(parser, "--since", "TIME", "3h ago, or 2026-11-26T13:00:00Z", parse_moment)
    add_option(parser, "--until", "TIME", "and before that", parse_moment)


def check_times(args: argparse.Namespace) -> None:
    """Raises SettingInvalid if nothing can be between the two."""
    since, until = args.since, args.until
    if since is not None and until is not None and since >= until:
        raise SettingInvalid(f"--since {since.words} is not before --until {until.words}")
