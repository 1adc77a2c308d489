"""Connections to addresses: look-ups, the order of addresses, and refused ones."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.model.event import Reason
from router.net.egress import Egress, SocketAddress
from router.transport import addresses as names
from router.transport.engine import Answer, Failure
from tests.support.engines import LONG, SHORT, Engine, begun, opened, post
from tests.support.hostile import hostile, never_accepts
from tests.support.loops import BOTH, on
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


anyio_backend = on(BOTH)


_getaddrinfo = socket.getaddrinfo


class Resolver:
    """The system's resolver. It does not answer for `hangs.example` before the end."""

    def __init__(self) -> None:
        self.found = ["127.0.0.1"]
        #: Its error, if not 0.
        self.error = 0
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.is_over = threading.Event()

    def getaddrinfo(self, name: Any, port: int, flags: int = 0, **how: Any) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:  # a conversion, not a look-up
            return _getaddrinfo(name, port, flags=flags, **how)
        self.asked += 1
        (self.is_over if name == b"hangs.example" else self.answers).wait(LONG)
        if self.error or not self.found:
            error = self.error or socket.EAI_NONAME
            raise socket.gaierror(error, "Name or service not known")
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
        resolver.is_over.set()


def url(port: int) -> str:
    return f"http://ledger.example:{port}/"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_is_not_looked_up(engine: Engine, resolver: Resolver, host: str) -> None:
    """A target with a literal address is reached while all look-ups hang."""
    resolver.answers.clear()
    async with opened(engine, f"http://{host}:9/") as pool:
        result = await post(pool)
    assert isinstance(result, Failure)
    assert result.reason in (Reason.CONNECT_REFUSED, Reason.UNREACHABLE)
    assert resolver.asked == 0


@pytest.mark.parametrize(
    "host", ["0xa9fea9fe", "2852039166", "169.254.43518", "[::ffff:a9fe:a9fe]", "ledger.example"]
)
async def test_no_notation_leads_to_a_forbidden_address(
    engine: Engine, resolver: Resolver, host: str
) -> None:
    """However the address is written, or found, it is the one that is checked."""
    resolver.found = ["169.254.169.254"]
    async with opened(engine, f"http://{host}:9/") as pool:
        assert await post(pool) == Failure(
            Reason.FORBIDDEN, delivered=False, detail="a cloud metadata address"
        )


async def test_names_that_hang_delay_no_other(engine: Engine, resolver: Resolver) -> None:
    """Each look-up has a thread of its own."""
    async with AsyncExitStack() as stack:
        for _ in range(40):
            pool = await stack.enter_async_context(opened(engine, "http://hangs.example:9/"))
            begun(pool)
        await until(lambda: resolver.asked == 40)
        target = await stack.enter_async_context(hostile("answers"))
        pool = await stack.enter_async_context(opened(engine, url(target.port)))
        assert isinstance(await post(pool), Answer)
        assert not resolver.is_over.is_set()


async def test_a_burst_asks_once(engine: Engine, resolver: Resolver) -> None:
    """Many connections at once, and those soon after, take one look-up."""
    async with hostile("says_close") as target, opened(engine, url(target.port)) as pool:
        for _ in range(2):
            result = await asyncio.gather(*(post(pool) for _ in range(4)))
            assert all(isinstance(each, Answer) for each in result)
    assert (resolver.asked, target.accepted) == (1, 8)


async def test_addresses_do_not_last(
    engine: Engine, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are looked up and checked again after TTL; one that has gone has no address."""
    monkeypatch.setattr(names, "TTL", 0.0)
    async with hostile("says_close") as target, opened(engine, url(target.port)) as pool:
        for _ in range(3):
            assert isinstance(await post(pool), Answer)
        assert resolver.asked == 3
        for resolver.found, reason in ((["169.254.169.254"], Reason.FORBIDDEN), ([], Reason.DNS)):
            for _ in range(2):
                result = await post(pool)
                assert isinstance(result, Failure)
                assert result.reason is reason


async def test_a_failed_look_up_is_not_kept(engine: Engine, resolver: Resolver) -> None:
    """A name without an address is `dns`, and is reached as soon as it has one."""
    async with hostile("answers") as target, opened(engine, url(target.port)) as pool:
        resolver.found = []
        assert await post(pool) == Failure(
            Reason.DNS, delivered=False, detail="Name or service not known"
        )
        resolver.found = ["127.0.0.1"]
        assert isinstance(await post(pool), Answer)


async def test_a_cancelled_post_does_not_end_the_look_up_of_others(
    engine: Engine, resolver: Resolver
) -> None:
    """If one of two posts that wait for the same look-up is cancelled, the other is answered."""
    resolver.answers.clear()
    async with hostile("answers") as target, opened(engine, url(target.port)) as pool:
        first, second = (asyncio.create_task(post(pool)) for _ in range(2))
        await until(lambda: resolver.asked == 1)
        first.cancel()
        await asyncio.wait([first])
        resolver.answers.set()
        assert isinstance(await second, Answer)
    assert resolver.asked == 1


async def test_a_hanging_look_up_has_the_attempts_timeout(
    engine: Engine, resolver: Resolver
) -> None:
    """The attempt is `dns` in time, and the pool closes in time."""
    resolver.answers.clear()
    async with opened(engine, url(9)) as pool:
        result = await post(pool, 0.1)
        posting = asyncio.create_task(post(pool))
        await asyncio.sleep(0)
    assert result == Failure(Reason.DNS, delivered=False, detail="no answer in time")
    assert await posting == Failure(Reason.STOPPED, delivered=False)
    assert resolver.asked == 1
    resolver.answers.set()


async def test_a_name_outlives_its_resolver(
    engine: Engine, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the resolver hangs or fails, its last addresses are still used, but not for ever."""
    monkeypatch.setattr(names, "TTL", 0.0)
    monkeypatch.setattr(names, "RESOLVER_WAIT", 0.05)
    async with hostile("says_close") as target, opened(engine, url(target.port)) as pool:
        assert isinstance(await post(pool), Answer)
        for resolver.error in (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM):
            for _ in range(2):
                assert isinstance(await post(pool), Answer)
        resolver.answers.clear()
        assert isinstance(await post(pool), Answer)
        monkeypatch.setattr(names, "STALE", 0.0)
        assert await post(pool, SHORT) == Failure(
            Reason.DNS, delivered=False, detail="no answer in time"
        )
        resolver.answers.set()


async def test_every_address_has_its_turn(engine: Engine, resolver: Resolver) -> None:
    """If the first address refuses and the second hangs, the third is used, and used again."""
    resolver.found = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    async with hostile("says_close") as target:
        with never_accepts("127.0.0.3", target.port):
            async with opened(engine, url(target.port)) as pool:
                assert isinstance(await post(pool, 1.0), Answer)
                resolver.found.reverse()
                assert isinstance(await post(pool, 1.0), Answer)
    assert target.accepted == 2


async def test_an_outage_does_not_change_which_address_is_tried_first(resolver: Resolver) -> None:
    """The address of the last connection comes first, and not the last address that has failed."""
    resolver.found = ["127.0.0.2", "127.0.0.1"]
    tried: list[object] = []
    refusing = {"127.0.0.2"}

    async def connect(address: SocketAddress) -> None:
        tried.append(address[4][0])
        if address[4][0] in refusing:
            raise ConnectionRefusedError

    host = names.Host("ledger.example", 9)
    deadline = asyncio.get_running_loop().time() + LONG
    await host.reach(connect, deadline)
    refusing.add("127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        await host.reach(connect, deadline)
    refusing.clear()
    await host.reach(connect, deadline)
    assert tried == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1"]


async def test_of_several_failures_the_most_telling_counts(resolver: Resolver) -> None:
    """If one address is forbidden, one unreachable, and another refuses, the host refuses."""
    errors = {
        "127.0.0.1": OSError(errno.ENETUNREACH, ""),
        "127.0.0.2": TimeoutError(),
        "127.0.0.3": ConnectionRefusedError(errno.ECONNREFUSED, ""),
    }

    async def connect(address: SocketAddress) -> None:
        raise errors[str(address[4][0])]

    causes = []
    for count in (3, 2, 1):
        resolver.found = ["169.254.169.254", *list(errors)[:count]]
        with pytest.raises(OSError) as caught:  # noqa: PT011 - any
            await names.Host("ledger.example", 9).reach(connect, LONG)
        causes.append(names.connect_cause(caught.value)[0])
    assert causes == [Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.FORBIDDEN]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_address_can_be_refused(engine: Engine, resolver: Resolver, scheme: str) -> None:
    """Addresses outside of egress are not connected to, whatever the name."""
    resolver.found = ["127.0.0.1", "127.0.0.2"]
    async with hostile("answers") as target:
        for name in ("ledger.example", "127.0.0.1"):
            where = f"{scheme}://{name}:{target.port}/"
            async with opened(engine, where, egress=Egress(public=True)) as pool:
                result = await post(pool)
            assert result == Failure(Reason.FORBIDDEN, delivered=False, detail="no public address")
    assert target.accepted == 0


async def test_of_several_addresses_those_allowed_are_used(
    engine: Engine, resolver: Resolver
) -> None:
    """A name with both kinds of addresses is reached by an allowed one."""
    resolver.found = ["169.254.169.254", "127.0.0.1", "0.0.0.0"]
    async with hostile("answers") as target, opened(engine, url(target.port)) as pool:
        assert isinstance(await post(pool), Answer)
    assert target.accepted == 1
