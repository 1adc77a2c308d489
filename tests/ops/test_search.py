"""Searches, each a process of its own with bounds in time and number; and questions to the
store."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.ops import searching as module
from router.ops.api.view import Stored
from router.ops.problems import Rejected
from router.ops.searching import SEARCHES, Search
from router.store.protocol import StoreLimits
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from router.telemetry.log import Log
from tests.support.house import PATIENCE
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def work(name: str = "x") -> Any:
    """Return a search that the commands of these tests do not run."""
    return partial(str, name)


#: Writes its id to a file with the name of the search, and stays.
STAYS = """
import os, pathlib, pickle, sys, time
pathlib.Path(sys.argv[1], pickle.load(sys.stdin.buffer)[0].args[0]).write_text(str(os.getpid()))
time.sleep(60)
"""

#: Fails if there are too many others.
COUNTS = """
import os, pathlib, sys, time
own = pathlib.Path(sys.argv[1], str(os.getpid()))
own.touch()
others = len(os.listdir(sys.argv[1]))
time.sleep(0.05)
own.unlink()
sys.exit(0 if others <= int(sys.argv[2]) and not print("{}") else "too many")
"""


def search(code: str, *arguments: str) -> tuple[Search, io.StringIO]:
    stream = io.StringIO()
    return Search([sys.executable, "-c", code, *arguments], Log(stream, "json")), stream


async def test_a_slow_search_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem suggests another question, and no process is left."""
    monkeypatch.setattr(module, "SEARCH_TIMEOUT", 1.0)
    slow, _ = search(STAYS, str(tmp_path))
    with pytest.raises(Rejected, match="add since") as caught:
        await slow.run(work())
    assert caught.value.status == 503
    if (begun := tmp_path / "x").exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(begun.read_text()), 0)


async def test_a_team_leaves_searches_for_others(tmp_path: Path) -> None:
    """However many of its own are under way."""
    slow, _ = search(STAYS, str(tmp_path))
    own = [asyncio.create_task(slow.run(work(), "team ledger")) for _ in range(2 * SEARCHES)]
    await asyncio.sleep(0)
    other = asyncio.create_task(slow.run(work("others"), "team audit"))
    await until((tmp_path / "others").exists)
    for each in (*own, other):
        each.cancel()
    await asyncio.wait([*own, other])


async def test_few_searches_run_at_a_time(tmp_path: Path) -> None:
    """The others wait."""
    counting, stream = search(COUNTS, str(tmp_path), str(SEARCHES))
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*(counting.run(work()) for _ in range(3 * SEARCHES)))
    assert (len(found), stream.getvalue()) == (3 * SEARCHES, "")


async def test_a_search_that_fails_is_logged() -> None:
    """With its last line, which the problem does not have."""
    broken, stream = search("import sys; sys.exit('no such archive')")
    with pytest.raises(Rejected, match="the search failed"):
        await broken.run(work())
    (line,) = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (line["happening"], line["why"]) == ("search_failed", "no such archive")


async def test_the_store_gets_one_question_at_a_time(tmp_path: Path) -> None:
    """Cancelling a question interrupts the store, which must then be busy with that question."""
    path, limits = tmp_path / "store.db", StoreLimits(1 << 30)
    store = await SqliteStore.open(path, limits)
    stored = Stored(lambda: SqliteAdmin.open(path, limits), Log(io.StringIO()))

    async def ask() -> None:
        async with stored.question() as admin:
            await admin.actions(1)

    async with stored.question():
        second = asyncio.create_task(ask())
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
    await second
    await stored.aclose()
    await store.close()
