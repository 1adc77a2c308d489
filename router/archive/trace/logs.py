"""The router's JSON log as a file or a stream, as it is or as collectors wrap its lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from router.archive.reading import Needle, lines_with

#: How much is read at a time, in bytes. A line of the log is no longer than 16 KiB.
_BLOCK = 8 * 1024 * 1024

#: How a line of the router's begins.
_OWN = b'{"time":"'

#: What each of them has, however it is wrapped, and how long that is at most, about.
_HAPPENING, _EDGE = re.compile(rb'happening\\*":'), 32

#: What has the line within a collector's own JSON: Docker, containerd and most others, journald.
_WITHIN = ("log", "MESSAGE", "message", "msg")


def log_lines(
    stream: IO[bytes], needles: Sequence[Needle], progress: Callable[[str], None]
) -> Iterator[bytes]:
    """The router's own lines that have any of the needles, in the order of the stream. What is
    cut or garbled comes as it is. `progress` is told how far it is."""
    rest, size = b"", 0
    while block := stream.read(_BLOCK):
        size += len(block)
        whole, end, rest = (rest + block).rpartition(b"\n")
        for line in lines_with(whole + end, needles):
            yield unwrapped(line)
        progress(f"{size >> 20:,} MiB of a log")
    yield from map(unwrapped, lines_with(rest, needles))


def may_tell(stream: IO[bytes]) -> bool:
    """Whether it has a line of the router's in JSON, or nothing at all."""
    rest, is_empty = b"", True
    while block := stream.read(_BLOCK):
        is_empty = False
        if _HAPPENING.search(rest + block):
            return True
        rest = block[-_EDGE:]
    return is_empty


def unwrapped(line: bytes) -> bytes:
    """The router's own line within a collector's; else as it is."""
    at = line.find(_OWN)
    if at >= 0:
        return line[at:].rstrip()
    start = line.find(b"{")
    try:
        wrapped = json.loads(line[start:]) if start >= 0 else None
    except (ValueError, RecursionError):
        return line
    within = _within(wrapped) if isinstance(wrapped, dict) else None
    return line if within is None else within.encode("utf-8", "replace").strip()


def _within(wrapped: dict[str, Any]) -> str | None:
    for name in _WITHIN:
        said = wrapped.get(name)
        if isinstance(said, str) and said.lstrip().startswith("{"):
            return said
    return None
