"""Searches as processes of their own: bounded in time, in number, and in what they may break."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from router.ops.api import parts as module
from router.ops.api.parts import SEARCHES, Search
from router.ops.problems import Rejected
from router.ops.searching import SearchedFor
from router.telemetry.log import Log
from tests.support.house import PATIENCE
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ASKED = SearchedFor(
    what=["x"], targets=[], seen=[], codes=[], since=None, until=None, failed=False, limit=1,
    body=False,
)  # fmt: skip

#: Says who it is, and stays.
STAYS = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
time.sleep(60)
"""


#: Says what it was asked for, and stays.
STAYS_NAMED = """
import json, pathlib, sys, time
pathlib.Path(sys.argv[1], json.load(sys.stdin)["what"][0]).touch()
time.sleep(60)
"""


def search(code: str, *arguments: str) -> tuple[Search, io.StringIO]:
    stream = io.StringIO()
    return Search([sys.executable, "-c", code, *arguments], Log(stream, "json")), stream


async def test_what_is_asked_is_answered() -> None:
    """The question goes in as JSON, the answer comes out so."""
    echo, _ = search("import json, sys; json.dump({'asked': json.load(sys.stdin)}, sys.stdout)")
    found: Any = await echo.run(ASKED)
    assert found == {"asked": ASKED}


async def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told what to ask instead."""
    monkeypatch.setattr(module, "SEARCH_TIMEOUT", 0.05)
    slow, _ = search("import time; time.sleep(60)")
    with pytest.raises(Rejected, match="add since") as caught:
        await slow.run(ASKED)
    assert caught.value.status == 503


async def test_a_team_keeps_no_other_from_searching(tmp_path: Path) -> None:
    """However many of its own are under way."""
    slow, _ = search(STAYS_NAMED, str(tmp_path))
    own = [asyncio.create_task(slow.run(ASKED, "team ledger")) for _ in range(2 * SEARCHES)]
    await asyncio.sleep(0)
    other = asyncio.create_task(slow.run({**ASKED, "what": ["others"]}, "team audit"))
    await until((tmp_path / "others").exists)
    for each in (*own, other):
        each.cancel()
    await asyncio.wait([*own, other])


async def test_one_that_is_given_up_is_ended(tmp_path: Path) -> None:
    """No process is left of it."""
    slow, _ = search(STAYS, str(tmp_path))
    running = asyncio.create_task(slow.run(ASKED))
    begun = await until(lambda: list(tmp_path.iterdir()))
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun[0].name), 0)


#: Fails where too many others are there.
COUNTS = """
import os, pathlib, sys, time
own = pathlib.Path(sys.argv[1], str(os.getpid()))
own.touch()
others = len(os.listdir(sys.argv[1]))
time.sleep(0.05)
own.unlink()
sys.exit(0 if others <= int(sys.argv[2]) and not print("{}") else "too many")
"""


async def test_few_run_at_a_time(tmp_path: Path) -> None:
    """The others wait for their turn."""
    counting, stream = search(COUNTS, str(tmp_path), str(SEARCHES))
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*(counting.run(ASKED) for _ in range(3 * SEARCHES)))
    assert (len(found), stream.getvalue()) == (3 * SEARCHES, "")


async def test_one_that_fails_is_told_in_the_log() -> None:
    """Whoever asked is told that it has failed, and not how; the log has its last word."""
    broken, stream = search("import sys; sys.exit('no such archive')")
    with pytest.raises(Rejected, match="the search failed"):
        await broken.run(ASKED)
    (line,) = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (line["happening"], line["why"]) == ("search_failed", "no such archive")
