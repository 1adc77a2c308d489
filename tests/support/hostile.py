"""Targets that misbehave, on real sockets: one named behaviour for each way to do it.

    async with hostile("says_nothing") as target:
        ...  # POST to target.url
        assert len(target.requests) == 1

A behaviour runs once for each connection. When it returns, the connection is closed in order.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

YES = '{"code":"000","msg":"成功"}'.encode()


@dataclass
class Hostile:
    """A running target, as a test sees it."""

    port: int
    scheme: str = "http"
    #: Whole requests, byte for byte, in the order of their ends.
    requests: list[bytes] = field(default_factory=list)
    #: Connections accepted, those open now, and the maximum open at once.
    accepted: int = 0
    open: int = 0
    connections: int = 0
    #: Every connection accepted, in order.
    peers: list[Peer] = field(default_factory=list)
    #: Bytes given to the system for sending.
    sent: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/callback"

    @property
    def https(self) -> str:
        """The URL with TLS, whether or not the target speaks it."""
        return f"https://127.0.0.1:{self.port}/callback"


class Peer:
    """One connection, seen from the target's side."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Hostile
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._target = target

    @property
    def is_first(self) -> bool:
        """True for the target's first connection."""
        return self._target.peers[0] is self

    @property
    def tls(self) -> ssl.SSLObject:
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found

    async def request(self) -> None:
        """Read one whole request and record it."""
        await self.body(await self.head())

    async def body(self, head: bytes) -> None:
        """Read the body that belongs to a head, and record both."""
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        self._target.requests.append(head + body)

    async def head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def some(self) -> bytes:
        return await self._reader.read(65536)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self._target.sent += len(data)

    def say(self, data: bytes) -> None:
        """Send data at once, before the loop's next turn."""
        self._writer.write(data)
        self._target.sent += len(data)

    async def gone(self) -> None:
        """Discard what the client sends until it has closed the connection."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """Reset the connection."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def answer(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """Return a well-formed HTTP answer."""
    lines = [f"HTTP/{version} {status}", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
FORGED = answer(b'{"code":"000","msg":"forged"}')

Behaviour = Callable[..., Awaitable[None]]


async def answers(peer: Peer, answer: bytes = answer(YES)) -> None:
    """Send the same answer to every request, by default an acknowledgement."""
    while True:
        await peer.request()
        await peer.send(answer)


#: Answers that are valid HTTP, with and without an acknowledgement.
ANSWERS = {
    "status_500": answer(YES, status="500 Internal Server Error"),
    "status_503": answer(b"later", "Retry-After: 120", status="503 Service Unavailable"),
    "code_500": answer('{"code":"500","msg":"服务调用异常"}'.encode()),
    "code_0": answer(b'{"code":"0"}'),
    "code_number": answer(b'{"code":0}'),
    "code_blank": answer(b'{"code":"000 "}'),
    "html": answer(b"<!doctype html><p>000</p>", "Content-Type: text/html"),
    "empty": answer(b""),
    "array": answer(b'["000"]'),
    "gzip": answer(gzip.compress(YES, mtime=0), "Content-Encoding: GZIP"),
    "identity": answer(YES, "Content-Encoding: identity"),
    "cookie": answer(YES, "Set-Cookie: seen=1; Path=/"),
    # The next two announce the end of the connection, and leave it to the client.
    "http_1_0_kept": answer(YES, "Connection: keep-alive", version="1.0"),
    "says_close_only": answer(YES, "Connection: x, Close"),
    "no_content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not_modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 17\r\n\r\n",
    "moved": answer(YES, "Location: /elsewhere", status="301 Moved Permanently"),
    "found": answer(YES, "Location: /elsewhere", status="302 Found"),
    "temporary": answer(YES, "Location: /elsewhere", status="307 Temporary Redirect"),
    "moved_nowhere": answer(YES, "Location: http://[", status="301 Moved Permanently"),
    "chunked": HEAD
    + CHUNKED
    + b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in YES)
    + b"0\r\nx-trailer: 1\r\n\r\n",
    "informational": b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer(YES),
}

#: Answers that are followed by what looks like another one.
SURPLUS = {
    "goes_beyond": answer(YES) + FORGED,
    "goes_beyond_chunks": ANSWERS["chunked"] + FORGED[:10],
    "goes_beyond_chunks_whole": ANSWERS["chunked"] + FORGED,
    "goes_beyond_no_content": ANSWERS["no_content"] + FORGED,
}

_TWO_LENGTHS = b"content-length: 28\r\ncontent-length: 2\r\n\r\n"
_TOO_LONG = HEAD + b"content-length: 100\r\n\r\n" + YES

Reads = Literal["nothing", "head", "request"]
Ends = Literal["closes", "resets", "waits", "hangs"]

#: Behaviours by what they read, what they send then, and how they end the connection. `waits`
#: leaves that to the client; `hangs` also reads no more.
SCRIPTS: dict[str, tuple[Reads, bytes, Ends]] = {
    "hangs": ("nothing", b"", "hangs"),
    "resets_at_once": ("nothing", b"", "resets"),
    "closes_at_once": ("nothing", b"", "closes"),
    "speaks_smtp": ("nothing", b"220 target.example ESMTP\r\n\r\n", "waits"),
    "speaks_http_2": (
        "nothing",
        b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\0\0\0\0\1",
        "waits",
    ),
    "speaks_tls": ("head", b"\x15\x03\x01\0\2\2\x46", "waits"),
    "refuses_unread": ("head", answer(b"", status="413 Content Too Large"), "hangs"),
    "accepts_unread": ("head", answer(YES), "closes"),
    "says_nothing": ("request", b"", "waits"),
    "resets_before": ("request", b"", "resets"),
    "closes_before": ("request", b"", "closes"),
    "resets_within_headers": ("request", HEAD, "resets"),
    "closes_within_headers": ("request", HEAD, "closes"),
    "resets_within_body": ("request", _TOO_LONG, "resets"),
    "closes_within_body": ("request", _TOO_LONG, "closes"),
    "closes_within_chunks": ("request", HEAD + CHUNKED + b"%x\r\n" % len(YES) + YES, "closes"),
    "resets_after": ("request", answer(YES), "resets"),
    "closes_after": ("request", answer(YES), "closes"),
    "says_close": ("request", answer(YES, "Connection: close"), "closes"),
    "http_1_0": ("request", b"HTTP/1.0 200 OK\r\n\r\n" + YES, "closes"),
    "two_lengths": ("request", HEAD + _TWO_LENGTHS + YES, "waits"),
    "bad_chunk": ("request", HEAD + CHUNKED + b"many\r\n", "waits"),
    "switches_protocol": ("request", b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "waits"),
}


async def follows(peer: Peer, reads: Reads, sent: bytes, end: Ends) -> None:
    """Follow a script."""
    if reads == "head":
        await peer.head()
    elif reads == "request":
        await peer.request()
    await peer.send(sent)
    if end == "resets":
        peer.reset()
    elif end == "waits":
        await peer.gone()
    elif end == "hangs":
        await asyncio.Event().wait()


async def answers_late(peer: Peer, seconds: float = 60.0) -> None:
    """Acknowledge after a delay."""
    while True:
        await peer.request()
        await asyncio.sleep(seconds)
        await peer.send(answer(YES))


async def closes_on_the_next(peer: Peer) -> None:
    """Answer once, then read the next request and close."""
    await peer.request()
    await peer.send(answer(YES))
    await peer.request()


async def accepts_early(
    peer: Peer, answer: bytes = answer(YES), may_read: asyncio.Event | None = None
) -> None:
    """Acknowledge after the header section, then read the body once it may be read."""
    while True:
        head = await peer.head()
        await peer.send(answer)
        if may_read is not None:
            await may_read.wait()
        await peer.body(head)


async def goes_on(peer: Peer, begin: bytes, more: bytes, seconds: float = 0.0) -> None:
    """Send an endless answer, with this pause between two parts of it."""
    await peer.request()
    await peer.send(begin)
    while True:
        await peer.send(more)
        # On a reset TLS connection, sending neither waits nor fails.
        await asyncio.sleep(seconds)


MANY = b" " * 65536

#: The beginning of an answer, its endless rest, and the pause in seconds.
ENDLESS = {
    "drips": (HEAD + b"content-length: 60000\r\n\r\n", b" ", 1.0),
    "drips_headers": (HEAD + b"x-drip: ", b" ", 1.0),
    "endless_headers": (HEAD, b"x-more: %b\r\n" % (b"m" * 1000), 0.0),
    "endless_header_line": (HEAD + b"x-more: ", b"m" * 1000, 0.0),
    "endless_informational": (b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.001),
    "huge_declared": (HEAD + b"content-length: 2147483648\r\n\r\n", MANY, 0.0),
    "huge_chunked": (HEAD + CHUNKED, b"10000\r\n%b\r\n" % MANY, 0.0),
    "huge_chunk": (HEAD + CHUNKED + b"80000000\r\n", MANY, 0.0),
    "huge_unframed": (HEAD + b"connection: close\r\n\r\n", MANY, 0.0),
    "endless_chunk_header": (HEAD + CHUNKED + b"1;x=", b"y" * 65536, 0.0),
    "tiny_chunks": (HEAD + CHUNKED, b"1\r\n \r\n" * 10_000, 0.0),
}


async def wants_certificate(peer: Peer, context: ssl.SSLContext) -> None:
    """End TLS by an alert, because the client has sent its request without a certificate."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            await peer.send(outgoing.read())
            if not (came := await peer.some()):
                return
            incoming.write(came)
        except ssl.SSLError:
            await peer.send(outgoing.read())
            await peer.gone()
            return


async def speaks_unasked(peer: Peer) -> None:
    """Send another answer after the first one has been read."""
    await peer.request()
    await peer.send(answer(YES))
    await asyncio.sleep(0.1)
    await peer.send(FORGED)
    await peer.gone()


async def says(peer: Peer, pieces: Sequence[bytes], ends: str = "orderly") -> None:
    """Answer in these pieces, then end the connection, `orderly` or by a `reset`.

    The loop turns between two pieces, so that a client on it reads them separately.
    """
    await peer.request()
    for piece in pieces:
        await peer.send(piece)
        for _ in range(5):
            await asyncio.sleep(0)
    if ends == "reset":
        peer.reset()


async def says_more(peer: Peer, pieces: Sequence[bytes]) -> None:
    """Answer the first request with these pieces, and refuse later ones."""
    if peer.is_first:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
    await answers(peer, ANSWERS["code_500"])


#: All behaviours by name; each runs once for each connection.
BEHAVIOURS: dict[str, Behaviour] = {
    **{
        each.__name__: each
        for each in (
            *(answers, answers_late, accepts_early, closes_on_the_next, wants_certificate),
            *(speaks_unasked, says, says_more),
        )
    },
    **{name: partial(answers, answer=sent) for name, sent in {**ANSWERS, **SURPLUS}.items()},
    **{name: partial(follows, reads=r, sent=s, end=e) for name, (r, s, e) in SCRIPTS.items()},
    **{name: partial(goes_on, begin=b, more=m, seconds=s) for name, (b, m, s) in ENDLESS.items()},
}


@asynccontextmanager
async def hostile(
    name: str, *, tls: ssl.SSLContext | None = None, **order: Any
) -> AsyncIterator[Hostile]:
    """Run a target with the named behaviour until the block ends.

    `order` has arguments of the behaviour, such as `seconds`.
    """
    if name in ABSENT:
        with ABSENT[name]() as port:
            yield Hostile(port)
        return
    behave = BEHAVIOURS[name]
    target = Hostile(0, "https" if tls else "http")
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        conversations.add(conversation)
        target.accepted += 1
        target.open += 1
        target.connections = max(target.connections, target.open)
        peer = Peer(reader, writer, target)
        target.peers.append(peer)
        try:
            await behave(peer, **order)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, RuntimeError):
            pass  # the client has gone, for which uvloop raises RuntimeError
        except asyncio.CancelledError:
            writer.transport.abort()  # the context has ended
        writer.close()
        with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await writer.wait_closed()
        target.open -= 1

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


# Targets that accept no connection.


@contextmanager
def refuses() -> Iterator[int]:
    """Reserve a port on which nobody listens."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@contextmanager
def never_accepts(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Listen on a port with a full queue: further connections get no answer."""
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen(0)
        crowd = [socket.socket() for _ in range(3)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for one in crowd:
                one.close()


ABSENT = {"refuses": refuses, "never_accepts": never_accepts}
