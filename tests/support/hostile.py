"""A target that misbehaves, over real sockets: one named behaviour for each way to do it.

    async with hostile("says_nothing") as target:
        ...  # POST to target.url
        assert len(target.requests) == 1

A behaviour runs once for each connection; when it returns, the connection is closed in order.
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
from typing import Any

YES = '{"code":"000","msg":"成功"}'.encode()


@dataclass
class Hostile:
    """What a test sees of the target: its URL, and what has reached it so far."""

    port: int
    scheme: str = "http"
    #: Each whole request, byte for byte, in the order of their ends.
    requests: list[bytes] = field(default_factory=list)
    #: Connections accepted, those open now, and the most that were open at once.
    accepted: int = 0
    open: int = 0
    connections: int = 0
    #: Every connection accepted, in that order.
    peers: list[Peer] = field(default_factory=list)
    #: Bytes that were handed to the system for sending.
    sent: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/callback"

    @property
    def https(self) -> str:
        """The URL of a target that ought to speak TLS, whether it does or not."""
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
        """Whether no other connection came before it."""
        return self._target.peers[0] is self

    @property
    def tls(self) -> ssl.SSLObject:
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found

    async def request(self) -> None:
        """Reads one whole request and records it."""
        await self.body(await self.head())

    async def body(self, head: bytes) -> None:
        """Reads the body that the head tells of, and records both."""
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
        """Hands data to the system in this very moment, before the loop turns again."""
        self._writer.write(data)
        self._target.sent += len(data)

    async def gone(self) -> None:
        """Returns when the client has closed the connection; drops what it sends until then."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """Ends the connection with a reset instead of an orderly close."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def answer(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A well-formed HTTP answer."""
    lines = [f"HTTP/{version} {status}", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
FORGED = answer(b'{"code":"000","msg":"forged"}')

Behaviour = Callable[..., Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    BEHAVIOURS[function.__name__] = function
    return function


@behaviour
async def answers(peer: Peer, answer: bytes = answer(YES)) -> None:
    """Keeps the contract, or answers what it was given to answer, on a kept-alive connection."""
    while True:
        await peer.request()
        await peer.send(answer)


#: Answers that are sound as HTTP; whether they acknowledge is another question.
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
    # The next two say that the connection ends, and leave that to the client.
    "http_1_0_kept": answer(YES, "Connection: keep-alive", version="1.0"),
    "says_close_only": answer(YES, "Connection: x, Close"),
    "no_content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not_modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 17\r\n\r\n",
    "moved": answer(YES, "Location: /elsewhere", status="301 Moved Permanently"),
    "found": answer(YES, "Location: /elsewhere", status="302 Found"),
    "temporary": answer(YES, "Location: /elsewhere", status="307 Temporary Redirect"),
    "moved_nowhere": answer(YES, "Location: http://[", status="301 Moved Permanently"),
    "chunked": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in YES)
    + b"0\r\nx-trailer: 1\r\n\r\n",
    "informational": b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer(YES),
}

BEHAVIOURS.update({name: partial(answers, answer=sent) for name, sent in ANSWERS.items()})


# Silence and slowness.


@behaviour
async def hangs(peer: Peer) -> None:
    """Accepts the connection and reads nothing."""
    await asyncio.Event().wait()


@behaviour
async def says_nothing(peer: Peer) -> None:
    """Reads the request and never answers."""
    await peer.request()
    await peer.gone()


@behaviour
async def answers_late(peer: Peer, seconds: float = 60.0) -> None:
    """Keeps the contract, but takes its time."""
    while True:
        await peer.request()
        await asyncio.sleep(seconds)
        await peer.send(answer(YES))


@behaviour
async def drips(peer: Peer, seconds: float = 1.0) -> None:
    """Sends an answer's body byte by byte, never pausing for longer than that."""
    await peer.request()
    await peer.send(HEAD + b"content-length: 60000\r\n\r\n")
    await _drip(peer, seconds)


@behaviour
async def drips_headers(peer: Peer, seconds: float = 1.0) -> None:
    """Sends an answer's header section byte by byte."""
    await peer.request()
    await peer.send(HEAD + b"x-drip: ")
    await _drip(peer, seconds)


async def _drip(peer: Peer, seconds: float) -> None:
    while True:
        await peer.send(b" ")
        await asyncio.sleep(seconds)


# Connections that end.


@behaviour
async def resets_at_once(peer: Peer) -> None:
    """Resets the connection as soon as it is there."""
    peer.reset()


@behaviour
async def closes_at_once(peer: Peer) -> None:
    """Closes the connection as soon as it is there."""


@behaviour
async def resets_before(peer: Peer) -> None:
    """Reads the request and resets the connection."""
    await peer.request()
    peer.reset()


@behaviour
async def closes_before(peer: Peer) -> None:
    """Reads the request and closes the connection."""
    await peer.request()


@behaviour
async def resets_within_headers(peer: Peer) -> None:
    """Resets the connection within the answer's header section."""
    await peer.request()
    await peer.send(HEAD)
    peer.reset()


@behaviour
async def closes_within_headers(peer: Peer) -> None:
    """Closes the connection within the answer's header section."""
    await peer.request()
    await peer.send(HEAD)


@behaviour
async def resets_within_body(peer: Peer) -> None:
    """Resets the connection within the answer's body."""
    await peer.request()
    await peer.send(HEAD + b"content-length: 100\r\n\r\n" + YES)
    peer.reset()


@behaviour
async def closes_within_body(peer: Peer) -> None:
    """Says a content-length that is too long, and closes the connection after the body."""
    await peer.request()
    await peer.send(HEAD + b"content-length: 100\r\n\r\n" + YES)


@behaviour
async def closes_within_chunks(peer: Peer) -> None:
    """Closes the connection before the last chunk."""
    await peer.request()
    await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(YES), YES))


@behaviour
async def resets_after(peer: Peer) -> None:
    """Answers and then resets the connection."""
    await peer.request()
    await peer.send(answer(YES))
    peer.reset()


@behaviour
async def closes_after(peer: Peer) -> None:
    """Answers as if it kept the connection alive, and closes it."""
    await peer.request()
    await peer.send(answer(YES))


@behaviour
async def closes_on_the_next(peer: Peer) -> None:
    """Answers once; then reads the next request and closes without an answer."""
    await peer.request()
    await peer.send(answer(YES))
    await peer.request()


@behaviour
async def says_close(peer: Peer) -> None:
    """Answers with `connection: close`, and closes."""
    await peer.request()
    await peer.send(answer(YES, "Connection: close"))


@behaviour
async def http_1_0(peer: Peer) -> None:
    """Speaks HTTP/1.0: no length, the body ends with the connection."""
    await peer.request()
    await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + YES)


@behaviour
async def refuses_early(peer: Peer) -> None:
    """Answers after the header section, and reads the rest only to close in order."""
    await peer.head()
    await peer.send(answer(b"", "Connection: close", status="413 Content Too Large"))
    await peer.gone()


@behaviour
async def refuses_unread(peer: Peer) -> None:
    """Answers after the header section that it won't have it, and reads no more."""
    await peer.head()
    await peer.send(answer(b"", status="413 Content Too Large"))
    await asyncio.Event().wait()


@behaviour
async def accepts_early(peer: Peer) -> None:
    """Acknowledges after the header section, and then reads the body."""
    head = await peer.head()
    await peer.send(answer(YES))
    await peer.body(head)
    await peer.gone()


@behaviour
async def accepts_unread(peer: Peer) -> None:
    """Acknowledges after the header section, and closes without reading the body."""
    await peer.head()
    await peer.send(answer(YES))


# Too much.


async def goes_on(peer: Peer, begin: bytes, more: bytes) -> None:
    """Begins an answer, and goes on with it without end."""
    await peer.request()
    await peer.send(HEAD + begin)
    while True:
        await peer.send(more)
        await asyncio.sleep(0)  # over TLS that has been reset, sending never waits nor fails


CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
MANY = b" " * 65536

#: What an answer begins with, and goes on with for ever.
ENDLESS = {
    "endless_headers": (b"", b"x-more: %b\r\n" % (b"m" * 1000)),
    "endless_header_line": (b"x-more: ", b"m" * 1000),
    "huge_declared": (b"content-length: 2147483648\r\n\r\n", MANY),
    "huge_chunked": (CHUNKED, b"10000\r\n%b\r\n" % MANY),
    "huge_chunk": (CHUNKED + b"80000000\r\n", MANY),
    "huge_unframed": (b"connection: close\r\n\r\n", MANY),
    "endless_chunk_header": (CHUNKED + b"1;x=", b"y" * 65536),
    "tiny_chunks": (CHUNKED, b"1\r\n \r\n" * 10_000),
}

BEHAVIOURS.update(
    {name: partial(goes_on, begin=begin, more=more) for name, (begin, more) in ENDLESS.items()}
)


@behaviour
async def endless_informational(peer: Peer) -> None:
    """Sends 1xx answers without end, and never the real one."""
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.001)


# What is no HTTP, or not the answer to this request.


@behaviour
async def speaks_smtp(peer: Peer) -> None:
    """Speaks another protocol, in lines."""
    await peer.send(b"220 target.example ESMTP\r\n\r\n")
    await peer.gone()


@behaviour
async def speaks_http_2(peer: Peer) -> None:
    """Speaks HTTP/2 only, and takes leave in it."""
    await peer.send(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\0\0\0\0\1")
    await peer.gone()


@behaviour
async def speaks_tls(peer: Peer) -> None:
    """Says by a TLS alert that a plain request is none of its business."""
    await peer.head()
    await peer.send(b"\x15\x03\x01\0\2\2\x46")
    await peer.gone()


@behaviour
async def wants_certificate(peer: Peer, context: ssl.SSLContext) -> None:
    """Breaks TLS off by an alert once the client has sent its request but no certificate."""
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


@behaviour
async def two_lengths(peer: Peer) -> None:
    """Says two different content-lengths."""
    await peer.request()
    await peer.send(HEAD + b"content-length: 28\r\ncontent-length: 2\r\n\r\n" + YES)
    await peer.gone()


@behaviour
async def bad_chunk(peer: Peer) -> None:
    """Says a chunk size that is no number."""
    await peer.request()
    await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\nmany\r\n")
    await peer.gone()


@behaviour
async def switches_protocol(peer: Peer) -> None:
    """Answers 101 to a request that asked for no other protocol."""
    await peer.request()
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")
    await peer.gone()


@behaviour
async def goes_beyond(peer: Peer) -> None:
    """Says a content-length that is too short: what follows looks like one more answer."""
    while True:
        await peer.request()
        await peer.send(answer(YES) + FORGED)


@behaviour
async def goes_beyond_chunks(peer: Peer) -> None:
    """Sends the beginning of one more answer after the last chunk."""
    while True:
        await peer.request()
        await peer.send(ANSWERS["chunked"] + FORGED[:10])


@behaviour
async def goes_beyond_chunks_whole(peer: Peer) -> None:
    """Sends a whole answer more after the last chunk."""
    while True:
        await peer.request()
        await peer.send(ANSWERS["chunked"] + FORGED)


@behaviour
async def goes_beyond_no_content(peer: Peer) -> None:
    """Sends a body after a 204, which has none; it looks like one more answer."""
    while True:
        await peer.request()
        await peer.send(ANSWERS["no_content"] + FORGED)


@behaviour
async def speaks_unasked(peer: Peer) -> None:
    """Sends one more answer when the first has long been read."""
    await peer.request()
    await peer.send(answer(YES))
    await asyncio.sleep(0.1)
    await peer.send(FORGED)
    await peer.gone()


@behaviour
async def says(peer: Peer, pieces: Sequence[bytes], ends: str = "orderly") -> None:
    """Answers in these pieces, and then ends the connection, `orderly` or by a `reset`.

    The loop turns between two pieces, so that a client on it reads them apart.
    """
    await peer.request()
    for piece in pieces:
        await peer.send(piece)
        for _ in range(5):
            await asyncio.sleep(0)
    if ends == "reset":
        peer.reset()


@behaviour
async def says_more(peer: Peer, pieces: Sequence[bytes]) -> None:
    """Says these pieces to the first request. What comes after it is never acknowledged."""
    if peer.is_first:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
    await answers(peer, ANSWERS["code_500"])


@asynccontextmanager
async def hostile(
    name: str, *, tls: ssl.SSLContext | None = None, **order: Any
) -> AsyncIterator[Hostile]:
    """A target with the behaviour of that name; all it does ends with the context.

    With `tls` it speaks TLS; `order` goes to the behaviour, `seconds` to those that are slow, say.
    """
    if name in ABSENT:
        with ABSENT[name]() as port:
            yield Hostile(port)
        return
    behave = BEHAVIOURS[name]
    target = Hostile(0, "https" if tls else "http")
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(_current_task())
        target.accepted += 1
        target.open += 1
        target.connections = max(target.connections, target.open)
        peer = Peer(reader, writer, target)
        target.peers.append(peer)
        try:
            await behave(peer, **order)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, RuntimeError):
            pass  # the client has gone; RuntimeError is uvloop's word for that
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


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


# Targets to which no connection comes about.


@contextmanager
def refuses() -> Iterator[int]:
    """A port that nobody listens at, kept from being taken."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@contextmanager
def never_accepts(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port whose listener has its queue full: what comes next is not answered at all."""
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
