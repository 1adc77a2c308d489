"""Requests with something wrong in them, as Hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.disputed import ALL, END
from tests.support.wire import PROBE, chunked, post

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
    """A request with headers more, with bytes cut out and put in, or none at all."""
    raw = draw(st.sampled_from([post(), post(), chunked(ALL, END), PROBE, b""]))
    line, end, rest = raw.partition(b"\r\n")
    raw = line + end + b"".join(draw(st.lists(st.sampled_from(HEADERS), max_size=3))) + rest
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        until = draw(st.integers(at, min(len(raw), at + 9)))
        raw = raw[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=8)) + raw[until:]
    return raw
