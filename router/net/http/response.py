"""The head of a response: what an application says of it, as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

#: Responses that have no body.
_BARE: Final = frozenset({204, 304})

_STATUSES: Final = frozenset(HTTPStatus)


class Framing:
    """What the start of a response comes to."""

    __slots__ = ("closes", "is_bare", "is_dated", "length", "lines")

    def __init__(
        self,
        lines: bytes,
        length: int | None,
        *,
        closes: bool = False,
        is_dated: bool = False,
        is_bare: bool = False,
    ) -> None:
        #: The status line, and whole lines of headers.
        self.lines = lines
        #: The body's size in bytes, None where they don't say it.
        self.length = length
        #: Whether they say that the connection closes.
        self.closes = closes
        #: Whether they say when it was made.
        self.is_dated = is_dated
        #: Whether there is no body, whatever they say.
        self.is_bare = is_bare


def framing_of(status: int, headers: Iterable[Iterable[bytes]]) -> Framing:
    """Raises ValueError for what would be no header, or more than one."""
    return _framing_of(status, tuple(map(tuple, headers)))


# Nearly all replies of an application have the same few headers.
@lru_cache(256)
def _framing_of(status: int, headers: tuple[tuple[bytes, ...], ...]) -> Framing:
    lines, said = [status_line(status)], {}
    for name, value in headers:
        name = name.lower()
        if name == b"transfer-encoding":
            continue  # how a body is told apart is the connection's to say
        line = b"%b: %b\r\n" % (name, value)
        if line.count(b"\r") + line.count(b"\n") != 2 or b":" in name or b"\0" in line:
            raise ValueError("a response's header has a line break in it")
        lines.append(line)
        said[name] = value
    length = said.get(b"content-length")
    return Framing(
        b"".join(lines),
        None if length is None else int(length),
        closes=b"close" in said.get(b"connection", b"").lower(),
        is_dated=b"date" in said,
        is_bare=status in _BARE,
    )


@lru_cache(64)
def status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")
