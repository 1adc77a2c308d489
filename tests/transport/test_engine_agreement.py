"""The engines differentially: one target, and what every engine makes of it.

httpx is the reference. Where the native engine differs, the difference is in a table here with its
argument; what no table has fails. `make torture` is the long form.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.delivery.target.judge import judge
from router.model.event import Reason
from router.routing.target import Target
from router.transport.engine import Answer, Failure, as_it_came, lines_of
from router.transport.native.answer import MAX_HEAD, Incoming, Unfit, in_one_piece
from router.transport.native.connection import target_and_host
from tests.support import effort
from tests.support.effort import examples
from tests.support.engines import BODY, ENGINES, HEADERS, LONG, SHORT, Engine, opened, post
from tests.support.hostile import ABSENT, ANSWERS, BEHAVIOURS, FORGED, YES, answer, hostile
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


async def met(
    engine: Engine, behaviour: str, timeout: float = LONG, body: bytes = BODY, **order: Any
) -> Answer | Failure:
    """What one post comes to at a target of its own."""
    async with hostile(behaviour, **order) as target, opened(engine, target.url) as pool:
        return await post(pool, timeout, body)


async def told(engine: Engine, *pieces: bytes) -> Answer | Outcome:
    """What comes of an answer that is said in these pieces; the connection ends with it."""
    came = await met(engine, "says", pieces=pieces)
    return came if isinstance(came, Answer) else outcome(came)


def reason(came: Answer | Outcome) -> Reason:
    return outcome(came)[0] if isinstance(came, Answer) else came[0]


# Targets that misbehave.

#: What never comes to an end by itself.
ENDLESS = {
    "answers_late",
    "drips",
    "drips_headers",
    "endless_informational",
    "hangs",
    "never_accepts",
    "says_nothing",
}

#: What takes an order, and is asked for it below or in the suite of all engines.
TO_ORDER = {"says", "says_more", "wants_certificate"}


@pytest.mark.parametrize("behaviour", sorted({*BEHAVIOURS, *ABSENT} - TO_ORDER))
async def test_a_target_that_misbehaves_is_the_same_to_both(behaviour: str) -> None:
    """Every row of the hostile table comes to the same answer, or the same failure."""
    timeout = SHORT if behaviour in ENDLESS else LONG
    native, reference = await asyncio.gather(
        *(met(engine, behaviour, timeout) for engine in ENGINES.values())
    )
    if isinstance(reference, Answer):
        assert native == reference
    else:
        assert outcome(native) == outcome(reference)


@pytest.mark.parametrize(
    ("behaviour", "native", "reference"),
    [
        # A refusal counts when it is there. httpx sends all of the body before it reads.
        ("refuses_unread", (Reason.STATUS, True, 413), (Reason.TIMEOUT, True, None)),
        # The same, but for the status, which httpx has not read.
        ("accepts_unread", (Reason.RESET, True, 200), (Reason.RESET, True, None)),
    ],
)
async def test_an_answer_that_comes_before_the_request_was_read(
    behaviour: str, native: Outcome, reference: Outcome
) -> None:
    """A refusal may come early; an acknowledgement of what was not read is none."""
    body = b" " * 20_000_000
    for engine, expected in zip(ENGINES.values(), (native, reference), strict=True):
        assert outcome(await met(engine, behaviour, 1.0, body)) == expected


async def test_an_early_acknowledgement_waits_for_the_request() -> None:
    """A target that acknowledges first and reads then gets the whole body."""
    for engine in ENGINES.values():
        async with hostile("accepts_early") as target, opened(engine, target.url) as pool:
            came = await post(pool, body=b" " * 20_000_000)
            assert outcome(came) == (Reason.ACKNOWLEDGED, True, 200)
            await until(lambda: len(target.requests) == 1)


# Answers, byte by byte.


def said(*lines: bytes, body: bytes = YES, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", body])


#: How long YES is, in the way of a length and in that of a chunk.
SIZE, HEXSIZE = b"%d" % len(YES), b"%x" % len(YES)
LENGTH = b"content-length: " + SIZE
CODING = b"transfer-encoding: chunked"


def chunked(line: bytes = HEXSIZE, after: bytes = b"\r\n", end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer in one chunk, with this chunk line, this after the chunk, and this end."""
    return said(CODING, body=line + b"\r\n" + YES + after + end)


#: Answers that both take alike, whole or not; `None` as far as it goes.
ALIKE = {
    **ANSWERS,
    "no length": said(),
    "no length, 1.0": said(status=b"HTTP/1.0 200 OK"),
    "no reason": said(LENGTH, status=b"HTTP/1.1 200"),
    "leading zeros": said(b"Content-Length:\t00" + SIZE + b" \t"),
    "length of nothing": said(b"content-length: 5", body=b"", status=b"HTTP/1.1 304 X"),
    "switching": said(b"upgrade: h2c", b"connection: upgrade", LENGTH),
    "1xx with a length": said(b"content-length: 5", body=b"", status=b"HTTP/1.1 100 X")
    + said(LENGTH),
    "1xx alone": said(body=b"", status=b"HTTP/1.1 100 Continue"),
    "extension": chunked(HEXSIZE + b';a=b;c="d e"', end=b"0;z\r\n\r\n"),
    "trailers": chunked(end=b"0\r\nx: y\r\nconnection: close\r\nz:\r\n\r\n"),
    "no end": chunked(end=b"0\r\n"),
    "two codings": said(CODING, CODING, body=b"0\r\n\r\n"),
    "unknown coding": said(b"transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "signed length": said(b"content-length: +" + SIZE),
    "contrary lengths": said(LENGTH, b"content-length: 3"),
    "blank before colon": said(b"content-length : " + SIZE),
    "no colon": said(b"content-length", LENGTH),
    "status 99": said(LENGTH, status=b"HTTP/1.1 099 OK"),
    "status 999": said(LENGTH, status=b"HTTP/1.1 999 OK"),
    "bare chunk line": chunked().replace(HEXSIZE + b"\r\n", HEXSIZE + b"\n"),
    "no break after a chunk": chunked(after=b""),
    "break before": b"\r\n" + said(LENGTH),
    "NUL": said(b"x: \0", LENGTH),
    "goes on": said(LENGTH) + FORGED,
    "chunks go on": chunked() + FORGED,
    "nothing": b"",
}


def at_once(whole: bytes) -> tuple[Answer, bool] | Reason | None:
    try:
        return in_one_piece(whole)
    except Unfit as unfit:
        return unfit.reason


def in_pieces(whole: bytes) -> tuple[Answer, bool] | Reason | None:
    incoming = Incoming()
    try:
        for at in range(len(whole)):
            incoming.feed(whole[at : at + 1])
    except Unfit as unfit:
        return unfit.reason
    return incoming.whole


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_read_at_once_is_what_it_is_in_pieces(name: str) -> None:
    """The straight way for an answer in one piece reads nothing otherwise, and leaves what is not
    as usual to the other."""
    assert at_once(said(LENGTH)) == (Answer(200, YES), True)
    assert at_once(ALIKE[name]) in (None, in_pieces(ALIKE[name]))


@pytest.mark.parametrize("name", ALIKE)
async def test_an_answer_in_two_pieces_is_the_same_answer(name: str) -> None:
    """Split at every third byte boundary, with LONG=1 at each, an answer comes to what it does
    whole, and in both engines."""
    whole = ALIKE[name]
    native, reference = ENGINES.values()
    expected = await told(reference, whole)
    for at in range(0, len(whole), 1 if effort.LONG else 3):
        assert await told(native, whole[:at], whole[at:]) == expected, (whole[:at], whole[at:])


@pytest.mark.parametrize("name", ALIKE)
async def test_an_answer_in_crumbs_is_the_same_answer(name: str) -> None:
    """Said byte by byte, an answer comes to what it does whole, in either engine."""
    whole = ALIKE[name]
    expected = await told(ENGINES["httpx"], whole)
    crumbs = [whole[at : at + 1] for at in range(len(whole))]
    for engine in ENGINES.values():
        assert await told(engine, *crumbs) == expected


@pytest.mark.parametrize(
    ("chunks", "expected"), [(1000, Reason.NOT_JSON), (1001, Reason.TOO_LARGE)]
)
async def test_an_answer_has_so_many_chunks(chunks: int, expected: Reason) -> None:
    """A body in more chunks than an honest server makes is too large, however small they are."""
    crumbs = said(CODING, body=b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
    for engine in ENGINES.values():
        assert reason(await told(engine, crumbs)) is expected


# Where the native engine differs.


@dataclass(frozen=True)
class Difference:
    """What one engine makes of some answers and the other does not, and why that is right."""

    why: str
    #: Whether an answer is one of these, as bytes.
    has: Callable[[bytes], object]
    #: The outcomes, as far as they depend on the difference alone.
    native: Reason
    reference: Reason
    examples: Sequence[bytes]


def pattern(expression: bytes) -> Callable[[bytes], object]:
    return re.compile(expression, re.DOTALL).search


OK, NO = Reason.ACKNOWLEDGED, Reason.PROTOCOL

DIFFERENCES = [
    Difference(
        "A line ends by CRLF: with a bare LF or CR one party reads two lines where another has one",
        pattern(rb"(?<!\r)\n|\r(?!\n)"),
        NO,
        OK,
        [
            said(LENGTH).replace(b"\r\n", b"\n"),
            said(b"x: y\nz: 1", LENGTH),
            said(LENGTH).replace(b"\r\n", b"\n", 1),
            said(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"),
            b"HTTP/1.1 100 C\n\n" + said(LENGTH),
            chunked(end=b"0\r\nx: y\n\r\n"),
            chunked(end=b"0\r\n\n"),
        ],
    ),
    Difference(
        "A folded line is one header or two, and obsolete",
        pattern(rb"\n[ \t]"),
        NO,
        OK,
        [
            said(b"x: y\r\n z", LENGTH),
            said(b"content-length:\r\n " + SIZE),
            chunked(end=b"0\r\nx: y\r\n z\r\n\r\n"),
        ],
    ),
    Difference(
        "A control character is no part of a header, nor of an extension",
        pattern(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
        NO,
        OK,
        [
            said(b"x: \x01", LENGTH),
            said(b"x: \x7f", LENGTH),
            said(LENGTH, status=b"HTTP/1.1 200 O\x01K"),
            chunked(HEXSIZE + b";\x01"),
            chunked(end=b"0\r\nx: \x01\r\n\r\n"),
        ],
    ),
    Difference(
        "HTTP/1.1 was asked for: an answer in a version that never was, or is no text, is none",
        pattern(rb"HTTP/(?!1\.[01] )"),
        NO,
        OK,
        [said(LENGTH, status=b"HTTP/%b 200 OK" % version) for version in (b"2.0", b"0.9", b"1.2")],
    ),
    Difference(
        "A length is said once, by one number, be it the same one twice",
        pattern(rb"(?i)content-length.*content-length|content-length:[^\r]*,"),
        NO,
        OK,
        [said(LENGTH, LENGTH), said(LENGTH + b"," + SIZE)],
    ),
    Difference(
        "A length beside a coding, or a coding where none belongs, is how answers are smuggled",
        pattern(
            rb"(?i)content-length.*transfer-enc|transfer-enc.*content-length|/1\.0.*transfer-enc|transfer-enc.*transfer-enc"
        ),
        NO,
        OK,
        [
            chunked().replace(CODING, CODING + b"\r\n" + LENGTH),
            chunked().replace(b"/1.1", b"/1.0"),
            chunked(end=b"0\r\ncontent-length: 5\r\n\r\n"),
            chunked(end=b"0\r\ntransfer-encoding: chunked\r\n\r\n"),
        ],
    ),
    Difference(
        "A chunk line is a size, and extensions by the grammar: no blanks, as in all of llhttp's",
        pattern(rb"\r\n[0-9A-Fa-f]+[ \t;]"),
        NO,
        OK,
        [chunked(HEXSIZE + line) for line in (b"  ", b"; a=b", b";a b")],
    ),
    Difference(
        "A chunk's size may have any number of leading zeros; nobody takes them for another size",
        pattern(rb"\r\n0{15}"),
        OK,
        NO,
        [chunked(b"%021x" % len(YES))],
    ),
    Difference(
        "Who begins with anything but HTTP/1. will not come to it: no line's end is waited for",
        lambda raw: not raw.startswith(b"HTTP/1."),
        NO,
        Reason.RESET,
        [b"220 target.example ESMTP\r\n", b"HTTP/2"],
    ),
    Difference(
        "A line without a name is no trailer, and its block's end is not waited for",
        pattern(rb"\r\n:"),
        NO,
        Reason.RESET,
        [chunked(end=b"0\r\n:\r\n")],
    ),
    Difference(
        "A head without CRLF has bare line ends only, and is not waited for",
        pattern(rb"(?<!\r)\n"),
        NO,
        Reason.RESET,
        [b"HTTP/1.1 200 OK\nx: y"],
    ),
    Difference(
        "An answer that says itself that it is too large is believed",
        pattern(rb"(?i)content-length: *[0-9]{5}|\r\n[0-9a-f]{17}"),
        Reason.TOO_LARGE,
        Reason.RESET,
        [said(b"content-length: 65537"), said(b"content-length: 99999999999999999999")],
    ),
    Difference(
        "A chunk's size has 64 bits at most: more is no size that a chunk could have",
        pattern(rb"(?i)\r\n[0-9a-f]{17}"),
        NO,
        Reason.RESET,
        [chunked(b"ffffffffffffffffff")],
    ),
    Difference(
        "Heads have 32 KiB all together, extensions what a body may have; httpx bounds each one",
        lambda raw: len(raw) > MAX_HEAD,
        Reason.TOO_LARGE,
        OK,
        [
            ALIKE["1xx alone"] * 3000 + said(LENGTH),
            said(b"x: " + b"y" * MAX_HEAD, LENGTH),
            chunked(HEXSIZE + b";x=" + b"y" * 66_000, end=b"0;x=" + b"y" * 66_000 + b"\r\n\r\n"),
        ],
    ),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.why[:40])
async def test_a_difference_is_what_it_is_said_to_be(difference: Difference) -> None:
    """The table of differences is right: each example has those outcomes, and is recognised."""
    native, reference = ENGINES.values()
    for raw in difference.examples:
        assert difference.has(raw), raw[:200]
        reasons = reason(await told(native, raw)), reason(await told(reference, raw))
        assert reasons == (difference.native, difference.reference), raw[:200]


# Answers that nobody thought of.

_line_ends = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n"])
_status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 8
    + [
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 500 No",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 302 Found",
        b"HTTP/1.1 101 Switching",
        b"HTTP/1.1 200",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1 20 OK",
    ]
)
_headers = st.sampled_from(
    [
        b"content-type: application/json",
        b"Connection: close",
        b"connection: keep-alive, x",
        b"upgrade: h2c",
        b"content-encoding: gzip",
        b"Content-Encoding: identity",
        b"retry-after: 7",
        b"x:",
        b" folded",
        b"x: \xff\xfe",
        b"x: \x01",
        b"x y: z",
        b"trailer: x",
        b"content-length: 3",
        b"transfer-encoding: gzip",
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
    """The lines that say how long a body is, and the body."""
    kind = draw(st.sampled_from(["sized"] * 3 + ["chunked"] * 3 + ["unframed"]))
    if kind == "chunked":
        return [CODING], draw(_chunks())
    body = draw(_bodies)
    return ([b"content-length: %d" % len(body)] if kind == "sized" else []), body


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """An answer that is nearly right: it may have a 1xx before it, and rubbish behind it."""
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
    """Whatever a target says, both engines make the same of it, or a known difference is in it."""
    raw = b"".join(pieces)
    native, reference = await asyncio.gather(*(told(each, *pieces) for each in ENGINES.values()))
    if native != reference:
        known = {each.native for each in DIFFERENCES if each.has(raw)}
        assert reason(native) in known - {Reason.ACKNOWLEDGED}, (raw, native, reference)
    if not isinstance(native, Answer):
        assert native[1], "only what never left the house was not delivered"


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
    """Whatever a target says after an answer, the next event is acknowledged by nothing of it."""
    for engine in ENGINES.values():
        async with (
            hostile("says_more", pieces=pieces) as target,
            opened(engine, target.url) as pool,
        ):
            await post(pool, SHORT)
            await until(lambda: target.sent >= sum(map(len, pieces)) or target.open == 0)
            assert outcome(await post(pool)) == (Reason.CODE, True, 200)


# Requests.

_names = st.from_regex(rb"[a-z][a-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: (
        name not in (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect")
    )
)
_values = st.from_regex(rb"([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?", fullmatch=True)
_targets = st.from_regex(
    r"(/[A-Za-z0-9_~!$&'()*+,;=:@-]{0,5}){0,3}(\?([A-Za-z0-9_~!$&'()*+,;=:@/?.-]|%2[0-9A-F]){1,20})?",
    fullmatch=True,
)


@examples(33)
@given(_targets, st.lists(st.tuples(_names, _values), max_size=12), st.binary(max_size=300))
@example("", [], b"")
@example("?a", list(HEADERS), BODY * 10_000)
async def test_a_request_is_the_same_from_both(
    path: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Requests are the same byte for byte, and h11 reads in them what was to be sent."""
    async with hostile("answers") as target:
        for engine in ENGINES.values():
            async with opened(engine, f"http://127.0.0.1:{target.port}{path}") as pool:
                assert isinstance(
                    await pool.post(lines_of(headers), body, LONG, as_it_came), Answer
                )
    native, reference = target.requests
    assert native == reference
    request, sent = parsed(native)
    assert (request.method, request.http_version, sent) == (b"POST", b"1.1", body)
    assert request.target == (path if path.startswith("/") else "/" + path).encode()
    host, *others, length = request.headers.raw_items()
    assert host == (b"host", b"127.0.0.1:%d" % target.port)
    assert length == (b"content-length", b"%d" % len(body))
    assert others == headers


def parsed(raw: bytes) -> tuple[h11.Request, bytes]:
    """The one request that h11 reads in these bytes, and its body."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw)
    request, body = server.next_event(), b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert isinstance(request, h11.Request)
    assert server.trailing_data == (b"", False)
    return request, body


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
