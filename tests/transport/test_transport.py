"""The promises of every engine, over real sockets, against targets that misbehave in every way."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import resource
import socket
import ssl
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import trustme

from router.model.event import Reason
from router.net.tls import USUAL, system_trust
from router.transport.engine import MAX_ANSWER, Answer, Failure, Pool, as_it_came, lines_of
from tests.support.engines import (
    AUTHORITY,
    BODY,
    HEADERS,
    LONG,
    SHORT,
    Engine,
    begun,
    certified,
    opened,
    post,
    trusting,
)
from tests.support.hostile import BEHAVIOURS, FORGED, YES, Hostile, answer, hostile
from tests.support.loops import LOOPS, on
from tests.support.sockets import HOST
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

T = TypeVar("T")


anyio_backend = on(LOOPS)


# What is sent.


async def test_exactly_these_bytes_are_on_the_wire(engine: Engine) -> None:
    """The target gets `host`, the given headers in order, `content-length`, and the body."""
    async with hostile("answers") as target, opened(engine, target.url + "?a=1&b=%20") as pool:
        lines = lines_of([(b"X-Mixed", b"K\xc3\xa9pt"), (b"x-mixed", b"")])
        await pool.post(lines, b"\x00\xff\r\n", LONG, as_it_came)
    assert target.requests == [
        b"POST /callback?a=1&b=%%20 HTTP/1.1\r\n"
        b"host: 127.0.0.1:%d\r\n"
        b"X-Mixed: K\xc3\xa9pt\r\n"
        b"x-mixed: \r\n"
        b"content-length: 4\r\n"
        b"\r\n"
        b"\x00\xff\r\n" % target.port
    ]


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_a_body_of_any_size_arrives_whole(engine: Engine, size: int) -> None:
    """Byte for byte, an empty and a large one included."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        assert isinstance(await post(pool, body=body), Answer)
    assert target.requests[0].partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "299 Odd"])
async def test_an_early_acknowledgement_waits_for_the_last_byte(
    engine: Engine, status: str
) -> None:
    """The target gets the whole request, and the next one on the same connection."""
    early, may_read, body = answer(YES, status=status), asyncio.Event(), b"x" * 20_000_000
    async with (
        hostile("accepts_early", answer=early, may_read=may_read) as target,
        opened(engine, target.url) as pool,
    ):
        posted = begun(pool, body=body)
        await until(lambda: target.sent)
        await asyncio.sleep(SHORT / 3)
        assert not posted.is_over
        may_read.set()
        assert await posted == await post(pool) == Answer(int(status[:3]), YES)
        await until(lambda: len(target.requests) == 2)
    assert target.requests[0].endswith(b"\r\n\r\n" + body)
    assert target.accepted == 1


async def test_cookies_are_not_kept(engine: Engine) -> None:
    """A cookie that a target sets is not sent back to it."""
    async with hostile("cookie") as target, opened(engine, target.url) as pool:
        await post(pool)
        await post(pool)
    assert target.requests[0] == target.requests[1]


# Answers.


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("answers", Answer(200, YES)),
        ("status_500", Answer(500, YES)),
        ("status_503", Answer(503, b"later", retry_after="120")),
        ("empty", Answer(200, b"")),
        ("gzip", Answer(200, gzip.compress(YES, mtime=0), encoding="gzip")),
        ("identity", Answer(200, YES)),
        ("no_content", Answer(204, b"")),
        ("not_modified", Answer(304, b"")),
        ("moved", Answer(301, YES)),
        ("temporary", Answer(307, YES)),
        ("moved_nowhere", Answer(301, YES)),
        ("chunked", Answer(200, YES)),
        ("informational", Answer(200, YES)),
        ("http_1_0", Answer(200, YES)),
        ("says_close", Answer(200, YES)),
        ("closes_after", Answer(200, YES)),
        ("resets_after", Answer(200, YES)),
        ("goes_beyond", Answer(200, YES)),
        ("goes_beyond_chunks_whole", Answer(200, YES)),
    ],
    ids=str,
)
async def test_an_answer_is_handed_over_as_it_came(
    engine: Engine, behaviour: str, expected: Answer
) -> None:
    """Nothing is followed or decoded; the encoding is in lower case, and not `identity`."""
    async with hostile(behaviour) as target, opened(engine, target.url) as pool:
        assert await post(pool) == expected
    assert len(target.requests) == 1


async def test_the_largest_answer_is_read(engine: Engine) -> None:
    """An answer of MAX_ANSWER bytes is read; one byte more is too large."""
    results = []
    for size in (MAX_ANSWER, MAX_ANSWER + 1):
        large = answer(b"x" * size)
        async with hostile("answers", answer=large) as target, opened(engine, target.url) as pool:
            results.append(await post(pool))
    assert results[0] == Answer(200, b"x" * MAX_ANSWER)
    assert results[1].replace(status=None, detail="") == Failure(Reason.TOO_LARGE, delivered=True)


# Failures.


@pytest.mark.parametrize(
    ("behaviour", "timeout", "expected", "seen"),
    [
        ("refuses", LONG, Failure(Reason.CONNECT_REFUSED, delivered=False), 0),
        ("never_accepts", SHORT, Failure(Reason.CONNECT_TIMEOUT, delivered=False), 0),
        ("hangs", SHORT, Failure(Reason.TIMEOUT, delivered=True), 0),
        ("says_nothing", SHORT, Failure(Reason.TIMEOUT, delivered=True), 1),
        ("answers_late", SHORT, Failure(Reason.TIMEOUT, delivered=True), 1),
        ("drips", SHORT, Failure(Reason.TIMEOUT, delivered=True, status=200), 1),
        ("drips_headers", SHORT, Failure(Reason.TIMEOUT, delivered=True), 1),
        ("endless_informational", SHORT, Failure(Reason.TIMEOUT, delivered=True), 1),
        ("resets_at_once", LONG, Failure(Reason.RESET, delivered=True), 0),
        ("closes_at_once", LONG, Failure(Reason.RESET, delivered=True), 0),
        ("resets_before", LONG, Failure(Reason.RESET, delivered=True), 1),
        ("closes_before", LONG, Failure(Reason.RESET, delivered=True), 1),
        ("resets_within_headers", LONG, Failure(Reason.RESET, delivered=True), 1),
        ("closes_within_headers", LONG, Failure(Reason.RESET, delivered=True), 1),
        ("resets_within_body", LONG, Failure(Reason.RESET, delivered=True, status=200), 1),
        ("closes_within_body", LONG, Failure(Reason.RESET, delivered=True, status=200), 1),
        ("closes_within_chunks", LONG, Failure(Reason.RESET, delivered=True, status=200), 1),
        ("endless_headers", LONG, Failure(Reason.TOO_LARGE, delivered=True), 1),
        ("endless_header_line", LONG, Failure(Reason.TOO_LARGE, delivered=True), 1),
        ("endless_chunk_header", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("huge_declared", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("huge_chunked", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("huge_chunk", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("huge_unframed", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("tiny_chunks", LONG, Failure(Reason.TOO_LARGE, delivered=True, status=200), 1),
        ("speaks_smtp", LONG, Failure(Reason.PROTOCOL, delivered=True), 0),
        ("speaks_tls", LONG, Failure(Reason.PROTOCOL, delivered=True), 0),
        ("speaks_http_2", LONG, Failure(Reason.PROTOCOL, delivered=True), 0),
        ("two_lengths", LONG, Failure(Reason.PROTOCOL, delivered=True), 1),
        ("bad_chunk", LONG, Failure(Reason.PROTOCOL, delivered=True, status=200), 1),
        ("switches_protocol", LONG, Failure(Reason.PROTOCOL, delivered=True), 1),
    ],
)
async def test_a_failure_is_a_value(
    engine: Engine, behaviour: str, timeout: float, expected: Failure, seen: int
) -> None:
    """A target's failure has its reason, says what may have been delivered, and is not repeated."""
    # On a busy machine a short timeout may pass before the target has the request.
    for patience in (timeout, 20 * timeout):
        async with hostile(behaviour) as target, opened(engine, target.url) as pool:
            result = await post(pool, patience)
            if await _has(target, seen):
                break
    assert isinstance(result, Failure)
    assert result.replace(detail="") == expected
    assert str(target.port) not in result.detail
    assert len(target.requests) == seen
    assert target.accepted <= 1


async def _has(target: Hostile, seen: int) -> bool:
    with suppress(TimeoutError):
        await until(lambda: len(target.requests) == seen, 1.0)
    return len(target.requests) == seen


@pytest.mark.parametrize("host", ["nowhere.invalid", "no..where", "xn--a.invalid", "x" * 64])
async def test_a_name_without_an_address(engine: Engine, host: str) -> None:
    """A host whose name has no address, or can't have one, is `dns`, and nothing was delivered."""
    async with opened(engine, f"http://{host}/callback") as pool:
        result = await post(pool)
    assert isinstance(result, Failure)
    assert (result.reason, result.delivered) == (Reason.DNS, False)
    assert result.detail


async def test_an_address_out_of_reach(engine: Engine) -> None:
    """An address that the system can't connect to is `unreachable`, in the system's words."""
    async with opened(engine, "http://127.255.255.255/callback") as pool:
        result = await post(pool)
    assert result == Failure(Reason.UNREACHABLE, delivered=False, detail="Network is unreachable")


async def test_a_fault_of_our_own_is_no_failure(engine: Engine) -> None:
    """Lines that are not bytes raise, and are not blamed on the target."""
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        with pytest.raises((TypeError, AttributeError)):
            await pool.post(7, BODY, LONG, as_it_came)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"a\r\nx-forged: 1", b"a\nx-forged: 1", b"a\r", b"a\0"])
def test_a_header_cannot_become_two(value: bytes) -> None:
    """A header with a line break never reaches a pool."""
    with pytest.raises(ValueError, match="a line break in a header"):
        lines_of([(b"x-event-key", value)])


# TLS.


async def test_the_environment_can_name_the_authorities(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By default, SSL_CERT_FILE names the authorities."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    system_trust.cache_clear()
    try:
        async with (
            hostile("answers", tls=certified()) as target,
            opened(engine, target.url) as pool,
        ):
            assert isinstance(await post(pool), Answer)
    finally:
        system_trust.cache_clear()


@pytest.mark.parametrize(
    ("tls", "detail"),
    [
        (certified(by=trustme.CA()), "unable to get local issuer certificate"),
        (certified("elsewhere.example"), "not valid for '127.0.0.1'"),
        (certified(ends=datetime.now(UTC) - timedelta(days=1)), "certificate has expired"),
    ],
    ids=["untrusted", "wrong host", "expired"],
)
async def test_a_certificate_is_verified(engine: Engine, tls: ssl.SSLContext, detail: str) -> None:
    """An invalid certificate is `tls`, the detail says why, and nothing was delivered."""
    async with (
        hostile("answers", tls=tls) as target,
        opened(engine, target.url, tls=trusting()) as pool,
    ):
        result = await post(pool)
    assert isinstance(result, Failure)
    assert (result.reason, result.delivered) == (Reason.TLS, False)
    assert detail in result.detail
    assert target.requests == []


@pytest.mark.parametrize(
    ("behaviour", "timeout", "reason"),
    [
        ("hangs", SHORT, Reason.CONNECT_TIMEOUT),
        ("speaks_smtp", LONG, Reason.TLS),
        ("answers", SHORT, Reason.CONNECT_TIMEOUT),
        ("closes_at_once", LONG, Reason.TLS),
        ("resets_at_once", LONG, Reason.TLS),
    ],
)
async def test_a_handshake_that_comes_to_nothing(
    engine: Engine, behaviour: str, timeout: float, reason: Reason
) -> None:
    """A target that does not speak TLS has seen nothing of the request."""
    async with (
        hostile(behaviour) as target,
        opened(engine, target.https, tls=trusting()) as pool,
    ):
        result = await post(pool, timeout)
    assert isinstance(result, Failure)
    assert (result.reason, result.delivered) == (reason, False)
    # On a slow machine to connect may take all of a short time.
    assert timeout != SHORT or result.detail in ("", "the TLS handshake did not end")


# Connections.


@pytest.mark.parametrize(
    "behaviour",
    ["answers", "status_500", "moved", "no_content", "not_modified", "chunked", "informational"],
)
async def test_a_connection_is_kept(engine: Engine, behaviour: str) -> None:
    """Requests in a row take one connection."""
    async with hostile(behaviour) as target, opened(engine, target.url) as pool:
        for _ in range(3):
            assert isinstance(await post(pool), Answer)
    assert (target.accepted, len(target.requests)) == (1, 3)


@pytest.mark.parametrize(
    "behaviour",
    ["goes_beyond", "goes_beyond_chunks", "goes_beyond_chunks_whole", "goes_beyond_no_content",
     "speaks_unasked", "says_close", "says_close_only", "http_1_0", "http_1_0_kept",
     "closes_after", "resets_after"],
)  # fmt: skip
async def test_a_spent_connection_is_replaced(engine: Engine, behaviour: str) -> None:
    """Bytes after an answer, an end or forged ones, do not touch the next request."""
    async with hostile(behaviour) as target, opened(engine, target.url) as pool:
        first = await post(pool)
        forged = len(FORGED) if behaviour == "speaks_unasked" else 0
        await until(lambda: target.sent >= len(answer(YES)) + forged if forged else True)
        if behaviour in ("closes_after", "resets_after"):
            await until(lambda: target.open == 0)
        assert await post(pool) == first
    assert isinstance(first, Answer)
    assert (target.accepted, len(target.requests)) == (2, 2)


async def test_unread_data_is_not_an_answer_to_the_next_request(engine: Engine) -> None:
    """An answer that comes before its request ends the connection, read or not."""
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        assert isinstance(await post(pool), Answer)
        target.peers[0].say(FORGED)
        assert await post(pool) == Answer(200, YES)
    assert (target.accepted, len(target.requests)) == (2, 2)


@pytest.mark.parametrize("speaks_tls", [False, True])
@pytest.mark.parametrize("turn", [0, 0.002])
async def test_data_before_the_first_request_is_not_an_answer(
    engine: Engine, speaks_tls: bool, turn: float
) -> None:
    """A new connection's early answer acknowledges nothing, however long the loop's turns."""
    context = certified() if speaks_tls else None
    if context is not None:  # there the target's word is the last one of the handshake
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server((HOST, 0)) as listener:
        url = f"{'https' if speaks_tls else 'http'}://{HOST}:{listener.getsockname()[1]}/"
        async with opened(engine, url, trusting() if speaks_tls else USUAL) as pool:
            posted = begun(pool)
            with await _forge(listener, context):
                while not posted.is_over:
                    time.sleep(turn)  # noqa: ASYNC251 - as long work of others would
                    await asyncio.sleep(0)
                assert await posted == Failure(Reason.PROTOCOL, delivered=True)


async def _forge(listener: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    """Answer the first caller at once. The loop has no turn in between."""
    listener.setblocking(False)
    caller, _ = await _soon(listener.accept)
    # Else the answer would wait until what the handshake has sent is acknowledged.
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.setblocking(False)
    if context is not None:
        caller = context.wrap_socket(caller, server_side=True, do_handshake_on_connect=False)
        await _soon(caller.do_handshake)
    caller.sendall(FORGED)
    return caller


async def _soon(step: Callable[[], T]) -> T:
    while True:
        try:
            return step()
        except (BlockingIOError, ssl.SSLWantReadError):
            await asyncio.sleep(0)


async def test_a_target_is_not_blamed_for_the_routers_lack_of_files(engine: Engine) -> None:
    """If no file can be opened, the reason is the router's own, for a name as for an address."""
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        with no_file_left():
            result = await post(pool)
        assert result == Failure(Reason.OUT_OF_FILES, delivered=False, detail="Too many open files")
        assert isinstance(await post(pool), Answer)


@contextmanager
def no_file_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_may_have_been_delivered_is_not_sent_again(engine: Engine) -> None:
    """A target that closes a kept connection on reading the next request has seen it once."""
    async with hostile("closes_on_the_next") as target, opened(engine, target.url) as pool:
        assert isinstance(await post(pool), Answer)
        assert await post(pool) == Failure(Reason.RESET, delivered=True)
        await until(lambda: target.open == 0)
    assert (target.accepted, len(target.requests)) == (1, 2)


async def test_an_idle_connection_is_not_kept_for_long(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After KEEP_ALIVE it is closed, not used. Connections of a burst are not kept by the requests
    that follow one at a time: those take the connection that was used last. Targets close theirs
    after 5 s."""
    module = sys.modules[engine.__module__]
    assert vars(module)["KEEP_ALIVE"] < 5.0
    monkeypatch.setattr(module, "KEEP_ALIVE", 0.05)
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        await asyncio.gather(*(post(pool) for _ in range(4)))
        assert target.accepted == 4
        async with asyncio.timeout(LONG):
            while target.open > 1:
                await post(pool)
        await asyncio.sleep(0.1)
        accepted = target.accepted
        await post(pool)
        assert target.accepted == accepted + 1
        await until(lambda: target.open == 1)


@pytest.mark.parametrize("tls", [None, certified()], ids=["http", "https"])
async def test_cancelling_at_any_moment_closes_the_connection(
    engine: Engine, tls: ssl.SSLContext | None
) -> None:
    """A post cancelled after any number of the loop's turns leaves nothing open."""
    async with hostile("answers", tls=tls) as target:
        cancelled, turns = True, 0
        while cancelled:
            async with opened(engine, target.url, tls=trusting()) as pool:
                if cancelled := await _cancelled_after(turns, pool):
                    await until(lambda: target.open == 0)
                assert isinstance(await post(pool), Answer)
                await _cancelled_after(turns, pool)
                assert isinstance(await post(pool), Answer)
            await until(lambda: target.open == 0)
            turns += 1
    assert turns > 3


async def _cancelled_after(turns: int, pool: Pool) -> bool:
    """Cancel a post after so many turns; return whether it was still in flight."""
    results: list[Answer | Failure] = []
    ends: list[BaseException | None] = []
    posting = pool.post(lines_of(HEADERS), BODY, LONG, results.append)
    posting.listen(lambda over: ends.append(over.error))
    for _ in range(turns):
        await asyncio.sleep(0)
    posting.cancel()
    await until(lambda: results != [])
    await until(lambda: posting.is_over)
    assert (len(results), len(ends)) == (1, 1)
    was_in_flight = isinstance(results[0], Failure)
    assert not was_in_flight or isinstance(ends[0], asyncio.CancelledError)
    return was_in_flight


@pytest.mark.parametrize("sent", [0, 1])
async def test_cancelling_a_wait_cancels_the_post(engine: Engine, sent: int) -> None:
    """A task that is cancelled while it waits for a post leaves nothing open."""
    results: list[Answer | Failure] = []
    async with hostile("says_nothing") as target, opened(engine, target.url) as pool:
        posting = pool.post(lines_of(HEADERS), BODY, LONG, results.append)
        waiting = asyncio.ensure_future(posting)
        await asyncio.sleep(0)
        await until(lambda: len(target.requests) >= sent)
        waiting.cancel()
        await until(lambda: results != [])
        await until(lambda: target.open == 0)
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.STOPPED


# The end.


async def test_closing_stops_posts_in_flight(engine: Engine) -> None:
    """They are `stopped` and say whether they were delivered; so are later ones."""
    async with hostile("says_nothing") as target:
        pool = engine(target.url)
        sent = begun(pool)
        await until(lambda: len(target.requests) == 1)
        waiting = begun(pool)
        await asyncio.sleep(0)
        async with asyncio.timeout(LONG / 2):
            await pool.close()
        assert sent.is_over
        assert waiting.is_over
        assert sent.result() == Failure(Reason.STOPPED, delivered=True)
        assert waiting.result() == Failure(Reason.STOPPED, delivered=False)
        await until(lambda: target.open == 0)
        assert await post(pool) == Failure(Reason.STOPPED, delivered=False)
        await pool.close()
    assert len(target.requests) == 1


@pytest.mark.parametrize("tls", [None, certified()], ids=["http", "https"])
async def test_closing_at_any_moment_ends_the_post(
    engine: Engine, tls: ssl.SSLContext | None
) -> None:
    """Within the close, after any number of the loop's turns."""
    async with hostile("says_nothing", tls=tls) as target:
        for turns in range(30):
            pool = engine(target.url, tls=trusting())
            posting = begun(pool)
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(LONG / 2):
                await pool.close()
                result = await posting
            assert isinstance(result, Failure)
            assert result.reason is Reason.STOPPED
        await until(lambda: target.open == 0)


async def test_nothing_is_left(engine: Engine) -> None:
    """A closed pool has no task, connection or file, however targets misbehave."""
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        await post(pool)  # what is made once for all stays
    files, tasks = open_files(), asyncio.all_tasks()
    for behaviour in sorted(BEHAVIOURS.keys() - {"says", "says_more", "wants_certificate"}):
        async with hostile(behaviour) as target, opened(engine, target.url) as pool:
            posted = [begun(pool, SHORT / 3) for _ in range(8)]
            for turns, posting in enumerate(posted[::2]):
                for _ in range(turns):
                    await asyncio.sleep(0)
                posting.cancel()
            await asyncio.gather(*posted, return_exceptions=True)
    await until(lambda: open_files() <= files and asyncio.all_tasks() <= tasks)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# What it costs.


@pytest.mark.parametrize(
    "behaviour", ["huge_declared", "huge_chunked", "huge_chunk", "huge_unframed", "endless_headers"]
)
async def test_memory_is_bounded(engine: Engine, behaviour: str) -> None:
    """An endless answer takes a few times MAX_ANSWER, not as much as the target sends."""
    async with hostile("answers") as target, opened(engine, target.url) as pool:
        await post(pool)  # what is imported at the first request is no answer's cost
    async with hostile(behaviour) as target, opened(engine, target.url) as pool:
        tracemalloc.start()
        try:
            for _ in range(3):
                await post(pool)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 60 * MAX_ANSWER
    assert target.sent < 100_000_000


async def test_an_engine_logs_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The result says it all; no library below writes a line."""
    with caplog.at_level(logging.DEBUG):
        for behaviour in ("answers", "closes_before", "refuses"):
            async with hostile(behaviour) as target, opened(engine, target.url) as pool:
                await post(pool)
    assert [record for record in caplog.records if record.name != "asyncio"] == []
