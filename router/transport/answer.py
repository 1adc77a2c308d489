"""Reads a target's answer strictly and within limits, in whatever pieces it comes.

One regular expression reads the head. It matches nothing that two parsers could read differently,
and the head alone decides where the body ends. httptools reads chunked bodies, and nothing else.
Heads are cached: those of a target differ only by their date, which changes once a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from httptools import HttpParserError, HttpResponseParser

from router.model.event import Reason
from router.transport.engine import MAX_ANSWER, MAX_PIECES, Answer

#: The largest size of an answer's heads, those of 1xx included, in bytes. Servers send under 8 KiB.
MAX_HEAD: Final = 32 * 1024

#: The number of cached heads, and their largest size; together they take some MiB.
_KNOWN_HEADS, _KNOWN_SIZE = 1024, 2048

_END: Final = b"\r\n\r\n"
_END_SIZE: Final = len(_END)

# Every quantifier is possessive, so that no head costs more than its length. No control character
# but the tab, no line break but CRLF, no folded line, no blank in a name.
_FIELD: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n"
_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*+)?\r\n(?:" + _FIELD + rb")*+\r\n"
)
_START: Final = b"HTTP/1."

#: The headers that matter here.
_TELLING: Final = re.compile(
    rb"\n((?i:content-length|transfer-encoding|connection|content-encoding|retry-after)):"
    rb"[ \t]*+([^\r]*+)"
)

#: Statuses without a body, whatever the head says.
_BODILESS: Final = frozenset({204, 304})


class Unfit(Exception):
    """The data can't become an answer. The words quote nothing that the target sent."""

    def __init__(self, reason: Reason, words: str = "") -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The parts of a head that matter here."""

    status: int
    #: The length of the body; None if the head does not say.
    length: int | None
    is_chunked: bool
    #: Whether the connection may be used again.
    is_persistent: bool
    #: As in `Answer`.
    encoding: str
    retry_after: str


def in_one_piece(data: bytes) -> tuple[Answer, bool] | None:
    """Read an answer that came whole and alone; return it, and whether its connection may be used
    again. None if `Incoming` has to read it. Raises Unfit as that does."""
    end = data.find(_END) + _END_SIZE
    if not _END_SIZE <= end <= _KNOWN_SIZE:
        return None
    head = _read_known(data[:end])
    if head.status < 200 or head.length != len(data) - end or head.length > MAX_ANSWER:
        return None
    return _answer(head, data[end:]), head.is_persistent


def _answer(head: AnswerHead, body: bytes) -> Answer:
    return Answer(head.status, body, head.encoding, head.retry_after)


class Incoming:
    """One answer, from its first byte until it is whole."""

    def __init__(self) -> None:
        #: The answer's own head, not one of a 1xx.
        self._final: AnswerHead | None = None
        #: The body; None until the head is whole.
        self._body: _Plain | _Chunked | None = None
        #: The part of a head that has come, and the size of all heads before it.
        self._part = b""
        self._heads = 0
        self._pieces = 0

    @property
    def status(self) -> int | None:
        return self._final.status if self._final else None

    @property
    def whole(self) -> tuple[Answer, bool] | None:
        """The answer, once it is whole, and whether its connection may be used again: then the next
        data can only be the answer to the next request."""
        body, head = self._body, self._final
        if body is None or head is None or not body.is_whole:
            return None
        return _answer(head, body.content), head.is_persistent and not body.has_surplus

    def feed(self, data: bytes) -> None:
        """Add data. Raises Unfit; then nothing more may be added."""
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise Unfit(Reason.TOO_LARGE, "an answer in crumbs")
        if self._body is None:
            data = self._read_heads(data)
        if self._body is not None:
            self._body.feed(data)

    def end(self) -> Answer:
        """Return the answer if the end of the connection makes it whole. Raises Unfit."""
        body, head = self._body, self._final
        if body is None or head is None or not body.is_whole_at_end:
            raise Unfit(Reason.RESET)
        return _answer(head, body.content)

    def _read_heads(self, data: bytes) -> bytes:
        """Read the head, and heads of 1xx before it, as far as they have come; return the rest."""
        searched, start = len(self._part) - len(_END), 0
        data = self._part + data
        while self._body is None:
            at = data.find(_END, max(searched, start))
            end = at + len(_END) if at >= 0 else len(data)
            if self._heads + end > MAX_HEAD:
                raise Unfit(Reason.TOO_LARGE, "a header section without end")
            if at < 0:
                self._part = data[start:]
                self._heads += start
                _check_part(self._part)
                return b""
            is_short = end - start <= _KNOWN_SIZE
            head = (_read_known if is_short else read_head)(data[start:end])
            if head.status >= 200:
                self._final = head
                is_plain = head.length is not None or not head.is_chunked
                self._body = _Plain(head.length) if is_plain else _Chunked()
            start = end
        return data[start:]


def read_head(head: bytes) -> AnswerHead:
    """Read a head, its last line break included. Raises Unfit if it is ambiguous."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise Unfit(Reason.PROTOCOL)
    minor, status = match[1], int(match[2])
    fields = _telling(head)
    length = _length(fields, minor)
    if status == 101:
        raise Unfit(Reason.PROTOCOL, "a switch to another protocol")
    # "close" within another word costs a connection at most.
    closes = b"close" in fields.get(b"connection", b"").lower()
    encoding = fields.get(b"content-encoding", b"").decode("latin-1").lower()
    return AnswerHead(
        status,
        0 if status in _BODILESS else length,
        b"transfer-encoding" in fields,
        is_persistent=minor == b"1" and not closes,
        encoding="" if encoding == "identity" else encoding,
        retry_after=fields.get(b"retry-after", b"").decode("latin-1"),
    )


# It costs as much as all other work for an answer.
_read_known = lru_cache(_KNOWN_HEADS)(read_head)


def _check_part(data: bytes) -> None:
    """Raises Unfit if the data can't become a head: a peer with another protocol, or with bare line
    feeds, may be waiting for us."""
    if data[: len(_START)] != _START[: len(data)] or data.count(b"\n") != data.count(b"\r\n"):
        raise Unfit(Reason.PROTOCOL)


def _telling(head: bytes) -> dict[bytes, bytes]:
    """Return the headers that matter, by lower-case name; repeated ones are joined."""
    fields: dict[bytes, bytes] = {}
    for name, value in _TELLING.findall(head):
        name, value = name.lower(), value.rstrip(b" \t")
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _length(fields: dict[bytes, bytes], minor: bytes) -> int | None:
    """Return the body's length, None if it is not given. Raises Unfit if it is given twice, in two
    ways, or in an unknown one."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Unfit(Reason.PROTOCOL, "a transfer-encoding other than chunked")
        if length is not None or minor == b"0":
            raise Unfit(Reason.PROTOCOL, "a transfer-encoding where none may be")
    if length is None:
        return None
    if not length.isdigit() or len(length) > 20:
        raise Unfit(Reason.PROTOCOL, "a content-length that is not one number")
    return int(length)


# Bodies, by the way that their end is found. They take data until they are whole, and know whether
# some of it was beyond the end.


class _Plain:
    """A body of known length, or one of unknown length, which ends with its connection."""

    def __init__(self, length: int | None) -> None:
        """Raises Unfit for a length that is too large."""
        if length is not None and length > MAX_ANSWER:
            raise Unfit(Reason.TOO_LARGE)
        self._left = length
        self.is_whole = length == 0
        self.is_whole_at_end = length is None
        self.has_surplus = False
        self.content = b""

    def feed(self, data: bytes) -> None:
        if self._left is None:
            if len(self.content) + len(data) > MAX_ANSWER:
                raise Unfit(Reason.TOO_LARGE)
        else:
            self.has_surplus = self.has_surplus or len(data) > self._left
            data = data[: self._left]
            self._left -= len(data)
            self.is_whole = self._left == 0
        self.content += data


class _Chunked:
    """A body in chunks. Extensions and trailers are checked and dropped, as are line breaks after
    the end, which can't become an answer."""

    is_whole_at_end = False

    def __init__(self) -> None:
        self.is_whole = False
        self.has_surplus = False
        self.content = b""
        self._taken = 0
        self._pieces = 0
        self._codings = 0
        #: The reason of the parser's error, if it is one of these calls.
        self._fault: Unfit | None = None
        #: None once all is read: it refers to this body, and the cycle would outlast both.
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> None:
        if self._parser is None:
            self.has_surplus = True
            return
        self._taken += len(data)
        if self._taken > 2 * MAX_ANSWER:  # extensions and trailers, which nothing else counts
            raise Unfit(Reason.TOO_LARGE)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not self.is_whole:
                raise self._fault or Unfit(Reason.PROTOCOL) from None
            self.has_surplus = True
        if self.is_whole:
            self._parser = None

    # The parser's calls. Their exceptions end the parsing with an error of its own, whose context
    # may be an exception that is being handled around it.

    def _unfit(self, reason: Reason) -> Unfit:
        self._fault = Unfit(reason)
        return self._fault

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise self._unfit(Reason.PROTOCOL)  # a second answer

    def on_header(self, name: bytes, _: bytes) -> None:
        """The head has one coding; in a trailer the parser refuses a length, but not a coding."""
        self._codings += name.lower() == b"transfer-encoding"
        if self._codings > 1:
            raise self._unfit(Reason.PROTOCOL)

    def on_body(self, data: bytes) -> None:
        self.content += data
        self._pieces += 1
        if len(self.content) > MAX_ANSWER or self._pieces > MAX_PIECES:
            raise self._unfit(Reason.TOO_LARGE)

    def on_message_complete(self) -> None:
        self.is_whole = True
