"""The head of a request, read strictly, and its body."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from httptools import HttpParserError, HttpRequestParser

if TYPE_CHECKING:
    from router.net.http.connection import Limits

#: The HTTP statuses for faulty heads.
BAD_REQUEST, NOT_ALLOWED, URI_TOO_LONG, EXPECTATION_FAILED, HEAD_TOO_LARGE = 400, 405, 414, 417, 431

#: The end of a head.
END: Final = b"\r\n\r\n"

#: How many parsed heads are cached, and the largest of them in bytes. Together they take half a MiB
#: if they are of the usual size, and no more than 5 MiB.
_KNOWN_HEADS, _KNOWN_SIZE = 256, 2048

#: CONNECT and TRACE are not served, nor are unknown methods.
_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})

# Every quantifier is possessive, so that no head costs more than its length.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
#: A visible target without a fragment; HTTP/1.1 or 1.0.
_LINE: Final = rb"(" + _TOKEN + rb") ([!\"$-~]++) HTTP/1\.([01])\r\n"
#: No control character but the tab, no line break but CRLF, no folded line, no blank in a name.
_FIELD: Final = _TOKEN + rb":[\t -~\x80-\xff]*+\r\n"

_HEAD: Final = re.compile(_LINE + rb"(?:" + _FIELD + rb")*+\r\n")
_REQUEST_LINE: Final = re.compile(_LINE)
_PART_OF_A_LINE: Final = re.compile(rb"[!-~][ -~]*+\r?")

#: The headers that decide on the host and on the end of a request; each may occur once.
_DECISIVE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")
_HOST_PART: Final = rb"[a-z0-9._~!$&'()*+,;=:%\[\]-]"
_HOST: Final = re.compile(_HOST_PART + rb"*+", re.IGNORECASE)
#: A target with its host, as clients send it to proxies (RFC 9112, section 3.2.2).
_ABSOLUTE: Final = re.compile(rb"https?://(" + _HOST_PART + rb"++)((?:[/?].*)?)", re.IGNORECASE)
_REQUEST_ID: Final = re.compile(rb"\r\nx-request-id:[ \t]*+([^\r]*+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Head:
    """The request line and the headers."""

    method: bytes
    #: As they came, but with the host of an absolute URL; names in lower case, values without the
    #: blanks around them.
    fields: Sequence[tuple[bytes, bytes]]
    #: The body's size in bytes; None if it comes in chunks.
    length: int | None
    #: Whether the caller waits for `100 Continue`.
    expects: bool
    #: Whether the caller may send another request on the connection.
    keep_alive: bool
    #: The ASGI scope, with keys for the parts that each request adds: its own list of headers, and
    #: the connection's.
    scope: dict[str, Any]


def is_hopeless(part: bytes) -> bool:
    """Return whether this part can't become a head.

    A peer that speaks TLS, HTTP/0.9 or with bare line feeds now waits for an answer.
    """
    if b"\n" not in part:
        return _PART_OF_A_LINE.fullmatch(part) is None
    return _REQUEST_LINE.match(part) is None or part.count(b"\n") != part.count(b"\r\n")


def oversized(data: bytes, size: int, limits: Limits) -> int | None:
    """Return the status for a head that is too large; `size` bytes of `data` belong to it."""
    line = data.find(b"\r\n", 0, limits.line)
    if line < 0 and size >= limits.line:
        return URI_TOO_LONG
    if size > limits.head or data.count(b"\r\n", 0, size) - 2 > limits.headers:
        return HEAD_TOO_LARGE
    return None


def read(head: bytes) -> Head | int:
    """Parse a whole head; return it, or the status for a faulty one."""
    return _read_known(head) if len(head) <= _KNOWN_SIZE else _read(head)


def _read(head: bytes) -> Head | int:
    match = _HEAD.fullmatch(head)
    if match is None:
        return BAD_REQUEST
    method, target, minor = match.groups()
    fields = _fields(head)
    named = dict(fields)
    decisive = [name for name, _ in fields if name in _DECISIVE]
    if len(set(decisive)) < len(decisive) or not _is_unambiguous(named, minor):
        return BAD_REQUEST
    if method not in _METHODS or (method, target) == (b"OPTIONS", b"*"):
        return NOT_ALLOWED
    # HTTP/1.0 knows no 100.
    expects = minor == b"1" and b"expect" in named
    if expects and named[b"expect"].lower() != b"100-continue":
        return EXPECTATION_FAILED
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            return BAD_REQUEST
        # Its host counts instead of the header's.
        fields = [(b"host", absolute[1]), *(field for field in fields if field[0] != b"host")]
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    length = None if b"transfer-encoding" in named else int(named.get(b"content-length", 0))
    keep_alive = minor == b"1" and (b"connection" not in named or not _closes(fields))
    return Head(method, fields, length, expects, keep_alive, _scope(method, minor, target))


_read_known = lru_cache(_KNOWN_HEADS)(_read)


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of a well-formed head."""
    lines = head.split(b"\r\n")
    parts = [line.partition(b":") for line in lines[1:-2]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in parts]


def _is_unambiguous(named: Mapping[bytes, bytes], minor: bytes) -> bool:
    """Return whether the host and the end of the request are given once, and clearly."""
    length, coding = named.get(b"content-length"), named.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or length is not None or minor == b"0"):
        return False
    if length is not None and _LENGTH.fullmatch(length) is None:
        return False
    if b"host" not in named:
        return minor == b"0"
    return _HOST.fullmatch(named[b"host"]) is not None


def _closes(fields: list[tuple[bytes, bytes]]) -> bool:
    """Return whether the caller says that the connection closes after this request."""
    values = b",".join(value for name, value in fields if name == b"connection").lower()
    return b"close" in [word.strip(b" \t") for word in values.split(b",")]


def _scope(method: bytes, minor: bytes, target: bytes) -> dict[str, Any]:
    raw_path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"1.{minor.decode()}",
        "method": method.decode(),
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        **dict.fromkeys(("scheme", "client", "server", "headers", "state", "extensions")),
    }


def request_id_in(head: bytes) -> bytes | None:
    """Return the caller's x-request-id, valid or not."""
    match = _REQUEST_ID.search(head)
    return None if match is None else match[1].strip(b" \t")


#: A head for the parser, which has not read the real one.
_CHUNK_HEAD: Final = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Malformed(Exception):
    """An invalid chunk, or too many bytes around the chunks."""


class Body:
    """A body of known size."""

    def __init__(self, size: int) -> None:
        self._missing = size
        self._data = bytearray()
        #: Data that came after it.
        self.surplus = b""

    @property
    def closes(self) -> bool:
        """True if a trailer has `connection: close`."""
        return False

    @property
    def is_whole(self) -> bool:
        return self._missing == 0

    @property
    def size(self) -> int:
        """The number of bytes that have come."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add data. Raises Malformed."""
        part = data[: self._missing]
        self._data += part
        self._missing -= len(part)
        self.surplus = data[len(part) :]

    def take(self) -> bytes:
        """Return and forget the data that has come."""
        data = bytes(self._data)
        self._data.clear()
        return data


class _Chunks:
    """Receives a parser's calls. It does not refer to the parser: that would be a cycle, which a
    reload freezes for ever."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self.is_whole = self.closes = False

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise Malformed  # another request

    def on_header(self, name: bytes, value: bytes) -> None:
        self.closes = self.closes or _closes([(name.lower(), value)])

    def on_body(self, data: bytes) -> None:
        self._data += data

    def on_message_complete(self) -> None:
        self.is_whole = True


class Chunked(Body):
    """A body in chunks, which httptools parses strictly."""

    def __init__(self, slack: int) -> None:
        """Around the chunks there may be as many bytes as in them, and `slack` more."""
        super().__init__(0)
        self._slack = slack
        self._chunks = _Chunks(self._data)
        self._parser = HttpRequestParser(self._chunks)
        self._parser.feed_data(_CHUNK_HEAD)

    @property
    def is_whole(self) -> bool:
        return self._chunks.is_whole

    @property
    def closes(self) -> bool:
        return self._chunks.closes

    def feed(self, data: bytes) -> None:
        before = len(self._data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not self.is_whole:
                raise Malformed from None
            self.surplus = data
        self._slack += 2 * (len(self._data) - before) - len(data)
        if self._slack < 0:
            raise Malformed
