"""The engines differentially: one target, and the results of both engines.

httpx is the reference. The native engine may be stricter as a table here says, and give up earlier;
any other difference fails. `make torture` is the long form.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.delivery.target.judge import judge
from router.model.event import Reason
from router.routing.target import Target
from router.transport.answer import MAX_HEAD
from router.transport.engine import Answer, Failure, target_and_host
from tests.support import effort
from tests.support.effort import examples
from tests.support.engines import BODY, ENGINES, LONG, SHORT, Engine, opened, post
from tests.support.hostile import ANSWERS, FORGED, YES, answer, hostile
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


#: Why an attempt ended, whether it may have been delivered, and the status that came.
Outcome = tuple[Reason, bool, int | None]

TARGET = Target("target", "http://target/")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """The loop that serves; on the other one the engines have their own suites."""
    return "asyncio", {"use_uvloop": True}


def outcome(result: Answer | Failure) -> Outcome:
    attempt = judge(result, TARGET, 0.0, 0.0)
    return attempt.reason, attempt.delivered, attempt.status


async def result_at(
    engine: Engine, behaviour: str, timeout: float = LONG, body: bytes = BODY, **order: Any
) -> Answer | Failure:
    async with hostile(behaviour, **order) as target, opened(engine, target.url) as pool:
        return await post(pool, timeout, body)


async def result_of(engine: Engine, *pieces: bytes) -> Answer | Outcome:
    """Return the result of an answer in these pieces; the connection ends with it."""
    result = await result_at(engine, "says", pieces=pieces)
    return result if isinstance(result, Answer) else outcome(result)


def reason(result: Answer | Outcome) -> Reason:
    return outcome(result)[0] if isinstance(result, Answer) else result[0]


# Targets that answer early; other misbehaviour is in the suite of all engines.


@pytest.mark.parametrize(
    ("behaviour", "native", "reference"),
    [
        # A refusal counts when it is there. httpx sends all of the body before it reads.
        ("refuses_unread", (Reason.STATUS, True, 413), (Reason.TIMEOUT, True, None)),
        # The same except for the status, which httpx has not read.
        ("accepts_unread", (Reason.RESET, True, 200), (Reason.RESET, True, None)),
    ],
)
async def test_an_answer_that_comes_before_the_request_was_read(
    behaviour: str, native: Outcome, reference: Outcome
) -> None:
    """A refusal may come early; an acknowledgement of an unread request does not count."""
    body = b" " * 20_000_000
    for engine, expected in zip(ENGINES.values(), (native, reference), strict=True):
        assert outcome(await result_at(engine, behaviour, 1.0, body)) == expected


# Answers, byte by byte.


def response(*lines: bytes, body: bytes = YES, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", body])


#: The size of YES, as a length and as a chunk's.
SIZE, HEXSIZE = b"%d" % len(YES), b"%x" % len(YES)
LENGTH = b"content-length: " + SIZE
CODING = b"transfer-encoding: chunked"


def chunked(line: bytes = HEXSIZE, after: bytes = b"\r\n", end: bytes = b"0\r\n\r\n") -> bytes:
    return response(CODING, body=line + b"\r\n" + YES + after + end)


#: Answers that both engines read alike, whole or not.
ALIKE = {
    **ANSWERS,
    "no length": response(),
    "no length, 1.0": response(status=b"HTTP/1.0 200 OK"),
    "no reason": response(LENGTH, status=b"HTTP/1.1 200"),
    "leading zeros": response(b"Content-Length:\t00" + SIZE + b" \t"),
    "length of nothing": response(b"content-length: 5", body=b"", status=b"HTTP/1.1 304 X"),
    "switching": response(b"upgrade: h2c", b"connection: upgrade", LENGTH),
    "1xx with a length": response(b"content-length: 5", body=b"", status=b"HTTP/1.1 100 X")
    + response(LENGTH),
    "1xx alone": response(body=b"", status=b"HTTP/1.1 100 Continue"),
    "extension": chunked(HEXSIZE + b';a=b;c="d e"', end=b"0;z\r\n\r\n"),
    "trailers": chunked(end=b"0\r\nx: y\r\nconnection: close\r\nz:\r\n\r\n"),
    "no end": chunked(end=b"0\r\n"),
    "two codings": response(CODING, CODING, body=b"0\r\n\r\n"),
    "unknown coding": response(b"transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "signed length": response(b"content-length: +" + SIZE),
    "contrary lengths": response(LENGTH, b"content-length: 3"),
    "blank before colon": response(b"content-length : " + SIZE),
    "no colon": response(b"content-length", LENGTH),
    "status 99": response(LENGTH, status=b"HTTP/1.1 099 OK"),
    "status 999": response(LENGTH, status=b"HTTP/1.1 999 OK"),
    "bare chunk line": chunked().replace(HEXSIZE + b"\r\n", HEXSIZE + b"\n"),
    "no break after a chunk": chunked(after=b""),
    "break before": b"\r\n" + response(LENGTH),
    "NUL": response(b"x: \0", LENGTH),
    "goes on": response(LENGTH) + FORGED,
    "chunks go on": chunked() + FORGED,
    "nothing": b"",
}


@pytest.mark.parametrize("name", ALIKE)
async def test_an_answer_in_two_pieces_is_the_same_answer(name: str) -> None:
    """Both engines read it alike, whole or split at every third byte, with LONG=1 at each."""
    whole = ALIKE[name]
    native, reference = ENGINES.values()
    expected = await result_of(reference, whole)
    for at in range(0, len(whole), 1 if effort.LONG else 3):
        assert await result_of(native, whole[:at], whole[at:]) == expected, (whole[:at], whole[at:])


@pytest.mark.parametrize(
    ("chunks", "expected"), [(1000, Reason.NOT_JSON), (1001, Reason.TOO_LARGE)]
)
async def test_an_answer_has_so_many_chunks(chunks: int, expected: Reason) -> None:
    """A body in more chunks than an honest server makes is too large, however small they are."""
    crumbs = response(CODING, body=b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
    for engine in ENGINES.values():
        assert reason(await result_of(engine, crumbs)) is expected


# Where the native engine is stricter.

OK = Reason.ACKNOWLEDGED

BARE, FOLDED = rb"(?<!\r)\n|\r(?!\n)", rb"\n[ \t]"
CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
LENGTHS = rb"(?i)content-length.*content-length|content-length:[^\r]*,"
SMUGGLED = (
    rb"(?i)content-length.*transfer-enc|transfer-enc.*content-length"
    rb"|/1\.0.*transfer-enc|transfer-enc.*transfer-enc"
)

#: Answers that httpx accepts and the native engine does not: why, a pattern, and examples.
STRICTER: dict[str, tuple[bytes, Sequence[bytes]]] = {
    "with a bare LF or CR one party reads two lines and another one": (
        BARE,
        [
            response(LENGTH).replace(b"\r\n", b"\n"),
            response(b"x: y\nz: 1", LENGTH),
            response(LENGTH).replace(b"\r\n", b"\n", 1),
            response(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"),
            b"HTTP/1.1 100 C\n\n" + response(LENGTH),
            chunked(end=b"0\r\nx: y\n\r\n"),
            chunked(end=b"0\r\n\n"),
        ],
    ),
    "a folded line is one header or two, and obsolete": (
        FOLDED,
        [
            response(b"x: y\r\n z", LENGTH),
            response(b"content-length:\r\n " + SIZE),
            chunked(end=b"0\r\nx: y\r\n z\r\n\r\n"),
        ],
    ),
    "a control character may not be in a header, nor in an extension": (
        CONTROL,
        [
            response(b"x: \x01", LENGTH),
            response(b"x: \x7f", LENGTH),
            response(LENGTH, status=b"HTTP/1.1 200 O\x01K"),
            chunked(HEXSIZE + b";\x01"),
            chunked(end=b"0\r\nx: \x01\r\n\r\n"),
        ],
    ),
    "an answer to HTTP/1.1 in an unknown version is not valid": (
        rb"HTTP/(?!1\.[01] )",
        [response(LENGTH, status=b"HTTP/%b 200 OK" % each) for each in (b"2.0", b"0.9", b"1.2")],
    ),
    "a length is given once, by one number, even if both are equal": (
        LENGTHS,
        [response(LENGTH, LENGTH), response(LENGTH + b"," + SIZE)],
    ),
    "a length beside a coding, or a misplaced coding, is how answers are smuggled": (
        SMUGGLED,
        [
            chunked().replace(CODING, CODING + b"\r\n" + LENGTH),
            chunked().replace(b"/1.1", b"/1.0"),
            chunked(end=b"0\r\ncontent-length: 5\r\n\r\n"),
            chunked(end=b"0\r\ntransfer-encoding: chunked\r\n\r\n"),
        ],
    ),
    "a chunk line is a size and extensions by the grammar: no blanks, as in llhttp": (
        rb"\r\n[0-9A-Fa-f]+[ \t;]",
        [chunked(HEXSIZE + line) for line in (b"  ", b"; a=b", b";a b")],
    ),
}


@pytest.mark.parametrize("why", STRICTER)
async def test_the_native_engine_is_stricter(why: str) -> None:
    """It refuses each example, which httpx accepts."""
    native, reference = ENGINES.values()
    pattern, examples = STRICTER[why]
    for raw in examples:
        assert re.search(pattern, raw, re.DOTALL), raw[:200]
        assert reason(await result_of(native, raw)) is Reason.PROTOCOL
        assert reason(await result_of(reference, raw)) is OK


#: Other answers that differ, and the reasons of both engines.
OTHERS: dict[str, tuple[bytes, Reason, Reason]] = {
    # No parser takes them for another size.
    "leading zeros": (chunked(b"%021x" % len(YES)), OK, Reason.PROTOCOL),
    # Nothing more is awaited of an answer that can't become valid, or says that it is too large.
    "no HTTP": (b"220 target.example ESMTP\r\n", Reason.PROTOCOL, Reason.RESET),
    "bare line ends": (b"HTTP/1.1 200 OK\nx: y", Reason.PROTOCOL, Reason.RESET),
    "no name": (chunked(end=b"0\r\n:\r\n"), Reason.PROTOCOL, Reason.RESET),
    "a chunk's size": (chunked(b"ffffffffffffffffff"), Reason.PROTOCOL, Reason.RESET),
    "one byte": (response(b"content-length: 65537"), Reason.TOO_LARGE, Reason.RESET),
    "66 bits": (response(b"content-length: 9" + b"9" * 19), Reason.TOO_LARGE, Reason.RESET),
    # All heads together have 32 KiB, extensions the size of a body; httpx limits each.
    "many 1xx": (ALIKE["1xx alone"] * 3000 + response(LENGTH), Reason.TOO_LARGE, OK),
    "a large head": (response(b"x: " + b"y" * MAX_HEAD, LENGTH), Reason.TOO_LARGE, OK),
    "large extensions": (
        chunked(HEXSIZE + b";x=" + b"y" * 66_000, end=b"0;x=" + b"y" * 66_000 + b"\r\n\r\n"),
        *(Reason.TOO_LARGE, OK),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_other_differences(name: str) -> None:
    """Bounds, and the moment at which an engine gives up."""
    raw, *expected = OTHERS[name]
    assert [reason(await result_of(engine, raw)) for engine in ENGINES.values()] == expected


# Random answers.

_line_ends = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n"])
_status_lines = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK"] * 8,
        *(b"HTTP/1.0 200 OK", b"HTTP/2.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 20 OK"),
        *(b"HTTP/1.1 %b" % status for status in (b"500 No", b"204 No Content", b"302 Found")),
        b"HTTP/1.1 101 Switching",
    ]
)
_headers = st.sampled_from(
    [
        *(b"content-type: application/json", b"Connection: close", b"connection: keep-alive, x"),
        *(b"upgrade: h2c", b"content-encoding: gzip", b"Content-Encoding: identity"),
        *(b"retry-after: 7", b"x:", b" folded", b"x: \xff\xfe", b"x: \x01", b"x y: z"),
        *(b"trailer: x", b"content-length: 3", b"transfer-encoding: gzip"),
    ]
)
_bodies = st.binary(max_size=30) | st.just(YES)
_sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a", b'%x;a="b"', b"%x ", b"1%x"])


@st.composite
def _chunks(draw: st.DrawFn) -> bytes:
    parts = draw(st.sampled_from([[YES], [YES[:5], YES[5:]], [bytes([each]) for each in YES], []]))
    lines = [draw(_sizes) % len(part) + b"\r\n" + part + b"\r\n" for part in parts]
    trailers = [line + b"\r\n" for line in draw(st.lists(_headers, max_size=2))]
    return b"".join([*lines, b"0\r\n", *trailers, b"\r\n"])


@st.composite
def _framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    kind = draw(st.sampled_from(["sized"] * 3 + ["chunked"] * 3 + ["unframed"]))
    if kind == "chunked":
        return [CODING], draw(_chunks())
    body = draw(_bodies)
    return ([b"content-length: %d" % len(body)] if kind == "sized" else []), body


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """Draw an answer that is nearly right, perhaps with a 1xx before it and rubbish behind it."""
    framing, body = draw(_framed())
    lines = draw(st.permutations([*framing, *draw(st.lists(_headers, max_size=3))]))
    head = b"".join(line + draw(_line_ends) for line in [draw(_status_lines), *lines, b""])
    before = draw(st.sampled_from([b""] * 4 + [ALIKE["1xx alone"], b"\r\n"]))
    behind = draw(st.sampled_from([b""] * 4 + [b"\r\n", b"x", FORGED, FORGED[:9]]))
    return before + head + body + behind


_edits = st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.sampled_from([b"", b"\0", b"\r", b"\n", b" ", b":", b";", b"0", b"\xff"]),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    raw = draw(_answers())
    for at, gone, instead in draw(st.lists(_edits, max_size=2)):
        raw = raw[: at % (len(raw) + 1)] + instead + raw[at % (len(raw) + 1) + gone :]
    return raw


@st.composite
def _pieces(draw: st.DrawFn, answers: st.SearchStrategy[bytes]) -> list[bytes]:
    raw = draw(answers)
    cuts = sorted({draw(st.integers(0, len(raw))) for _ in range(draw(st.integers(0, 3)))})
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@examples(100)
@given(_pieces(_mutated()))
async def test_any_answer_is_the_same_to_both(pieces: list[bytes]) -> None:
    """Other results are refusals for a known reason, or httpx's wait for more of it."""
    raw = b"".join(pieces)
    native, reference = await asyncio.gather(
        *(result_of(engine, *pieces) for engine in ENGINES.values())
    )
    if native != reference:
        is_known = any(re.search(each, raw, re.DOTALL) for each, _ in STRICTER.values())
        assert reason(native) in (Reason.PROTOCOL, Reason.TOO_LARGE), (raw, native, reference)
        assert is_known or reason(reference) is Reason.RESET, (raw, native, reference)
    if not isinstance(native, Answer):
        assert native[1], "a request that was sent may have been delivered"


@examples(33)
@given(
    _pieces(
        st.tuples(
            st.sampled_from(sorted(ALIKE.values())),
            st.sampled_from([FORGED, FORGED * 2, b"x" + FORGED, b"\r\n" + FORGED]),
        ).map(b"".join)
    )
)
@example([answer(YES) + FORGED])
@example([answer(YES), FORGED])
async def test_no_answer_acknowledges_the_next_event(pieces: list[bytes]) -> None:
    """Data that comes after an answer never acknowledges the next event."""
    for engine in ENGINES.values():
        async with (
            hostile("says_more", pieces=pieces) as target,
            opened(engine, target.url) as pool,
        ):
            await post(pool, SHORT)
            await until(lambda: target.sent >= sum(map(len, pieces)) or target.open == 0)
            assert outcome(await post(pool)) == (Reason.CODE, True, 200)


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("http://127.0.0.1:80/x", b"/x", b"127.0.0.1"),
        ("https://Ledger.Example:443", b"/", b"ledger.example"),
        ("https://ledger.example:80/?", b"/?", b"ledger.example:80"),
        ("http://[::1]:8080?a=b", b"/?a=b", b"[::1]:8080"),
        # As it was written, where httpx resolves, or quotes.
        ("http://a/b/../c", b"/b/../c", b"a"),
        ("http://a/%zz[]", b"/%zz[]", b"a"),
    ],
)
def test_a_url_is_sent_as_it_was_written(url: str, target: bytes, host: bytes) -> None:
    """The request line and `host` come from the URL; a port that its scheme implies is left out."""
    assert target_and_host(url) == (target, host)
