"""Malformed requests: ambiguous heads, and random damage drawn by Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.house import SAMPLE
from tests.support.wire import PROBE, chunk, chunked, head, post


def bare(*lines: bytes) -> bytes:
    return head(b"POST /callback HTTP/1.1", *lines) + SAMPLE


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(SAMPLE)
ALL = chunk(SAMPLE)
END = b"0\r\n\r\n"

#: Heads that two parsers may read differently.
DISPUTED = {
    "two hosts": bare(b"Host: x", b"Host: y", LENGTH),
    "one host twice": bare(b"Host: x", b"Host: x", LENGTH),
    "hosts in two cases": bare(b"Host: x", b"hOST: y", LENGTH),
    "no host": bare(LENGTH),
    "a host that is none": bare(b"Host: x y", LENGTH),
    "a host with a path": bare(b"Host: x/callback", LENGTH),
    "a host with a user": bare(b"Host: u@x", LENGTH),
    "two lengths": bare(b"Host: x", LENGTH, b"Content-Length: 0"),
    "one length twice": bare(b"Host: x", LENGTH, LENGTH),
    "a list of lengths": bare(b"Host: x", LENGTH + b", %d" % len(SAMPLE)),
    "a signed length": bare(b"Host: x", b"Content-Length: +%d" % len(SAMPLE)),
    "a negative length": bare(b"Host: x", b"Content-Length: -1"),
    "a hexadecimal length": bare(b"Host: x", b"Content-Length: 0x10"),
    "a length with a blank": bare(b"Host: x", b"Content-Length: 1 2"),
    "a length with an underscore": bare(b"Host: x", b"Content-Length: 1_0"),
    "a length in other digits": bare(b"Host: x", "Content-Length: \u0661".encode()),
    "an empty length": bare(b"Host: x", b"Content-Length:"),
    "a length with zeros before it": bare(b"Host: x", b"Content-Length: 000%d" % len(SAMPLE)),
    "a length beyond 64 bits": bare(b"Host: x", b"Content-Length: 18446744073709551616"),
    "a length and chunks": bare(b"Host: x", LENGTH, CHUNKED),
    "chunks and a length": bare(b"Host: x", CHUNKED, LENGTH),
    "chunks in HTTP/1.0": head(b"POST /callback HTTP/1.0", CHUNKED) + ALL + END,
    "chunked twice": bare(b"Host: x", CHUNKED, CHUNKED),
    "identity": chunked(ALL, END, line=b"Transfer-Encoding: identity"),
    "an empty coding": chunked(ALL, END, line=b"Transfer-Encoding:"),
    "comma chunked": chunked(ALL, END, line=b"Transfer-Encoding: ,chunked"),
    "chunked comma": chunked(ALL, END, line=b"Transfer-Encoding: chunked,"),
    "chunked, identity": chunked(ALL, END, line=b"Transfer-Encoding: chunked, identity"),
    "identity, chunked": chunked(ALL, END, line=b"Transfer-Encoding: identity, chunked"),
    "gzip, chunked": chunked(ALL, END, line=b"Transfer-Encoding: gzip, chunked"),
    "xchunked": chunked(ALL, END, line=b"Transfer-Encoding: xchunked"),
    "quoted chunked": chunked(ALL, END, line=b'Transfer-Encoding: "chunked"'),
    "chunked with a parameter": chunked(ALL, END, line=b"Transfer-Encoding: chunked;a=b"),
    "chunked after a vertical tab": chunked(ALL, END, line=b"Transfer-Encoding:\x0bchunked"),
    "chunked after a bare CR": chunked(ALL, END, line=b"Transfer-Encoding: \rchunked"),
    "a blank before the colon": chunked(ALL, END, line=b"Transfer-Encoding : chunked"),
    "a blank before the name": chunked(ALL, END, line=b" Transfer-Encoding: chunked"),
    "a folded line": bare(b"Host: x", LENGTH, b"A: b", b" c"),
    "a folded coding": bare(b"Host: x", LENGTH, b"Transfer-Encoding:", b" chunked"),
    "a line without a colon": bare(b"Host: x", LENGTH, b"Connection"),
    "a line without a name": bare(b"Host: x", LENGTH, b": b"),
    "a name that is no token": bare(b"Host: x", LENGTH, b"A(b): c"),
    "a name that is no ASCII": bare(b"Host: x", LENGTH, b"\xc3\xa9: c"),
    "NUL in a value": bare(b"Host: x", LENGTH, b"A: b\x00c"),
    "NUL in a name": bare(b"Host: x", LENGTH, b"A\x00: c"),
    "a control character in a value": bare(b"Host: x", LENGTH, b"A: b\x01c"),
    "DEL in a value": bare(b"Host: x", LENGTH, b"A: b\x7fc"),
    "a bare LF in a value": bare(b"Host: x", LENGTH, b"A: b\nTransfer-Encoding: chunked"),
    "a bare CR in a value": bare(b"Host: x", LENGTH, b"A: b\rTransfer-Encoding: chunked"),
    "an LF for the last line's end": bare(b"Host: x", LENGTH, b"A: b\n"),
    "bare LFs throughout": bare(b"Host: x", LENGTH).replace(b"\r\n", b"\n"),
    "bare LFs after the request line": bare(b"Host: x", LENGTH)
    .replace(b"\r\n", b"\n")
    .replace(b"\n", b"\r\n", 1),
    "bare CRs throughout": bare(b"Host: x", LENGTH).replace(b"\r\n", b"\r"),
}

HEADERS = [
    *(b"Host: x\r\n", b"A: b\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\n"),
    *(b"Expect: 100-continue\r\n", b"Content-Encoding: identity\r\n", b"Upgrade: websocket\r\n"),
]

PIECES = [
    *(bytes([byte]) for byte in b"\r\n\t :,;0\x00\xff"),
    *(b"\r\n\r\n", b"http://x", b"HTTP/1.0", b"GET /livez HTTP/1.1\r\n"),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"ffffffffffffffff\r\n"),
]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw a request with additional headers, or with bytes removed and inserted."""
    raw = draw(st.sampled_from([post(), post(), chunked(ALL, END), PROBE, b""]))
    line, end, rest = raw.partition(b"\r\n")
    raw = line + end + b"".join(draw(st.lists(st.sampled_from(HEADERS), max_size=3))) + rest
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        until = draw(st.integers(at, min(len(raw), at + 9)))
        raw = raw[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=8)) + raw[until:]
    return raw
