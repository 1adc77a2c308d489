"""EBaaS as it calls the router: its schedule, its timeouts, and the proxies in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from time import time
from urllib.parse import urlsplit

from tests.chaos.history import History, Request, Source
from tests.chaos.plan import Manner, Plan
from tests.chaos.process import Router
from tests.support.sockets import reset

#: How long a caller waits for its reply, and a proxy for one that nobody waits for, in seconds.
CALLER_TIMEOUT, PROXY_TIMEOUT = 20.0, 20.0


class Callers:
    def __init__(self, plan: Plan, history: History, routers: Sequence[Router]) -> None:
        self._plan = plan
        self._history = history
        self._routers = routers
        self._proxies: set[asyncio.Task[None]] = set()
        #: From now on every caller waits for its reply.
        self.calm = False

    async def call(self, number: int, body: int) -> Source:
        """Send one event by the schedule, until it has its `000` or is given up."""
        source = Source(number, body)
        self._history.sources.append(source)
        schedule = self._plan.times.ebaas
        for made in range(1 + schedule.retries):
            request = await self._request(source, made + 1)
            wait = schedule.wait(made)
            done = request.code == "000" and not request.left
            if done or wait is None or self._forgets(request):
                break
            await asyncio.sleep(wait)
        return source

    async def settled(self) -> None:
        if self._proxies:
            await asyncio.wait(self._proxies)

    def _forgets(self, request: Request) -> bool:
        return not self.calm and self._plan.forgets(request.source.number, request.number)

    async def _request(self, source: Source, number: int) -> Request:
        manner, seconds = self._plan.manner(source.number, number)
        if self.calm:
            manner = Manner.WAITS
        request = Request(source, number, manner, time())
        source.requests.append(request)
        router = self._balance(request)
        try:
            if router is not None and router.url is not None:
                request.node = router.node
                await self._exchange(request, router.url, seconds)
        except (OSError, EOFError):
            request.reached = request.reached and request.manner is not Manner.CUTS
        finally:
            request.ended = request.ended or time()
        return request

    def _balance(self, request: Request) -> Router | None:
        up = [router for router in self._routers if router.url is not None]
        return self._plan.random("balance", request.name).choice(up) if up else None

    async def _exchange(self, request: Request, url: str, seconds: float) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        keeps = self._plan.keeps(request.source.number, request.number)
        message = _message(request, parts.path, "keep-alive" if keeps else "close")
        if request.manner is Manner.CUTS:
            writer.write(message[:-20])
            await asyncio.sleep(seconds)
            writer.close()
            return
        request.reached = True
        writer.write(message)
        if request.manner is Manner.BEHIND_PROXY:
            proxy = asyncio.create_task(self._stand_in(request, reader, writer))
            self._proxies.add(proxy)
            proxy.add_done_callback(self._proxies.discard)
            await asyncio.wait({proxy}, timeout=seconds)
            request.left = not proxy.done()
            return
        patience = CALLER_TIMEOUT if request.manner is Manner.WAITS else seconds
        try:
            async with asyncio.timeout(patience):
                request.code = await _reply(reader)
        except TimeoutError:
            request.left = True
            if request.manner is Manner.RESETS:
                reset(writer)
        finally:
            writer.close()

    async def _stand_in(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read the reply, whether its caller still waits or not."""
        with suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(PROXY_TIMEOUT):
                request.code = await _reply(reader)
        request.ended = time()
        writer.close()


def body_of(number: int) -> bytes:
    """Return the body of that event: the same for all of its requests."""
    fields = {"event_source": "a", "event_topic": "gs", "event_type": "cert", "event_status": "1"}
    return json.dumps({**fields, "changes": [str(number)]}).encode()


def _message(request: Request, path: str, connection: str) -> bytes:
    body = body_of(request.source.body)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: router\r\nx-request-id: {request.name}\r\n"
        f"content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
    )
    return head.encode() + body


async def _reply(reader: asyncio.StreamReader) -> str:
    """Return the code of a whole reply. Raises EOFError if the connection ends before one."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return str(json.loads(await reader.readexactly(int(length)))["code"])
