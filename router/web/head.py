"""The head of a request, its line and headers, read so that no two parsers can differ on it.

RFC 9112 lets a server be lenient about much of this. Each leniency is a way to smuggle: one party
reads one request where the next reads two. No caller in its right mind needs any of them.
"""

from __future__ import annotations

import re

from router.web.limits import Limits
from router.web.replies import BAD_HTTP, LARGE_HEAD, LONG_TARGET, UNEXPECTED, WRONG_METHOD, Reply

#: What a head ends with.
END = b"\r\n\r\n"

#: CONNECT and TRACE are not served anywhere here, and of others the parser has never heard.
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})

# Every quantifier is possessive, so that no head costs more than its length.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
#: A visible target without a fragment; HTTP/1.1 or 1.0.
_LINE = rb"(" + _TOKEN + rb") ([!\"$-~]++) HTTP/1\.([01])\r\n"
#: No control character but the tab, no line break but CRLF, no folded line, no blank at a name.
_FIELD = _TOKEN + rb":[\t -~\x80-\xff]*+\r\n"

_HEAD = re.compile(_LINE + rb"(?:" + _FIELD + rb")*+\r\n")
_REQUEST_LINE = re.compile(_LINE)
_PART_OF_A_LINE = re.compile(rb"[!-~][ -~]*+\r?")
_ABSOLUTE = re.compile(rb"https?://([^/?]++)(.*)", re.IGNORECASE)

#: The headers that say whom a request is for and where it ends; each may be there once.
_DECISIVE = re.compile(rb"\n(host|content-length|transfer-encoding|expect):([^\r]*+)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[a-z0-9._~!$&'()*+,;=:%\[\]-]*+")
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*+", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[^\r]*+", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*+([^\r]*+)\r\n", re.IGNORECASE)


def is_hopeless(part: bytes) -> bool:
    """Whether what has come so far can't become a head.

    Whoever greets with TLS, HTTP/0.9 or bare line feeds now waits for an answer and says no more.
    """
    if b"\n" not in part:
        return _PART_OF_A_LINE.fullmatch(part) is None
    return _REQUEST_LINE.match(part) is None or part.count(b"\n") != part.count(b"\r\n")


def oversized(data: bytes, size: int, limits: Limits) -> Reply | None:
    """What is said to a head that is too large: of `data`, `size` bytes are head, whole or not."""
    line = data.find(b"\r\n", 0, limits.line)
    if line < 0 and size >= limits.line:
        return LONG_TARGET
    if size > limits.head or data.count(b"\r\n", 0, size) - 2 > limits.headers:
        return LARGE_HEAD
    return None


def read(head: bytes) -> bytes | Reply:
    """The whole head as the parser is to have it, or what its sender is told.

    It comes back as it came, but for what the parser would take amiss: the target is always a path,
    and nothing asks to leave HTTP/1.1.
    """
    match = _HEAD.fullmatch(head)
    if match is None:
        return BAD_HTTP
    method, target, minor = match.groups()
    lowered = head.lower()
    found: list[tuple[bytes, bytes]] = _DECISIVE.findall(lowered)
    fields = {name: value.strip(b" \t") for name, value in found}
    if len(fields) < len(found) or not _is_unambiguous(fields, minor):
        return BAD_HTTP
    if method not in _METHODS or (method, target) == (b"OPTIONS", b"*"):
        return WRONG_METHOD
    if b"expect" in fields:
        if minor == b"0":
            head = _EXPECT.sub(b"", head)  # HTTP/1.0 knows no 100
        elif fields[b"expect"] != b"100-continue":
            return UNEXPECTED
    if b"\nupgrade:" in lowered:
        # An offer that is not taken up. The parser would take the body for the other protocol;
        # Java's HttpClient makes the offer with every first request.
        head = _UPGRADE.sub(b"", head)
    if not target.startswith(b"/"):
        path = _path_of(target, fields.get(b"host"))
        return BAD_HTTP if path is None else head.replace(target, path, 1)
    return head


def _is_unambiguous(fields: dict[bytes, bytes], minor: bytes) -> bool:
    """Whether it is said once whom the request is for, and once where it ends."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None and (coding != b"chunked" or length is not None or minor == b"0"):
        return False
    if length is not None and _LENGTH.fullmatch(length) is None:
        return False
    if b"host" not in fields:
        return minor == b"0"
    return _HOST.fullmatch(fields[b"host"]) is not None


def _path_of(target: bytes, host: bytes | None) -> bytes | None:
    """The path and query of an absolute target; None where it is for another host, or is none."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None or match[1].lower() != (match[1].lower() if host is None else host):
        return None
    path: bytes = match[2]
    return path if path.startswith(b"/") else b"/" + path


def request_id_in(head: bytes) -> bytes | None:
    """The caller's x-request-id, sane or not."""
    match = _REQUEST_ID.search(head)
    return None if match is None else match[1].strip(b" \t")
