"""Very many exchanges leave nothing.

EXCHANGES=100000 is the long form; it needs pytest's `-o faulthandler_timeout=0`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from router.transport.engine import Answer, Failure, Pool
from router.transport.native import NativePool, TargetConnection
from tests.support.engines import begun, certified, opened, post, trusting
from tests.support.hostile import BEHAVIOURS, hostile
from tests.support.loops import LOOPS, on
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

EXCHANGES = int(os.environ.get("EXCHANGES", "1000"))

#: How many run at once.
CROWD = 32

#: Behaviours without parameters.
TARGETS = sorted(BEHAVIOURS.keys() - {"says", "says_more", "wants_certificate"})


anyio_backend = on(LOOPS)


async def test_many_exchanges_with_faults_leave_nothing() -> None:
    """No socket, task or connection more than before."""
    dice = random.Random(6)
    async with hostile("answers") as target, opened(NativePool, target.url) as pool:
        await post(pool)  # what is made once for all stays
    # A file of an earlier test may still be open, and close meanwhile.
    files, tasks = open_files(), asyncio.all_tasks()
    async with pools() as met:
        left = iter(range(EXCHANGES))
        ended = await asyncio.gather(*(visitor(met, dice, left) for _ in range(CROWD)))
    await until(lambda: open_files() <= files and asyncio.all_tasks() <= tasks)
    await until(lambda: connections() == 0)
    assert sum(ended) > EXCHANGES / 3


@pytest.mark.parametrize(
    "behaviour", ["answers", "closes_after", "resets_after", "goes_beyond", "says_close"]
)
async def test_a_connection_that_is_over_is_no_cycle(no_collections: None, behaviour: str) -> None:
    """Nothing is left for the garbage collector."""
    async with hostile(behaviour) as target, opened(NativePool, target.url) as pool:
        for _ in range(3):
            await post(pool)
    await until(lambda: live_connections() == 0)


@asynccontextmanager
async def pools() -> AsyncIterator[Mapping[str, Pool]]:
    """Open a pool for each target, some over TLS, one for nobody, and one by a name."""
    async with AsyncExitStack() as stack:
        urls: dict[str, str] = {}
        for name in TARGETS:
            tls = certified() if len(urls) % 3 == 0 else None
            urls[name] = (await stack.enter_async_context(hostile(name, tls=tls))).url
        urls["refuses"] = (await stack.enter_async_context(hostile("refuses"))).url
        urls["no TLS"] = urls["says_nothing"].replace("http:", "https:")
        urls["by name"] = urls["answers"].replace("127.0.0.1", "localhost")
        yield {
            name: await stack.enter_async_context(opened(NativePool, url, trusting()))
            for name, url in urls.items()
        }


async def visitor(met: Mapping[str, Pool], dice: random.Random, left: Iterator[int]) -> int:
    """Post to one target after another, and cancel some; return how many were not cancelled."""
    ended = 0
    for _ in left:
        pool = met[dice.choice(sorted(met))]
        posting = begun(pool, dice.choice((0.001, 0.01, 0.05, 0.3)))
        if dice.random() < 0.3:
            for _ in range(dice.randrange(20)):
                await asyncio.sleep(0)
            posting.cancel()
        await until(partial(getattr, posting, "is_over"))
        if posting.error is None:
            assert isinstance(posting.result(), Answer | Failure)
            ended += 1
    return ended


def connections() -> int:
    """Count the connections in memory, without garbage."""
    gc.collect()
    return live_connections()


def live_connections() -> int:
    return sum(isinstance(thing, TargetConnection) for thing in gc.get_objects())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
