"""Where connections go: look-ups, the addresses they find, and the one place to refuse one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from router.model import Reason
from router.transport import Answer, Failure, addresses
from router.transport.native import NativePool
from tests.engines import LONG, opened, post, until
from tests.hostile import hostile, never_accepts

# The standard library's loop, whose look-ups are Python's own; uvloop's are not.
pytestmark = pytest.mark.anyio


class Resolver:
    """The system's resolver: what it finds, in that order, and how often it was asked."""

    def __init__(self) -> None:
        self.found = ["127.0.0.1"]
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def getaddrinfo(self, _: Any, port: int, *__: Any, **___: Any) -> list[Any]:
        self.asked += 1
        self.answers.wait(LONG)
        if not self.found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.found
        ]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
        yield resolver


def url(port: int) -> str:
    return f"http://ledger.example:{port}/"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_is_not_looked_up(resolver: Resolver, host: str) -> None:
    """A target that is named by its address is reached while no name's look-up comes to an end."""
    resolver.answers.clear()
    async with opened(NativePool, f"http://{host}:9/") as pool:
        came = await post(pool)
    assert isinstance(came, Failure)
    assert came.reason in (Reason.CONNECT_REFUSED, Reason.UNREACHABLE)
    assert resolver.asked == 0


async def test_a_burst_asks_once(resolver: Resolver) -> None:
    """Many connections at once, and those soon after, take one look-up."""
    async with hostile("says_close") as target, opened(NativePool, url(target.port)) as pool:
        for _ in range(2):
            came = await asyncio.gather(*(post(pool) for _ in range(4)))
            assert all(isinstance(each, Answer) for each in came)
    assert (resolver.asked, target.accepted) == (1, 8)


async def test_addresses_do_not_last(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is made when the last look-up is older than TTL takes a new one."""
    monkeypatch.setattr(addresses, "TTL", 0.0)
    async with hostile("says_close") as target, opened(NativePool, url(target.port)) as pool:
        for _ in range(3):
            assert isinstance(await post(pool), Answer)
    assert resolver.asked == 3


async def test_a_failed_look_up_is_not_kept(resolver: Resolver) -> None:
    """A name without an address is `dns`, and reached as soon as it has one."""
    async with hostile("answers") as target, opened(NativePool, url(target.port)) as pool:
        resolver.found = []
        assert await post(pool) == Failure(
            Reason.DNS, delivered=False, detail="Name or service not known"
        )
        resolver.found = ["127.0.0.1"]
        assert isinstance(await post(pool), Answer)


async def test_who_gives_up_does_not_end_the_look_up_of_others(resolver: Resolver) -> None:
    """Of two posts that wait for one look-up, one is cancelled, and the other is answered."""
    resolver.answers.clear()
    async with hostile("answers") as target, opened(NativePool, url(target.port)) as pool:
        first, second = (asyncio.create_task(post(pool)) for _ in range(2))
        await until(lambda: resolver.asked == 1)
        first.cancel()
        await asyncio.wait([first])
        resolver.answers.set()
        assert isinstance(await second, Answer)
    assert resolver.asked == 1


async def test_a_hanging_look_up_has_the_attempts_timeout(resolver: Resolver) -> None:
    """An attempt whose name is not answered for ends in time, and so does its pool."""
    resolver.answers.clear()
    async with opened(NativePool, url(9)) as pool:
        came = await post(pool, 0.1)
        posting = asyncio.create_task(post(pool))
        await asyncio.sleep(0)
    assert came == Failure(Reason.CONNECT_TIMEOUT, delivered=False)
    assert await posting == Failure(Reason.STOPPED, delivered=False)
    resolver.answers.set()


async def test_every_address_has_its_turn(resolver: Resolver) -> None:
    """Where the first address refuses and the second hangs, the third is used, and used again."""
    asked: list[str] = []

    def allowed(address: str) -> bool:
        asked.append(address)
        return True

    resolver.found = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    async with hostile("says_close") as target:
        with never_accepts("127.0.0.3", target.port):
            pool = NativePool(url(target.port), allowed=allowed)
            assert isinstance(await post(pool, 1.0), Answer)
            assert isinstance(await post(pool, 1.0), Answer)
            await pool.close()
    assert asked == ["127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_address_can_be_refused(resolver: Resolver, scheme: str) -> None:
    """What is not allowed is not connected to, whatever the name it was found by."""
    resolver.found = ["127.0.0.1", "127.0.0.2"]
    async with hostile("answers") as target:
        for name in ("ledger.example", "127.0.0.1"):
            refusing = NativePool(f"{scheme}://{name}:{target.port}/", allowed=lambda _: False)
            came = await post(refusing)
            assert came == Failure(Reason.UNREACHABLE, delivered=False, detail="Permission denied")
            await refusing.close()
    assert target.accepted == 0
