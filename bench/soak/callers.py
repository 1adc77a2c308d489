"""The callers of a soak, honest and faulty ones. Each reply is checked."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from bench.caller import Caller, event, request
from bench.soak.configuration import Configuration, hang_up
from router.net.http.connection import Limits
from router.web.callbacks import MAX_BODY

#: How long a request may take to arrive, in seconds.
RECEIVE = Limits().receive

#: The number of requests after which an event counts as lost.
TRIES = 60


class Callers:
    """Everything that happens to the router from outside, and the results."""

    def __init__(self, port: int, ops_port: int, pid: int, configuration: Configuration) -> None:
        self._port = port
        self._ops_port = ops_port
        self._pid = pid
        self._configuration = configuration
        self._number = itertools.count()
        #: Results by kind of caller.
        self.results: Counter[tuple[str, str]] = Counter()
        #: Wrong results by kind of caller.
        self.wrong: Counter[tuple[str, str]] = Counter()

    async def round(self, seconds: float, rate: float) -> None:
        """Run all callers for `seconds`; the plain ones send `rate` events a second together.

        Returns when every reply is in and every event of an honest caller has its 000.
        """
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, over.set)
        plain = [("plain", 0.4), ("both", 0.2), ("queues", 0.2), ("flaps", 0.2)]
        async with asyncio.TaskGroup() as group:
            for kind, share in plain:
                group.create_task(self._honest(over, kind, 1 / (rate * share)))
            for deed, pause in (
                (self._hangs_up, 0.5),
                (self._trickles, 1.0),
                (self._is_too_slow, 2.0),
                (self._says_too_much, 1.0),
                (self._is_invalid, 3.0),
                (self._matches_nothing, 0.5),
                (self._speaks_no_http, 0.7),
                (self._comes_and_goes, 1.5),
                (self._has_a_twin, 1.0),
                (self._asks_ops, 1.0),
                (self._edits, 1.0),
            ):
                group.create_task(_repeat(over, deed, pause))

    def _judge(self, kind: str, got: str, *right: str) -> bool:
        self.results[kind, got] += 1
        if got not in right:
            self.wrong[kind, got] += 1
        return got in right

    def _event(self, kind: str) -> bytes:
        return event(kind, f"{next(self._number)}")

    # Honest callers.

    async def _honest(self, over: asyncio.Event, kind: str, pause: float) -> None:
        """Send events of one kind on kept connections, each until it gets 000."""
        idle: list[Caller] = []
        async with asyncio.TaskGroup() as group:
            while not over.is_set():
                group.create_task(self._send(kind, idle))
                await asyncio.sleep(random.expovariate(1 / pause))
        for caller in idle:
            caller.close()

    async def _send(self, kind: str, idle: list[Caller]) -> None:
        caller = idle.pop() if idle else Caller(self._port)
        body = self._event(kind)
        # A failure is right if a required target fails, or if a slow disk cannot queue in time.
        may = ("000", "500") if kind in ("flaps", "queues") else ("000",)
        for _ in range(TRIES):
            code = await caller.post(body)
            if not self._judge(kind, code, *may) or code == "000":
                break
            await asyncio.sleep(1.0)
        else:
            self._judge(kind, "never 000")
        idle.append(caller)

    async def _has_a_twin(self) -> None:
        """Send two events with identical bodies at the same time."""
        body = self._event("both")
        pair = Caller(self._port), Caller(self._port)
        for code in await asyncio.gather(*(caller.post(body) for caller in pair)):
            self._judge("twins", code, "000")
        for caller in pair:
            caller.close()

    async def _trickles(self) -> None:
        """Send a request slowly, but in time."""
        whole = request("/callback", self._event("plain"))
        pieces = [whole[at : at + 60] for at in range(0, len(whole), 60)]
        await self._once("slow body", pieces, "000", pause=RECEIVE / 4 / len(pieces))

    # Other callers.

    async def _hangs_up(self) -> None:
        after = random.choice((0.0, 0.01, 0.1))
        sent = request("/callback", self._event(random.choice(("both", "flaps", "queues"))))
        got = await Caller(self._port).hang_up(sent, after=after)
        self._judge("hang-up", got, "gone")
        half = sent[: len(sent) // 2]
        self._judge("half", await Caller(self._port).hang_up(half, after=after), "gone")

    async def _is_too_slow(self) -> None:
        """Send half of a request, and then nothing."""
        sent = request("/callback", self._event("plain"))
        await self._once("too slow", [sent[:-20]], "408")

    async def _says_too_much(self) -> None:
        large = event("plain", "x" * MAX_BODY)
        await self._once("oversize", [request("/callback", large)], "413")
        head = b"POST /callback HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = [b"%x\r\n" % 16384 + b" " * 16384 + b"\r\n"] * (MAX_BODY // 16384 + 1)
        await self._once("oversize", [head, *chunks, b"0\r\n\r\n"], "413")

    async def _is_invalid(self) -> None:
        # All of them each time: jsonschema, 4 MB, is loaded for the first one, which must not look
        # like growth in a later round.
        for body in (b"", b"{", b"[]", b'{"event_source":""}', b'{"a":NaN}', b"\xff"):
            await self._once("invalid", [request("/callback", body)], "400")

    async def _matches_nothing(self) -> None:
        await self._once("unmatched", [request("/callback", self._event("nowhere"))], "500")

    async def _speaks_no_http(self) -> None:
        twice = request("/callback", b"{}", b"transfer-encoding: chunked")
        sent = random.choice((b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", twice))
        await self._once("wrong HTTP", [sent], "400")
        await self._once("wrong path", [request("/nowhere", b"{}")], "404")

    async def _comes_and_goes(self) -> None:
        """Open connections without sending anything."""
        for _ in range(20):
            self._judge("silent", await Caller(self._port).hang_up(after=0.0), "gone")

    async def _asks_ops(self) -> None:
        for port, path in (
            (self._port, "/readyz"),
            (self._ops_port, "/metrics"),
            (self._ops_port, "/status"),
        ):
            self._judge("probes", await status(port, path), "200")

    async def _once(self, kind: str, pieces: list[bytes], right: str, pause: float = 0.0) -> None:
        caller = Caller(self._port)
        self._judge(kind, await caller.say(*pieces, pause=pause), right)
        caller.close()

    # The configuration.

    async def _edits(self) -> None:
        """Add a guest, make a wrong edit, remove the guest; some edits are followed by SIGHUP."""
        self._configuration.write(guest=True, spare=200, in_flight=32)
        hang_up(self._pid)
        await self._until("guest", "000")
        self._configuration.spoil()
        hang_up(self._pid)
        await self._until("guest", "000")
        self._configuration.write()
        await self._until("guest", "500")

    async def _until(self, kind: str, right: str) -> None:
        """Send events of a kind until a reply is right."""
        caller = Caller(self._port)
        for _ in range(100):
            code = await caller.post(self._event(kind))
            if code == right or not self._judge("reload", code, "000", "500"):
                break
            await asyncio.sleep(0.1)
        self._judge("reload", code, right)
        caller.close()


async def status(port: int, path: str) -> str:
    """Return the HTTP status of a GET, as text."""
    return (await get(port, path))[0]


async def get(port: int, path: str) -> tuple[str, bytes]:
    """Return the HTTP status of a GET, as text, and the body, or the error in brackets."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return f"({type(error).__name__})", b""
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except OSError as error:
        return f"({type(error).__name__})", b""
    finally:
        writer.close()
    return head[9:12].decode("latin-1"), body


async def _repeat(over: asyncio.Event, deed: Callable[[], Awaitable[None]], pause: float) -> None:
    while not over.is_set():
        await deed()
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
