"""The plans of the PostgreSQL store's calls beside a million events: all go by an index."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from router.model.event import Attempt, Event, OutboundEvent, Reason
from router.store.postgres.store import PostgresStore
from router.store.protocol import Stage, Tried
from router.store.url import parse_database
from tests.store.records import (
    LIMITS,
    NOW,
    T,
    acknowledged,
    add,
    awaiting,
    letter,
    queued,
    settlement,
    using,
)
from tests.support.effort import LONG
from tests.support.postgres import Database, Server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not LONG, reason="takes a minute: make postgresql"),
]

ROWS, STEP = 1_000_000, 100_000

#: Some bodies came twice; of targets and states there are as many as on a bad day.
_FILL = """
SET session_replication_role = replica; SET search_path = ebaas_router;
INSERT INTO events (
    seq, event_id, digest, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent, expires_at, size
) OVERRIDING SYSTEM VALUE
SELECT n, 'filled-' || n, sha256(int4send(n / 2)),
    CASE n % 4 WHEN 0 THEN 'open' WHEN 1 THEN 'closed' ELSE 'ended' END,
    {now} - n, 1, {now}, {now}, {now}, {now} + n, false,
    CASE WHEN n % 4 = 2 THEN {now} + n END, 1200
FROM generate_series({first}, {last}) AS n;
INSERT INTO letters
SELECT n, 'r', '', 'a', 'b', 'c', '1', 'a.b.c.1', '{{}}' FROM generate_series({first}, {last}) AS n;
INSERT INTO deliveries (seq, target, state, reason, due_at, retries, changed_at, size, ends_at)
SELECT n, 't' || n % 20,
    CASE n % 4 WHEN 0 THEN 'awaiting' WHEN 1 THEN 'queued' ELSE 'dead' END,
    'timeout', {now} + n, n % 7, {now}, 1200, CASE n % 4 WHEN 0 THEN {now} + n END
FROM generate_series({first}, {last}) AS n;
SELECT setval('events_seq_seq', {last});
"""

#: The tables that a plan may read whole have one row, or a few for each target.
_SCAN = re.compile(r"Seq Scan on (?!credit|events_seq_seq|notices|pauses)(\w+)")

#: The rows that a step of a plan has returned, or read in vain.
_TOUCHED = re.compile(r"actual time=\S+ rows=([0-9]+)|Statements Removed by \w+: ([0-9]+)")


def fill(database: Database) -> None:
    for first in range(1_000, ROWS, STEP):
        database.rows(_FILL.format(now=NOW, first=first, last=first + STEP - 1))


@pytest.fixture(scope="module")
def explaining(postgresql: Server) -> Iterator[Database]:
    """A database with a million events, whose log has every plan."""
    with (
        postgresql.configured(
            session_preload_libraries="auto_explain",
            **{
                "auto_explain.log_min_duration": "0",
                "auto_explain.log_nested_statements": "on",
                "auto_explain.log_analyze": "on",
                "max_wal_size": "1GB",
            },
        ),
        postgresql.database() as database,
    ):
        yield database


@pytest.fixture(params=["never analysed", "analysed"])
async def full(
    explaining: Database, request: pytest.FixtureRequest
) -> AsyncIterator[PostgresStore]:
    """A store whose functions have made their plans while it was empty, or with statistics."""
    async with using(PostgresStore.open(parse_database(explaining.dsn), LIMITS)) as store:
        if request.param == "never analysed":
            await everything(store)
            fill(explaining)
        else:
            explaining.rows("ANALYZE")
        yield store


async def everything(store: PostgresStore) -> None:
    """Make each call once, on an event of its own and on the others."""
    body = os.urandom(16)
    await store.find(letter(body).digest, T)
    opened = await add(store, awaiting("one"), queued("t1"), body=body)
    other = await add(store, awaiting("one"), body=body)
    event = Event("a", "b", "c", "1", "k", body)
    digest = OutboundEvent(event, letter(body).digest, "", "").digest
    tried = Tried(Attempt(Reason.CODE, True, 0.1, 200, at=NOW), 2)
    await store.settle(settlement(opened, replace(awaiting("one"), tried=tried), requests=2), T)
    await store.missed(opened.event_id, "t1", tried, NOW, T)
    closing = settlement(opened, acknowledged("one"), stage=Stage.CLOSED)
    await store.settle(type(closing)(closing.record, closing.rows, digest, ["one"], NOW), T)
    await store.supersede([other.event_id], ["one"], NOW, T)
    await store.acknowledge(other.event_id, "one", NOW, T)
    await store.revoke_all_credit(T)
    await store.queue(T)
    for due in await store.lease("t1", NOW + 100, NOW + 100, 8, T):
        await store.finish(due, due.row, NOW, T)
    await store.end(NOW + 100, 10, T)
    await store.prune(NOW + 100, 10, T)
    await store.usage(T)
    await store.pauses(T)
    await store._pool.call("fence", [["late"], NOW, store._limits_json], T)


async def test_every_plan_goes_by_an_index(
    postgresql: Server, explaining: Database, full: PostgresStore
) -> None:
    """With any statistics at the time of the plan; and it touches few rows."""
    before = len(postgresql.log)
    await everything(full)
    plans = postgresql.log[before:]
    assert "events_by_body" in plans
    assert not _SCAN.findall(plans)
    touched = [int(given or looked_at) for given, looked_at in _TOUCHED.findall(plans)]
    assert len(touched) > 100
    assert max(touched) < 1000
