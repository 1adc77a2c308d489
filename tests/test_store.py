"""What every store that remembers promises: one suite for all of them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.model import Event
from router.store import (
    DeliveryRow,
    Letter,
    Limits,
    Record,
    Settlement,
    Stage,
    State,
    Store,
    StoreFailed,
    StoreFull,
)
from router.store.none import NoStore
from router.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

LIMITS = Limits(max_bytes=64 * 1024 * 1024, max_rows=100_000, keep_settled=60.0, keep_dead=600.0)

#: More than any call here needs, in seconds.
T = 20.0

NOW = 1_000_000.0

_numbers = itertools.count()


@asynccontextmanager
async def sqlite(folder: Path, limits: Limits = LIMITS) -> AsyncIterator[Store]:
    store = await SqliteStore.open(folder / "store.db", limits)
    try:
        yield store
    finally:
        await store.close()


OPENERS: dict[str, Callable[..., Any]] = {"sqlite": sqlite}


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a store of one kind; opened twice in one folder, it is one store for two processes."""
    return OPENERS[request.param]


@pytest.fixture
async def store(opener: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Store]:
    async with opener(tmp_path) as opened:
        yield opened


def letter(body: bytes = b"{}", key: str = "a.b.c.1") -> Letter:
    event = Event("a", "b", "c", "1", key, body)
    return Letter(event, hashlib.sha256(body).digest(), "request", "trace")


def record(**fields: Any) -> Record:
    new = Record(
        event_id=f"event-{next(_numbers)}",
        stage=Stage.OPEN,
        first_at=NOW,
        requests=1,
        replied_at=NOW,
        due_at=NOW + 1,
        credit_until=NOW + 62,
        ends_at=NOW + 1000,
    )
    return replace(new, **fields)


def awaiting(target: str = "one") -> DeliveryRow:
    return DeliveryRow(target, State.AWAITING, "timeout")


def queued(target: str = "one", due_at: float = NOW) -> DeliveryRow:
    return DeliveryRow(target, State.QUEUED, "timeout", due_at)


def acknowledged(target: str = "one") -> DeliveryRow:
    return DeliveryRow(target, State.ACKNOWLEDGED, "acknowledged")


async def add(store: Store, *rows: DeliveryRow, body: bytes = b"{}", **fields: Any) -> Record:
    added = record(**fields)
    await store.add(added, letter(body), rows, T)
    return added


def settlement(of: Record, *rows: DeliveryRow, **fields: Any) -> Settlement:
    reached = [row.target for row in rows if row.state is State.ACKNOWLEDGED]
    digest = letter().digest
    return Settlement(replace(of, **fields), rows, digest, reached, NOW + 5)


async def found(store: Store, body: bytes = b"{}") -> dict[str, Record]:
    kept = await store.find(letter(body).digest, T)
    return {each.record.event_id: each.record for each in kept}


async def states(store: Store, of: Record, body: bytes = b"{}") -> dict[str, State]:
    for kept in await store.find(letter(body).digest, T):
        if kept.record.event_id == of.event_id:
            return {row.target: row.state for row in kept.rows}
    return {}


async def test_what_is_added_is_found_by_its_body_alone(store: Store) -> None:
    """A record comes back as it was written, with its rows; another body finds nothing."""
    added = await add(store, awaiting("one"), acknowledged("two"), queued("three", NOW + 9))
    (kept,) = await store.find(letter().digest, T)
    assert kept.record == added
    assert {row.target: row for row in kept.rows} == {
        "one": awaiting("one"),
        "two": acknowledged("two"),
        "three": queued("three", NOW + 9),
    }
    assert await store.find(letter(b"other").digest, T) == ()


async def test_open_records_are_found_first(store: Store) -> None:
    """However many closed events have the same body, an open one is not hidden by them."""
    for _ in range(40):
        await add(store, stage=Stage.CLOSED)
    opened = await add(store, awaiting())
    for _ in range(40):
        await add(store, stage=Stage.ENDED)
    kept = await store.find(letter().digest, T)
    assert kept[0].record == opened
    assert len(kept) < 60


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 7, b"x" * 1024 * 1024])
async def test_a_body_comes_back_byte_for_byte(store: Store, body: bytes) -> None:
    """Whatever the bytes, up to 1 MiB, and whatever the key, a NUL included."""
    key = "a.\x00.\U0001f600.'\"%"
    await store.add(record(), letter(body, key), [queued()], T)
    (due,) = await store.take("one", NOW, NOW + 60, 10, T)
    assert due.letter == letter(body, key)


async def test_a_settled_record_is_what_was_left(store: Store) -> None:
    """Settling writes the record and the rows given, and leaves the others as they are."""
    opened = await add(store, awaiting("one"), awaiting("two"), acknowledged("three"))
    left = settlement(opened, acknowledged("one"), requests=2, replied_at=NOW + 5)
    assert await store.settle(left, T)
    assert (await found(store))[opened.event_id] == left.record
    assert await states(store, opened) == {
        "one": State.ACKNOWLEDGED,
        "two": State.AWAITING,
        "three": State.ACKNOWLEDGED,
    }


@pytest.mark.parametrize("stage", [Stage.CLOSED, Stage.ENDED])
async def test_a_record_is_settled_while_it_is_open_only(store: Store, stage: Stage) -> None:
    """Of two requests that close one record, one is told that it has changed nothing."""
    opened = await add(store, awaiting())
    assert await store.settle(settlement(opened, acknowledged(), stage=stage), T)
    assert not await store.settle(settlement(opened, awaiting(), stage=Stage.CLOSED), T)
    assert (await found(store))[opened.event_id].stage is stage
    assert await states(store, opened) == {"one": State.ACKNOWLEDGED}


async def test_only_one_of_many_closes(opener: Callable[..., Any], tmp_path: Path) -> None:
    """Also when they come at once, from two processes."""
    async with opener(tmp_path) as one, opener(tmp_path) as two:
        opened = await add(one, awaiting())
        closing = settlement(opened, acknowledged(), stage=Stage.CLOSED)
        closes = [store.settle(closing, T) for store in (one, two) * 10]
        assert sum(await asyncio.gather(*closes)) == 1


async def test_acknowledged_stays_acknowledged(store: Store) -> None:
    """A late acknowledgement is not undone by a request that has not heard of it."""
    opened = await add(store, awaiting("one"), awaiting("two"))
    assert await store.acknowledge(opened.event_id, "one", NOW, T)
    assert await store.settle(settlement(opened, awaiting("one"), queued("two")), T)
    assert await states(store, opened) == {"one": State.ACKNOWLEDGED, "two": State.QUEUED}


@pytest.mark.parametrize("state", list(State))
async def test_any_delivery_can_be_acknowledged(store: Store, state: State) -> None:
    """Whatever has become of it meanwhile."""
    added = await add(store, DeliveryRow("one", state))
    assert await store.acknowledge(added.event_id, "one", NOW, T)
    assert await states(store, added) == {"one": State.ACKNOWLEDGED}
    assert not await store.acknowledge(added.event_id, "two", NOW, T)
    assert not await store.acknowledge("no event", "one", NOW, T)


async def test_closing_spends_the_other_records_of_the_body(store: Store) -> None:
    """And no record of another body."""
    one, two = await add(store, awaiting()), await add(store, awaiting())
    other = await add(store, awaiting(), body=b"other")
    assert await store.settle(settlement(one, acknowledged(), stage=Stage.CLOSED), T)
    records = await found(store)
    assert records[two.event_id].spent
    assert not records[one.event_id].spent
    assert not (await found(store, b"other"))[other.event_id].spent


async def test_failing_spends_nothing(store: Store) -> None:
    """A record that stays open takes nothing from the others."""
    one, two = await add(store, awaiting()), await add(store, awaiting())
    assert await store.settle(settlement(one, awaiting()), T)
    assert not (await found(store))[two.event_id].spent


async def test_spending_all_reaches_what_is_there(store: Store) -> None:
    """Every record of any body, and none that is added later; it can't be undone by settling."""
    before = await add(store, awaiting())
    await store.spend_all(T)
    after = await add(store, awaiting())
    assert await store.settle(settlement(before, awaiting(), requests=2), T)
    records = await found(store)
    assert records[before.event_id].spent
    assert not records[after.event_id].spent


async def test_superseding_ends_what_awaits_nothing_more(store: Store) -> None:
    """Open deliveries to the targets reached are superseded, and nothing else."""
    whole = await add(store, awaiting("one"), queued("two"), acknowledged("three"))
    part = await add(store, awaiting("one"), awaiting("four"))
    closed = await add(store, queued("two"), stage=Stage.CLOSED)
    ids = [whole.event_id, part.event_id, closed.event_id, "no event"]
    await store.supersede(ids, ["one", "two", "three"], NOW, T)
    records = await found(store)
    assert records[whole.event_id].stage is Stage.ENDED
    assert records[part.event_id].stage is Stage.OPEN
    assert records[part.event_id].spent
    assert await states(store, whole) == {
        "one": State.SUPERSEDED,
        "two": State.SUPERSEDED,
        "three": State.ACKNOWLEDGED,
    }
    assert await states(store, part) == {"one": State.SUPERSEDED, "four": State.AWAITING}
    assert await states(store, closed) == {"two": State.QUEUED}


async def test_due_deliveries_are_leased_once(opener: Callable[..., Any], tmp_path: Path) -> None:
    """Two processes never get the same one; when the lease is over it is due again."""
    async with opener(tmp_path) as one, opener(tmp_path) as two:
        for n in range(20):
            await add(one, queued(due_at=NOW + n))
        taken = await asyncio.gather(
            *(s.take("one", NOW + 99, NOW + 200, 8, T) for s in (one, two))
        )
        ids = [due.event_id for each in taken for due in each]
        assert len(ids) == len(set(ids)) == 16
        assert len(await one.take("one", NOW + 99, NOW + 200, 99, T)) == 4
        assert await two.take("one", NOW + 199, NOW + 300, 99, T) == ()
        assert len(await two.take("one", NOW + 200, NOW + 300, 99, T)) == 20


async def test_what_is_due_first_is_taken_first(store: Store) -> None:
    """And what is not due is not taken, nor what another target is due."""
    late, soon = await add(store, queued(due_at=NOW + 5)), await add(store, queued(due_at=NOW + 1))
    await add(store, queued("two", NOW), awaiting("one"))
    await add(store, queued(due_at=NOW + 50))
    assert [d.event_id for d in await store.take("one", NOW + 9, NOW + 99, 1, T)] == [soon.event_id]
    assert [d.event_id for d in await store.take("one", NOW + 9, NOW + 99, 9, T)] == [late.event_id]


async def test_the_queue_tells_each_targets_first(store: Store) -> None:
    """One entry for each target that has queued deliveries."""
    await add(store, queued("one", NOW + 7), queued("two", NOW + 1), awaiting("three"))
    await add(store, queued("one", NOW + 3))
    assert await store.queue(T) == {"one": NOW + 3, "two": NOW + 1}


async def test_a_leased_delivery_is_finished_by_its_lease(store: Store) -> None:
    """A result that comes after the lease was given anew changes nothing."""
    added = await add(store, queued())
    (first,) = await store.take("one", NOW, NOW + 10, 9, T)
    (second,) = await store.take("one", NOW + 10, NOW + 20, 9, T)
    again = replace(second.row, due_at=NOW + 30, retries=1, reason="code")
    assert not await store.finish(first, again, NOW + 11, T)
    assert await store.finish(second, again, NOW + 12, T)
    assert not await store.finish(second, again, NOW + 13, T)
    (third,) = await store.take("one", NOW + 30, NOW + 40, 9, T)
    assert (third.event_id, third.row) == (added.event_id, again)


async def test_a_superseded_delivery_is_not_finished(store: Store) -> None:
    """The worker's failure does not bring back what another event has made needless."""
    added = await add(store, queued(), awaiting("two"))
    (due,) = await store.take("one", NOW, NOW + 10, 9, T)
    await store.supersede([added.event_id], ["one"], NOW, T)
    assert not await store.finish(due, due.row, NOW, T)
    assert (await states(store, added))["one"] is State.SUPERSEDED


async def test_a_record_ends_when_its_time_has_passed(store: Store) -> None:
    """What it awaits becomes a dead letter; what is queued stays so; and it ends once."""
    added = await add(store, awaiting("one"), queued("two"), acknowledged("three"), requests=3)
    await add(store, awaiting(), ends_at=NOW + 2000)
    assert await store.end(NOW + 999, 10, T) == ()
    (ended,) = await store.end(NOW + 1000, 10, T)
    assert (ended.event_id, ended.requests, ended.dead) == (added.event_id, 3, {"one": "timeout"})
    assert await store.end(NOW + 1000, 10, T) == ()
    assert await states(store, added) == {
        "one": State.DEAD,
        "two": State.QUEUED,
        "three": State.ACKNOWLEDGED,
    }


async def test_ending_and_pruning_go_in_steps(store: Store) -> None:
    """No more than asked for in one commit."""
    for _ in range(5):
        await add(store, awaiting())
    assert [len(await store.end(NOW + 1000, 2, T)) for _ in range(4)] == [2, 2, 1, 0]
    assert [await store.prune(NOW + 9999, 2, T) for _ in range(4)] == [2, 2, 1, 0]


async def test_only_what_is_over_is_pruned_and_after_its_time(store: Store) -> None:
    """Settled events for a while, dead letters for longer, unsettled ones never."""
    await add(store, awaiting(), body=b"open", ends_at=NOW + 1e9)
    await add(store, queued(), body=b"queued", stage=Stage.CLOSED)
    settled = await add(store, queued("two"), body=b"settled", stage=Stage.CLOSED)
    await add(store, awaiting(), body=b"dead")
    await store.end(NOW + 1000, 10, T)
    await store.acknowledge(settled.event_id, "two", NOW + 1000, T)
    assert await store.prune(NOW + 1059, 10, T) == 0
    assert await store.prune(NOW + 1060, 10, T) == 1
    assert await found(store, b"settled") == {}
    assert await store.prune(NOW + 1600, 10, T) == 1
    assert await store.prune(NOW + 1e8, 10, T) == 0
    assert await found(store, b"open")
    assert await found(store, b"queued")


async def test_usage_is_counted_through_every_change(store: Store) -> None:
    """Unsettled deliveries by target and state, whatever way they have come and gone."""
    one = await add(store, awaiting("one"), queued("two"), acknowledged("three"))
    await add(store, awaiting("one"), ends_at=NOW + 10)
    assert (await store.usage(T)).rows == 2
    await store.end(NOW + 10, 10, T)
    await store.settle(settlement(one, acknowledged("one"), stage=Stage.CLOSED), T)
    usage = await store.usage(T)
    counts = {key: count for key, count in usage.deliveries.items() if count}
    assert counts == {("two", State.QUEUED): 1, ("one", State.DEAD): 1}
    await store.acknowledge(one.event_id, "two", NOW, T)
    await store.prune(NOW + 9999, 10, T)
    usage = await store.usage(T)
    assert (usage.rows, usage.bytes, usage.fullest) == (0, 0, 0.0)


async def test_a_full_store_takes_nothing_new(opener: Callable[..., Any], tmp_path: Path) -> None:
    """And still lets everything that is there go on to its end; then there is room again."""
    limits = replace(LIMITS, max_rows=3, share=1.0)
    async with opener(tmp_path, limits) as store:
        opened = [await add(store, awaiting()) for _ in range(3)]
        assert (await store.usage(T)).fullest == 1.0
        with pytest.raises(StoreFull) as full:
            await add(store, awaiting())
        assert not full.value.targets
        assert await store.settle(settlement(opened[0], acknowledged(), stage=Stage.CLOSED), T)
        assert await store.prune(NOW + 9999, 10, T) == 1
        await add(store, awaiting())


async def test_one_target_fills_its_share_alone(opener: Callable[..., Any], tmp_path: Path) -> None:
    """Past it only events that need room for that target are refused, and it is named."""
    limits = replace(LIMITS, max_rows=100, share=0.1)
    async with opener(tmp_path, limits) as store:
        for _ in range(10):
            await add(store, awaiting("dead"))
        with pytest.raises(StoreFull) as full:
            await add(store, awaiting("dead"), awaiting("other"))
        assert full.value.targets == {"dead"}
        opened = await add(store, awaiting("other"))
        with pytest.raises(StoreFull):
            await store.settle(settlement(opened, queued("dead"), stage=Stage.CLOSED), T)
        assert (await found(store))[opened.event_id].stage is Stage.OPEN


async def test_a_body_counts_in_bytes(opener: Callable[..., Any], tmp_path: Path) -> None:
    """A few large bodies fill the store as well as many small ones."""
    async with opener(tmp_path, replace(LIMITS, max_bytes=300_000, share=1.0)) as store:
        await add(store, awaiting(), body=b"x" * 200_000)
        with pytest.raises(StoreFull):
            await add(store, awaiting(), body=b"y" * 200_000)
        assert await found(store, b"y" * 200_000) == {}


async def test_a_refused_write_costs_its_neighbours_nothing(
    opener: Callable[..., Any], tmp_path: Path
) -> None:
    """Writes that share a commit fail and succeed each for itself."""
    async with opener(tmp_path, replace(LIMITS, max_rows=100, share=0.05)) as store:
        writes = [add(store, awaiting("dead" if n % 2 else f"t{n}")) for n in range(40)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        refused = [result for result in results if isinstance(result, StoreFull)]
        assert len(refused) == 15
        assert (await store.usage(T)).rows == 25


async def test_what_was_written_is_there_after_closing(
    opener: Callable[..., Any], tmp_path: Path
) -> None:
    """Opened again it is the same store."""
    async with opener(tmp_path) as store:
        added = await add(store, awaiting())
        await store.spend_all(T)
    async with opener(tmp_path) as store:
        assert (await found(store))[added.event_id] == replace(added, spent=True)


async def test_a_call_ends_by_its_timeout(store: Store) -> None:
    """Whatever the store is doing: here it has no time at all."""
    with pytest.raises(StoreFailed):
        await store.add(record(), letter(), [awaiting()], 0.0)


async def test_a_write_that_was_too_late_grants_nothing(store: Store) -> None:
    """Whether it has come to pass or not, its acknowledgements don't count."""
    for _ in range(50):
        with pytest.raises(StoreFailed):
            await store.add(record(), letter(), [awaiting()], 0.0)
    await add(store, awaiting(), body=b"another")
    assert all(each.spent for each in (await found(store)).values())


async def test_many_at_once(store: Store) -> None:
    """A thousand records written and read at the same time are all there."""
    bodies = [os.urandom(16) for _ in range(1000)]
    await asyncio.gather(*(add(store, awaiting(), body=body) for body in bodies))
    for body in bodies:
        assert await found(store, body)


async def test_none_remembers_nothing_and_says_so() -> None:
    """Nothing is found, nothing is due, and what would have to be durable is refused."""
    store: Store = NoStore()
    assert not store.remembers
    with pytest.raises(StoreFailed):
        await store.add(record(), letter(), [awaiting()], T)
    assert await store.find(letter().digest, T) == ()
    assert not await store.settle(settlement(record()), T)
    assert not await store.acknowledge("event", "one", NOW, T)
    assert await store.queue(T) == {}
    assert await store.take("one", NOW, NOW, 1, T) == ()
    assert await store.end(NOW, 1, T) == ()
