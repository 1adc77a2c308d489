"""The archive's files: their names say from when to when they reach, and whether one is finished.

A segment is written to as `FIRST-TOKEN.jsonl` by the one process that holds its lock. Finished it
is `FIRST-LAST-TOKEN.jsonl.zst`, compressed, and is not changed any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.archive.zstd import expanded
from router.model.files import why_not

_NAME = re.compile(r"([0-9]{8}T[0-9]{9}Z)-(?:([0-9]{8}T[0-9]{9}Z)-)?([0-9a-f]{8})\.jsonl(\.zst)?")


@dataclass(frozen=True, slots=True)
class Segment:
    """One file as it was found. Times are Unix time, in seconds."""

    path: Path
    token: str
    #: No line is older.
    first: float
    #: No line is younger; None where more may come.
    last: float | None

    @property
    def newest(self) -> float:
        """When its last line was written, at the latest."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_mtime if self.last is None else self.last
        return self.first

    @property
    def size(self) -> int:
        """On the disk, in bytes."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def read(self, tell: Callable[[str], None] = lambda why: None) -> tuple[bytes, bool]:
        """Its lines, and whether that is all of it; nothing where it has been deleted meanwhile.
        `tell` is told why where the system does not give it."""
        try:
            return self._read()
        except OSError as error:
            tell(f"{self.path.name} can't be read: {why_not(self.path, error)}")
            return b"", False

    def _read(self) -> tuple[bytes, bool]:
        path = self.path
        if self.last is None:
            with suppress(FileNotFoundError):
                text = path.read_bytes()
                # A line without its end is being written; the next look has it.
                return text[: text.rfind(b"\n") + 1], True
            # It has been finished since it was found.
            path = next(path.parent.glob(f"*-{self.token}.jsonl.zst"), path)
        try:
            return expanded(path.read_bytes())
        except FileNotFoundError:
            return b"", True


def found(folder: Path) -> list[Segment]:
    """Every segment, the one with the newest lines first. Raises OSError where it can't be looked
    into; a folder that is not there has none."""
    # By token, for a crash may leave a finished one beside what it was made of.
    segments = {segment.token: segment for segment in every_file(folder)}
    return sorted(segments.values(), key=_newest, reverse=True)


def every_file(folder: Path) -> Iterator[Segment]:
    """In no order; what a crash has left twice is there twice."""
    paths: list[Path] = []
    with suppress(FileNotFoundError):
        paths.extend(folder.iterdir())
    for path in paths:
        named = _NAME.fullmatch(path.name)
        if named is None or (named[2] is None) != (named[4] is None):
            continue
        with suppress(ValueError):
            last = None if named[2] is None else _time(named[2])
            yield Segment(path, named[3], _time(named[1]), last)


def _newest(segment: Segment) -> tuple[float, float]:
    return (float("inf") if segment.last is None else segment.last, segment.first)


def open_name(first: float, token: str) -> str:
    return f"{_stamp(first)}-{token}.jsonl"


def finished_name(first: float, last: float, token: str) -> str:
    """`last` is rounded up: no line is younger."""
    return f"{_stamp(first)}-{_stamp(last + 0.002)}-{token}.jsonl.zst"


def _stamp(at: float) -> str:
    """To the millisecond, and in the order of time: what is deleted first depends on it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S%f}"[:-3] + "Z"


def _time(stamp: str) -> float:
    return datetime.strptime(f"{stamp[:-1]}000+0000", "%Y%m%dT%H%M%S%f%z").timestamp()
