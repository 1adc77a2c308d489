"""The callback port under raw bytes: at most one answer per request, in the contract's JSON."""

from __future__ import annotations

import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import ANY
from urllib.parse import unquote

import h11
import httptools
import pytest
from hypothesis import given

from router.net.http.connection import Connection, Limits
from router.net.http.head import Body, Head, read
from tests.support.command import PATIENCE
from tests.support.disputed import ALL, CHUNKED, DISPUTED, END, LENGTH, bare, spoilt
from tests.support.effort import examples
from tests.support.house import SAMPLE
from tests.support.waiting import wait_until
from tests.support.wire import (
    PROBE,
    Answer,
    Line,
    Running,
    answer_on,
    chunk,
    chunked,
    head,
    post,
    running,
)

#: Deadlines that pass within a test.
SOON = Limits(first_byte=0.4, receive=0.4, keep_alive=0.4, reply=0.4, linger=0.4)
#: The most that a test may notice something after its deadline, in seconds.
SLACK = 3.0

MAX_BODY = 100_000


@pytest.fixture(scope="module")
def router() -> Iterator[Running]:
    with running(Limits(linger=5.0), max_body=MAX_BODY) as router:
        yield router
    assert router.troubles == []


@pytest.fixture
def hasty() -> Iterator[Running]:
    with running(SOON) as router:
        yield router
    assert router.troubles == []


class Row(NamedTuple):
    packets: bytes | tuple[bytes, ...]
    #: Every status that comes back, in order.
    statuses: tuple[int, ...]
    #: True if the connection then serves another request; otherwise it closes.
    stays: bool
    #: The number of events that reach the target.
    events: int


def good(*packets: bytes) -> Row:
    return Row(packets, (200,), stays=True, events=1)


def other(status: int, packet: bytes) -> Row:
    return Row(packet, (status,), stays=True, events=0)


def last(status: int, *packets: bytes, events: int = 0) -> Row:
    return Row(packets, (status,), stays=False, events=events)


def bad(*packets: bytes) -> Row:
    return last(400, *packets)


SMUGGLED = post(body=SAMPLE.replace(b'"1"', b'"9"'))

#: First lines of other protocols, and malformed ones.
MISTAKEN = {
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(9, 99)),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a PROXY header": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + post(),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 as a version": head(b"GET /livez HTTP/0.9", b"Host: x"),
    "a version of two digits": head(b"GET /livez HTTP/1.10", b"Host: x"),
    "no version": head(b"GET /livez", b"Host: x"),
    "two blanks": head(b"GET  /livez HTTP/1.1", b"Host: x"),
    "a tab for a blank": head(b"GET\t/livez HTTP/1.1", b"Host: x"),
    "a blank in the target": head(b"GET /li vez HTTP/1.1", b"Host: x"),
    "a method that is no token": head(b"GE(T /livez HTTP/1.1", b"Host: x"),
    "NUL in the target": head(b"GET /livez\x00 HTTP/1.1", b"Host: x"),
    "a target that is no ASCII": head("GET /证 HTTP/1.1".encode(), b"Host: x"),
    "a fragment": head(b"GET /livez#a HTTP/1.1", b"Host: x"),
    "a target without a slash": head(b"GET livez HTTP/1.1", b"Host: x"),
    "an asterisk": head(b"GET * HTTP/1.1", b"Host: x"),
    "a URL with a user": post(target=b"http://u:p@x/callback"),
    "a URL without a host": post(target=b"http:///callback"),
    "a URL with more in its host": post(target=b'http://x"/callback'),
    "another scheme's URL": post(target=b"ftp://x/callback"),
    "only the end of a line": b"\r\n\r\n\x00",
}

#: Malformed chunks.
BAD_CHUNKS = {
    "a chunk that is longer than it says": chunked(b"2\r\n" + SAMPLE + b"\r\n", END),
    "a chunk that is shorter than it says": chunked(b"ff\r\n" + SAMPLE + b"\r\n", END, b"x" * 255),
    "a signed chunk": chunked(b"+" + ALL, END),
    "0x before a size": chunked(b"0x" + ALL, END),
    "a blank after a size": chunked(chunk(SAMPLE, b" "), END),
    "a size beyond 64 bits": chunked(b"1" + b"0" * 16 + b"\r\n" + SAMPLE, END),
    "a bare LF after a size": chunked(ALL.replace(b"\r\n", b"\n", 1), END),
    "no line break after the data": chunked(ALL[:-2], END),
    "a bare LF after an extension": chunked(chunk(SAMPLE, b";a").replace(b"\r", b"", 1), END),
    "a line break in a quoted extension": chunked(chunk(SAMPLE, b';a="\r\n"'), END),
    "an extension without end": chunked(b"3;" + b"a" * 40_000),
    "a bare LF at the end": chunked(ALL, b"0\n\n"),
    "a trailer that is none": chunked(ALL, b"0\r\nA b\r\n\r\n"),
    "a folded trailer": chunked(ALL, b"0\r\nA: b\r\n c\r\n\r\n"),
    "a length as a trailer": chunked(ALL, b"0\r\nContent-Length: 3\r\n\r\n"),
    "trailers without end": chunked(ALL, b"0\r\n" + b"A: b\r\n" * 6_000),
    "chunks of nothing but size": chunked(b"".join([b"0" * 50 + b"1\r\nx\r\n"] * 1_000)),
}

TABLE = {
    **{name: bad(raw) for name, raw in (DISPUTED | MISTAKEN | BAD_CHUNKS).items()},
    # What is unusual, and served.
    "a callback": good(post()),
    "byte for byte": good(*(bytes([byte]) for byte in post())),
    "head and body apart": good(post()[: -len(SAMPLE)], SAMPLE),
    "blank lines before": good(b"\r\n\r\n" + post()),
    "a blank line after": good(post() + b"\r\n"),
    "a blank line after, apart": good(post() + b"\r", b"\n"),
    "header names in any case": good(bare(b"hOST: x", LENGTH.upper())),
    "blanks around values": good(bare(b"Host:\t x ", LENGTH + b" \t")),
    "bytes beyond ASCII in a value": good(post("A: 证".encode())),
    "an empty host": good(bare(b"Host:", LENGTH)),
    "a query": good(post(target=b'/callback?a=[1]&b={"c"|}')),
    "an escaped path": good(post(target=b"/%63allback")),
    "a URL": good(post(target=b"http://x/callback?a=b")),
    "a URL in capitals": good(post(target=b"HTTPS://Y:443/callback")),
    "a URL without a path": other(404, post(target=b"http://x?/callback")),
    "a hundred headers": good(post(*[b"A: b"] * 98)),
    "Java's offer of HTTP/2": good(
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAA")
    ),
    "an offer with chunks": good(
        chunked(ALL, END, line=CHUNKED + b"\r\nConnection: Upgrade\r\nUpgrade: h2c")
    ),
    "one chunk": good(chunked(ALL, END)),
    "chunks apart": good(chunked(), ALL[:9], ALL[9:], END[:1], END[1:]),
    "chunks of one byte": good(chunked(*(chunk(bytes([byte])) for byte in SAMPLE), END)),
    "a size in capitals, with zeros": good(chunked(b"%08X\r\n%b\r\n" % (len(SAMPLE), SAMPLE), END)),
    "a chunk extension": good(chunked(chunk(SAMPLE, b';a=b;c="d e"'), END)),
    "a trailer": good(chunked(ALL, b"0\r\nA: b\r\n\r\n")),
    "trailers that would matter as headers": good(
        chunked(ALL, b"0\r\nHost: y\r\nContent-Encoding: gzip\r\nExpect: miracles\r\n\r\n")
    ),
    "a trailer that offers": good(
        chunked(ALL, b"0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    ),
    "a probe": other(200, PROBE),
    "a probe with a body": other(
        200, head(b"GET /readyz HTTP/1.1", b"Host: x", b"Content-Length: 3") + b"abc"
    ),
    "another method": other(405, head(b"DELETE /callback HTTP/1.1", b"Host: x")),
    "another path": other(404, post(target=b"/nowhere")),
    "a path of escapes": other(404, post(target=b"/%ff%00%2e%zz")),
    # What ends the connection by itself.
    "connection: close": last(200, post(b"Connection: close"), events=1),
    "connection: close, and more": last(
        200, post(b"Connection: x, CLOSE", b"Connection: keep-alive"), events=1
    ),
    "connection: close as a trailer": last(
        200, chunked(ALL, b"0\r\nConnection: close\r\n\r\n"), events=1
    ),
    "HTTP/1.0": last(200, b"POST /callback HTTP/1.0\r\n" + LENGTH + b"\r\n\r\n" + SAMPLE, events=1),
    "HTTP/1.0 that would stay": last(
        200, post(b"Connection: keep-alive").replace(b"/1.1", b"/1.0"), events=1
    ),
    # Methods and targets that this port has no use for.
    "CONNECT": last(405, head(b"CONNECT x:443 HTTP/1.1", b"Host: x")),
    "TRACE": last(405, head(b"TRACE /callback HTTP/1.1", b"Host: x")),
    "OPTIONS *": last(405, head(b"OPTIONS * HTTP/1.1", b"Host: x")),
    "a method in lower case": last(405, post().replace(b"POST", b"post")),
    # Expect.
    "expect with its body": good(post(b"Expect: 100-continue")),
    "expect where there is no body": other(400, post(b"Expect: 100-continue", body=b"")),
    "expect with too large a body": last(
        413, bare(b"Host: x", b"Content-Length: 1000000", b"Expect: 100-continue")[: -len(SAMPLE)]
    ),
    "expect on another path": last(
        404, post(b"Expect: 100-continue", target=b"/nowhere")[: -len(SAMPLE)]
    ),
    "expect of something else": last(417, post(b"Expect: miracles")),
    "expect twice": bad(post(b"Expect: 100-continue", b"Expect: 100-continue")),
    "expect in HTTP/1.0": last(
        200,
        post(b"Expect: 100-continue")[: -len(SAMPLE)].replace(b"/1.1", b"/1.0"),
        SAMPLE,
        events=1,
    ),
    # Sizes.
    "too long a target": last(414, post(target=b"/" + b"x" * 8_200)),
    "a line without end": last(414, b"GET /" + b"x" * 8_200),
    "too large a header": last(431, post(b"A: " + b"x" * 16_400)),
    "a header without end": last(431, post()[:25] + b"A: " + b"x" * 16_400),
    "too many headers": last(431, post(*[b"A: b"] * 99)),
    "too large a body": last(413, post(body=b"x" * (MAX_BODY + 1))[:9_000]),
    "too large a chunk": last(413, chunked(chunk(b"x" * (MAX_BODY + 9))[:-9])),
    "too many chunks": last(413, chunked(*[chunk(b"x" * 1_000)] * 101)),
    # More than one request at a time: the first is answered, and the connection ends with it.
    "two requests": last(200, post() + SMUGGLED, events=1),
    "a request and rubbish": last(200, post() + b"\x00\x01\x02", events=1),
    "two chunked requests": last(200, chunked(ALL, END) * 2, events=1),
    "a request after HTTP/1.0": last(200, post().replace(b"/1.1", b"/1.0") + SMUGGLED, events=1),
    "a request after no length": last(404, head(b"POST /nowhere HTTP/1.1", b"Host: x") + SMUGGLED),
    "a request after an offer": last(
        200, post(b"Connection: Upgrade", b"Upgrade: h2c") + SMUGGLED, events=1
    ),
    "a bad request and a good one": bad(bare(b"Host: x", LENGTH, CHUNKED) + SMUGGLED),
    "a hundred requests": last(200, post() * 100, events=1),
}


@pytest.mark.parametrize("name", TABLE)
def test_raw_bytes(router: Running, name: str) -> None:
    """Every row has exactly its answers and events, and the connection stays or closes."""
    row = TABLE[name]
    packets = row.packets if isinstance(row.packets, tuple) else (row.packets,)
    before = len(router.events)
    with router.line() as line:
        line.say(*packets)
        answers = [line.receive() for _ in row.statuses]
        assert [answer and answer.status for answer in answers] == list(row.statuses)
        final = answers[-1]
        assert final is not None
        assert final.says
        assert final.ends is not row.stays
        if row.stays:
            line.say(PROBE)
            assert answer_on(line).status == 200
        else:
            assert line.receive() is None
    assert [event.body for event in router.events[before:]] == [SAMPLE] * row.events


@pytest.mark.parametrize("name", DISPUTED)
def test_no_parser_is_trusted_with_a_disputed_head(name: str) -> None:
    """A disputed head is refused before httptools sees it."""
    top, end, _ = DISPUTED[name].partition(b"\r\n\r\n")
    assert read(top + end) == 400


def test_known_heads_take_little_memory() -> None:
    """The cache of heads is bounded, however many and large they are."""
    tracemalloc.start()
    try:
        for size in (10, 160):
            more = b"".join(b"%d: %b\r\n" % (n, b"x" * size) for n in range(90))
            for n in range(1_000):
                assert isinstance(read(b"GET /%d HTTP/1.1\r\nHost: x\r\n%b\r\n" % (n, more)), Head)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 6 * 1024 * 1024


@pytest.mark.parametrize("expect", [b"Expect: 100-continue", b"EXPECT:100-CONTINUE"])
def test_a_body_that_waits_for_100_continue_is_asked_for_once(
    router: Running, expect: bytes
) -> None:
    """`100 Continue` comes when the body will be read, and then the one reply."""
    before = len(router.events)
    with router.line() as line:
        for _ in range(2):
            line.say(post(expect)[: -len(SAMPLE)])
            asked = line.receive()
            assert asked == Answer(100, {}, b"")
            line.say(SAMPLE)
            assert answer_on(line).status == 200
    assert len(router.events) - before == 2


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (bare(b"Host: x", LENGTH, b"Transfer-Encoding: x", b"X-Request-Id: abc-1"), 400),
        (chunked(b"xyz", line=CHUNKED + b"\r\nx-request-id: abc-1"), 400),
        (post(b"X-Request-Id: abc-1", target=b"/nowhere"), 404),
        (post(b"X-Request-Id:abc-1 \t", b"Expect: x"), 417),
    ],
)
def test_an_early_refusal_keeps_the_request_id(router: Running, raw: bytes, status: int) -> None:
    """The caller's request id comes back however early its request was refused."""
    answer = router.ask(raw)
    assert answer.status == status
    assert answer.says["request_id"] == "abc-1"


@pytest.mark.parametrize("part", [b"", post()[:9], post()[:60], post()[:-9], chunked(ALL)])
def test_a_request_that_ends_early_is_refused(router: Running, part: bytes) -> None:
    """An incomplete request gets 400 and is not forwarded; a silent caller gets no reply."""
    before = len(router.events)
    with router.line() as line:
        line.say(part)
        line.half_close()
        assert [answer.status for answer in line.receive_all()] == ([400] if part else [])
    assert len(router.events) == before


@pytest.mark.parametrize(
    "top",
    [
        post(body=b"").replace(b"Length: 0", b"Length: 20000000"),
        chunked(b"%x\r\n" % 20_000_000),
    ],
    ids=["length", "chunks"],
)
def test_an_early_refusal_arrives_while_the_body_is_still_sent(router: Running, top: bytes) -> None:
    """A caller that sends 20 MB before it reads gets its answer after them, and no reset."""
    with router.line() as line:
        line.say(top)
        for _ in range(200):
            line.say(b"x" * 100_000)
        assert [answer.status for answer in line.receive_all()] == [413]


def test_a_fault_after_the_answer_gets_no_second_one(router: Running) -> None:
    """A body that is refused and then turns out to be malformed gets one answer."""
    with router.line() as line:
        line.say(chunked(b"%x\r\n" % (MAX_BODY + 1), b"x" * (MAX_BODY + 1)))
        assert answer_on(line).status == 413
        line.say(b"\r\nno size\r\n")
        assert line.receive_all() == []


def test_a_pipelined_request_is_not_served() -> None:
    """The first request is answered, and a request that arrives meanwhile is not."""
    with running(Limits(linger=5.0), delay=0.3) as router, router.line() as line:
        line.say(post(), SMUGGLED, SMUGGLED, pause=0.05)
        assert [answer.status for answer in line.receive_all()] == [200]


# Deadlines. Bytes that trickle come more often than any of them passes.


def trickle(line: Line, data: bytes) -> float:
    """Send this byte by byte until the router replies or closes. Return the seconds until then."""
    began = time.monotonic()
    line.socket.settimeout(0.02)
    for byte in data:
        try:
            line.say(bytes([byte]))
            line.come()
        except TimeoutError:
            continue
        except OSError:
            break
        break
    line.socket.settimeout(20.0)
    return time.monotonic() - began


def was(seconds: float, limit: float) -> bool:
    return limit - 0.1 < seconds < limit + SLACK


@pytest.mark.parametrize("sent", [b"", b"\r\n" * 1_000], ids=["nothing", "blank lines"])
def test_a_connection_that_says_nothing_is_closed(hasty: Running, sent: bytes) -> None:
    """A new connection has `first_byte` seconds for its first byte; then it is closed without a
    reply. Line breaks before a request win no time."""
    began = time.monotonic()
    with hasty.line() as line:
        trickle(line, sent)
        assert line.receive_all() == []
    assert was(time.monotonic() - began, SOON.first_byte)


OWN_ID = b"X-Request-Id: abc-1"

#: The beginning of a request, and the rest, which trickles.
TRICKLES = {
    "a head": (b"", post(b"A: " + b"x" * 9_000)),
    "a body": (post(OWN_ID, body=b"x" * 9_000)[:-9_000], b"x" * 9_000),
    "chunks": (chunked(line=CHUNKED + b"\r\n" + OWN_ID), chunk(b"x") * 1_000),
}


@pytest.mark.parametrize("part", TRICKLES)
def test_a_request_that_trickles_gets_408(hasty: Running, part: str) -> None:
    """Head and body together have `receive` seconds from the first byte, however busily they
    trickle; nothing is forwarded. The reply has the caller's request id if that has come."""
    top, slow = TRICKLES[part]
    with hasty.line() as line:
        line.say(top)
        seconds = trickle(line, slow)
        (answer,) = line.receive_all()
    assert answer.status == 408
    assert not top or answer.says["request_id"] == "abc-1"
    assert was(seconds, SOON.receive)
    assert hasty.events == []


def test_an_idle_connection_is_closed() -> None:
    """The next request must begin within `keep_alive` seconds; blank lines do not count."""
    with running(SOON, delay=0.3) as router, router.line() as line:
        line.say(post())
        assert line.receive()
        seconds = trickle(line, b"\r\n" * 1_000)
        assert line.receive_all() == []
    assert was(seconds, SOON.keep_alive)


def test_each_request_has_its_own_deadline() -> None:
    """The time for a request begins with its first byte, however long the connection was idle."""
    with running(Limits(receive=0.8)) as router, router.line() as line:
        for idle in (0.0, 1.0):
            time.sleep(idle)
            line.say(post()[:40], post()[40:], pause=0.2)
            assert answer_on(line).status == 200


def test_a_slow_target_does_not_end_the_connection() -> None:
    """No deadline of the connection runs while targets work."""
    with running(SOON, delay=3 * SOON.receive) as router:
        assert router.ask(post()).status == 200


def test_a_peer_that_never_reads_is_reset() -> None:
    """Unread replies are held for `reply` seconds, and their number is bounded."""
    with running(SOON, send_buffer=4096) as router:
        with router.line(receive_buffer=2048) as line:
            router.wait_for_connections(1)
            output, last = 0, None
            [connection] = router.server.tally.connections
            while router.connections():
                exchange = connection._exchange
                is_new = exchange is not None and exchange is not last and exchange.is_answered
                if output == 0 or (is_new and output < 1_000):
                    line.say(PROBE)
                    last, output = exchange, output + 1
                time.sleep(0.0005)
        assert output < 1_000
        assert router.server.tally.refused["unread"] == 1


def test_a_refused_caller_that_stays_is_closed(hasty: Running) -> None:
    """A connection lingers for `linger` seconds after a refusal."""
    with hasty.line() as line:
        line.say(b"\x00")
        assert answer_on(line).status == 400
        assert was(trickle(line, b"x" * 1_000), 0.0)  # it announced that no more will come
        began = time.monotonic()
        hasty.wait_for_connections(0)
    assert time.monotonic() - began < SOON.linger + SLACK


# The limits as they are without any setting.


def test_a_body_may_have_a_mebibyte() -> None:
    """A larger one gets 413."""
    with running(Limits()) as router:
        assert router.ask(post(body=b" " * 2**20)).status == 400
        assert router.ask(post(body=b" " * (2**20 + 1))).status == 413


def test_a_request_that_takes_too_long_to_arrive_reaches_nobody() -> None:
    """A request that is complete after `reply_within` gets 408, and reaches no target."""
    ebaas = {"reply_within": "300ms"}
    with running(Limits(), ebaas=ebaas) as router, router.line() as line:
        whole = post()
        line.say(whole[:-1])
        time.sleep(0.6)
        line.say(whole[-1:])
        assert answer_on(line).status == 408
        assert router.events == []


def test_a_request_that_has_arrived_is_answered_though_keep_alive_is_over() -> None:
    """A blocked loop reads what has arrived before it closes idle connections."""
    blocked, (reader, writer) = threading.Event(), socket.socketpair()

    def block() -> None:
        reader.recv(1)
        blocked.set()
        time.sleep(1.0)

    with (
        reader,
        writer,
        running(Limits(keep_alive=0.4)) as router,
        router.line() as line,
    ):
        line.say(PROBE)
        answer_on(line)
        # Where uvloop reads from sockets: it looks at timers next, and at sockets after those.
        router.loop.call_soon_threadsafe(router.loop.add_reader, reader, block)
        writer.send(b"x")
        assert blocked.wait(PATIENCE)
        line.say(post())
        assert answer_on(line).status == 200
        router.loop.call_soon_threadsafe(router.loop.remove_reader, reader)


# Connections.


def test_one_connection_too_many_gets_503_but_for_probes() -> None:
    """Callbacks beyond the limit get 503; probes are answered."""
    with running(Limits(connections=2, reserve=1, linger=5.0)) as router:
        with router.line() as first, router.line() as second:
            router.wait_for_connections(2)
            for raw, status in ((post(), 503), (PROBE, 200), (b"\x00", 400), (post(), 503)):
                with router.line() as extra:
                    extra.say(raw)
                    assert [answer.status for answer in extra.receive_all()] == [status]
                router.wait_for_connections(2)
            for line in (first, second):
                line.say(post())
                assert answer_on(line).status == 200
        router.wait_for_connections(0)
        assert router.ask(post()).status == 200
        assert len(router.events) == 3


def test_connections_beyond_the_reserve_are_refused_at_once() -> None:
    """Beyond limit and reserve, a connection gets 503 and is closed unread."""
    limits = Limits(connections=1, reserve=2, linger=5.0)
    with running(limits) as router, router.line(), router.line(), router.line():
        router.wait_for_connections(3)
        for _ in range(5):
            with router.line() as extra:
                assert [answer.status for answer in extra.receive_all()] == [503]
                router.wait_for_connections(3)


def test_without_room_slow_callers_get_503() -> None:
    """Slow and silent callers get 503 while all connections are in use; callers that wait
    for targets get their reply."""
    with (
        running(Limits(connections=2, reserve=2, linger=0.4), delay=2.0) as router,
        router.line() as answered,
        router.line() as slow,
    ):
        answered.say(post(b"Connection: close"))
        slow.say(post()[:9])
        router.wait_for_connections(2)
        with router.line() as extra:
            assert [answer.status for answer in slow.receive_all()] == [503]
            assert [answer.status for answer in extra.receive_all()] == [503]
        assert [answer.status for answer in answered.receive_all()] == [200]


# Memory.


def test_unfinished_bodies_have_a_common_bound() -> None:
    """Half sent bodies beyond the bound get 503; complete and small ones never do."""
    with ExitStack() as stack:
        router = stack.enter_context(
            running(Limits(unfinished=80_100, linger=20.0), max_body=200_000)
        )
        lines = [stack.enter_context(router.line()) for _ in range(4)]
        for line in lines:
            line.say(post(body=b" " * 200_000)[:40_000])
        wait_until(lambda: router.server.tally.refused["503"] == 2)
        small = stack.enter_context(router.line())
        small.say(post(b"A: " + b"x" * 200)[: -len(SAMPLE)])
        wait_until(lambda: router.server.tally.unfinished > 80_100)
        small.say(SAMPLE)
        assert answer_on(small).status == 200
        assert router.ask(post()).status == 200
        assert router.server.tally.unfinished == 80_000
        for line in lines:
            line.half_close()
        statuses = [answer.status for line in lines for answer in line.receive_all()]
        assert sorted(statuses) == [400, 400, 503, 503]
        small.half_close()
        router.wait_for_connections(0)
        assert router.server.tally.unfinished == 0


def test_the_body_of_a_vanished_caller_is_released(router: Running) -> None:
    """The bytes of a connection that was reset no longer count, and an idle one holds none."""
    with router.line() as line:
        line.say(post(body=b" " * 50_000)[:40_000])
        wait_until(lambda: router.server.tally.unfinished > 0)
        line.reset()
    wait_until(lambda: router.server.tally.unfinished == 0)
    with router.line() as line:
        line.say(post())
        assert line.receive()
        assert not any(each._exchange.body for each in router.server.tally.connections)


# Random bytes.


@examples(300)
@given(raw=spoilt())
def test_other_parsers_read_accepted_heads_alike(raw: bytes) -> None:
    """httptools and h11 read an accepted head as we do."""
    top = raw[: raw.find(b"\r\n\r\n") + 4]
    passed = read(top)
    if isinstance(passed, Head):
        path = passed.scope["path"] if b" /" in top.partition(b"\r\n")[0] else ANY
        ours = (passed.method, path, passed.fields)
        assert ours == by_httptools(top) == by_h11(top)


def by_httptools(top: bytes) -> tuple[object, ...]:
    targets, headers = list[bytes](), list[tuple[bytes, bytes]]()
    parser = httptools.HttpRequestParser(
        SimpleNamespace(
            on_url=targets.append,
            on_header=lambda name, value: headers.append((name.lower(), value.rstrip(b" \t"))),
        )
    )
    with suppress(httptools.HttpParserUpgrade):
        parser.feed_data(top)
    return parser.get_method(), path_in(b"".join(targets)), headers


def by_h11(top: bytes) -> tuple[object, ...]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    connection.receive_data(top)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return request.method, path_in(request.target), list(request.headers)


def path_in(target: bytes) -> str:
    return unquote(target.partition(b"?")[0].decode("ascii"))


@pytest.mark.parametrize(
    "output",
    [post(), chunked(ALL, END), PROBE, b"no HTTP\r\n\r\n", post()[:-1], chunked(ALL), b""],
)
def test_a_connection_that_is_over_is_no_cycle(
    router: Running, no_collections: None, output: bytes
) -> None:
    """A closed connection leaves nothing to the garbage collector."""
    for _ in range(3):
        with router.line() as line:
            line.say(output)
            if output and output not in (post()[:-1], chunked(ALL)):
                line.receive()
    wait_until(lambda: not any(isinstance(each, (Connection, Body)) for each in gc.get_objects()))
