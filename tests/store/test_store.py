"""The promises of every store that remembers: one suite for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from router.model.event import Attempt, Reason
from router.routing.index import Glob
from router.store.admin import (
    DISCARDED,
    STEP,
    Action,
    Admin,
    Entry,
    Group,
    Later,
    Resend,
    Seen,
    Selection,
    Sort,
    Step,
    Verb,
    acted_on,
    carry_out,
    pause,
    paused,
    resume,
)
from router.store.opening import NoStore
from router.store.postgres.admin import PostgresAdmin
from router.store.postgres.store import PostgresStore
from router.store.protocol import (
    ASKED,
    LAST,
    DeliveryRow,
    Early,
    Notice,
    Pause,
    Record,
    Stage,
    State,
    Store,
    StoreFailed,
    StoreFull,
    StoreLimits,
    Tried,
    Usage,
)
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from router.store.url import parse_database
from router.telemetry.log.lines import stamp
from tests.store.records import (
    LIMITS,
    NOW,
    SIZE,
    T,
    acknowledged,
    add,
    awaiting,
    found,
    letter,
    queued,
    record,
    rows_of,
    settlement,
    states,
    using,
)
from tests.support.command import PATIENCE
from tests.support.effort import long
from tests.support.postgres import Database, Server, pgbouncer

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


class Place(NamedTuple):
    """The location of a store of some kind. Opened twice, it is one store for two processes."""

    open_store: Callable[[StoreLimits], Awaitable[Store]]
    open_admin: Callable[[StoreLimits], Awaitable[Admin]]

    def store(self, limits: StoreLimits = LIMITS) -> AbstractAsyncContextManager[Store]:
        return using(self.open_store(limits))

    def admin(self, limits: StoreLimits = LIMITS) -> AbstractAsyncContextManager[Admin]:
        """The same store, as people open it beside the router."""
        return using(self.open_admin(limits))


PLACES = [
    "sqlite",
    pytest.param("shared_database", marks=pytest.mark.postgresql, id="postgresql"),
    pytest.param("pooled_database", marks=[pytest.mark.postgresql, long], id="pgbouncer"),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        return Place(
            partial(SqliteStore.open, path), partial(SqliteAdmin.open, path, now=lambda: NOW)
        )
    # A schema of its own: a new database for each test takes longer than most tests.
    database: Database = request.getfixturevalue(request.param)
    address = parse_database(f"{database.dsn}?schema=test_{next(_numbers)}")
    return Place(
        partial(PostgresStore.open, address), partial(PostgresAdmin.open, address, now=lambda: NOW)
    )


@pytest.fixture(scope="session")
def shared_database(postgresql: Server) -> Iterator[Database]:
    with postgresql.database() as made:
        yield made


@pytest.fixture(scope="session")
def pooled_database(shared_database: Database) -> Iterator[Database]:
    with pgbouncer(shared_database) as pooled:
        yield pooled


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    async with place.store() as store:
        yield store


@pytest.fixture
async def admin(place: Place, store: Store) -> AsyncIterator[Admin]:
    """The same store, as people open it beside the router."""
    async with place.admin() as admin:
        yield admin


async def test_an_event_is_found_by_its_body_alone(store: Store) -> None:
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
    """Many closed events of the same body do not hide an open one."""
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
    """With any bytes, up to 1 MiB, and any key, even with a NUL."""
    key = "a.\x00\\0\\\\\x00b.\U0001f600.'\"%"
    await store.add(record(), letter(body, key), [queued()], T)
    (due,) = await store.lease("one", NOW, NOW + 60, 10, T)
    assert due.letter == letter(body, key)


async def test_settling_writes_the_record_and_the_given_rows(store: Store) -> None:
    """The other rows stay as they are."""
    opened = await add(store, awaiting("one"), awaiting("two"), acknowledged("three"))
    left = settlement(opened, acknowledged("one"), requests=2, replied_at=NOW + 5)
    assert await store.settle(left, T)
    assert (await found(store))[opened.event_id] == left.record
    kept = await states(store, opened)
    assert kept == {"one": "acknowledged", "two": "awaiting", "three": "acknowledged"}


@pytest.mark.parametrize("stage", [Stage.CLOSED, Stage.ENDED])
async def test_a_record_is_settled_while_it_is_open_only(store: Store, stage: Stage) -> None:
    """If two requests close one record, the second learns that it has changed nothing."""
    opened = await add(store, awaiting())
    assert await store.settle(settlement(opened, acknowledged(), stage=stage), T)
    assert not await store.settle(settlement(opened, awaiting(), stage=Stage.CLOSED), T)
    assert (await found(store))[opened.event_id].stage is stage
    assert await states(store, opened) == {"one": State.ACKNOWLEDGED}


async def test_calls_to_a_closed_store_fail(place: Place) -> None:
    """At once, and it opens no connection again, which nobody would close."""
    async with place.store() as store:
        event = await add(store, awaiting("one"))
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: store.find(letter().digest, T),
        lambda: store.usage(T),
        lambda: store.acknowledge(event.event_id, "one", NOW, T),
    ]
    for ask in asked:
        async with asyncio.timeout(T / 2):
            with pytest.raises(StoreFailed, match=r"^closed$"):
                await ask()


async def test_only_one_of_many_closes(place: Place) -> None:
    """Also if they come at once, from two processes."""
    async with place.store() as one, place.store() as two:
        opened = await add(one, awaiting())
        closing = settlement(opened, acknowledged(), stage=Stage.CLOSED)
        closes = [store.settle(closing, T) for store in (one, two) * 10]
        assert sum(await asyncio.gather(*closes)) == 1


async def test_acknowledged_stays_acknowledged(store: Store) -> None:
    """A request that does not know of a late acknowledgement does not undo it."""
    opened = await add(store, awaiting("one"), awaiting("two"))
    assert await store.acknowledge(opened.event_id, "one", NOW, T)
    assert await store.settle(settlement(opened, awaiting("one"), queued("two")), T)
    assert await states(store, opened) == {"one": State.ACKNOWLEDGED, "two": State.QUEUED}


@pytest.mark.parametrize("state", list(State))
async def test_any_delivery_can_be_acknowledged(store: Store, state: State) -> None:
    """In any state."""
    added = await add(store, DeliveryRow("one", state))
    assert await store.acknowledge(added.event_id, "one", NOW, T)
    assert await states(store, added) == {"one": State.ACKNOWLEDGED}
    assert not await store.acknowledge(added.event_id, "two", NOW, T)
    assert not await store.acknowledge("no event", "one", NOW, T)


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.CLOSED])
async def test_closing_revokes_the_credit_of_other_records(store: Store, stage: Stage) -> None:
    """Only records of this body lose it. A record that stays open revokes nothing."""
    one, two = await add(store, awaiting()), await add(store, awaiting())
    other = await add(store, awaiting(), body=b"other")
    assert await store.settle(settlement(one, acknowledged(), stage=stage), T)
    records = await found(store)
    assert records[two.event_id].credit_revoked is (stage is Stage.CLOSED)
    assert not records[one.event_id].credit_revoked
    assert not (await found(store, b"other"))[other.event_id].credit_revoked


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.CLOSED])
async def test_revoked_credit_does_not_come_back(place: Place, stage: Stage) -> None:
    """Another node has closed a record of the same body while a request here works on this one, and
    does not know."""
    async with place.store() as here, place.store() as there:
        one, two = await add(here, awaiting()), await add(there, awaiting())
        assert await there.settle(settlement(two, acknowledged(), stage=Stage.CLOSED), T)
        assert await here.settle(settlement(one, awaiting(), stage=stage, credit_revoked=False), T)
        assert (await found(here))[one.event_id].credit_revoked


async def test_all_credit_is_revoked_at_once(store: Store) -> None:
    """All records of any body lose their credit, but not those added later; settling does not undo
    it."""
    before = await add(store, awaiting())
    await store.revoke_all_credit(T)
    after = await add(store, awaiting())
    assert await store.settle(settlement(before, awaiting(), requests=2), T)
    records = await found(store)
    assert records[before.event_id].credit_revoked
    assert not records[after.event_id].credit_revoked


async def test_superseding_ends_records_that_await_nothing_more(store: Store) -> None:
    """Open deliveries to the targets reached are superseded, and nothing else."""
    whole = await add(store, awaiting("one"), queued("two"), acknowledged("three"))
    part = await add(store, awaiting("one"), awaiting("four"))
    closed = await add(store, queued("two"), stage=Stage.CLOSED)
    ids = [whole.event_id, part.event_id, closed.event_id, "no event"]
    await store.supersede(ids, ["one", "two", "three"], NOW, T)
    records = await found(store)
    assert records[whole.event_id].stage is Stage.ENDED
    assert records[part.event_id].stage is Stage.OPEN
    assert records[part.event_id].credit_revoked
    assert await states(store, whole) == {
        "one": State.SUPERSEDED,
        "two": State.SUPERSEDED,
        "three": State.ACKNOWLEDGED,
    }
    assert await states(store, part) == {"one": State.SUPERSEDED, "four": State.AWAITING}
    assert await states(store, closed) == {"two": State.QUEUED}


async def test_due_deliveries_are_leased_once(place: Place) -> None:
    """Two processes never get the same one; after the lease it is due again."""
    async with place.store() as one, place.store() as two:
        for n in range(20):
            await add(one, queued(due_at=NOW + n))
        taken = await asyncio.gather(
            *(s.lease("one", NOW + 99, NOW + 200, 8, T) for s in (one, two))
        )
        ids = [due.event_id for each in taken for due in each]
        assert len(ids) == len(set(ids)) == 16
        assert len(await one.lease("one", NOW + 99, NOW + 200, 99, T)) == 4
        assert await two.lease("one", NOW + 199, NOW + 300, 99, T) == ()
        assert len(await two.lease("one", NOW + 200, NOW + 300, 99, T)) == 20


async def test_the_first_due_is_taken_first(store: Store) -> None:
    """Deliveries that are not due, or for another target, are not taken."""
    late, soon = await add(store, queued(due_at=NOW + 5)), await add(store, queued(due_at=NOW + 1))
    await add(store, queued("two", NOW), awaiting("one"))
    await add(store, queued(due_at=NOW + 50))
    assert [d.event_id for d in await store.lease("one", NOW + 9, NOW + 99, 1, T)] == [
        soon.event_id
    ]
    assert [d.event_id for d in await store.lease("one", NOW + 9, NOW + 99, 9, T)] == [
        late.event_id
    ]


async def test_the_queue_has_the_first_of_each_target(store: Store) -> None:
    """One entry for each target that has queued deliveries."""
    await add(store, queued("one", NOW + 7), queued("two", NOW + 1), awaiting("three"))
    await add(store, queued("one", NOW + 3))
    assert await store.queue(T) == {"one": NOW + 3, "two": NOW + 1}


#: No record's next request is due then.
NEVER = (0.0, 0.0)


async def test_what_waits_is_taken_in_the_order_of_recording(store: Store) -> None:
    """The queue's deliveries and awaited ones, due or not; but nothing that is settled, and nothing
    of another target."""
    added = [
        await add(store, awaiting("one"), queued("two")),
        await add(store, queued("one", due_at=NOW + 900)),
        await add(store, dead("one"), stage=Stage.ENDED),
        await add(store, acknowledged("one"), awaiting("two")),
        await add(store, awaiting("one")),
    ]
    waiting = [added[0], added[1], added[4]]
    first = await store.lease("one", NOW, NOW + 60, 2, T, Early(NEVER))
    rest = await store.lease("one", NOW, NOW + 60, 9, T, Early(NEVER))
    assert [due.event_id for due in (*first, *rest)] == [each.event_id for each in waiting]
    assert [due.row.state for due in first] == [State.AWAITING, State.QUEUED]
    # Taken, they are not taken again, and the queue does not send them meanwhile.
    assert await store.lease("one", NOW + 59, NOW + 99, 9, T, Early(NEVER)) == ()
    assert await store.lease("one", NOW + 59, NOW + 99, 9, T) == ()
    again = await store.lease("one", NOW + 60, NOW + 99, 9, T, Early(NEVER))
    assert {due.event_id for due in again} == {each.event_id for each in waiting}


async def test_a_delivery_whose_request_is_about_to_come_is_spared(store: Store) -> None:
    """An awaited one is left to it; a queued one has no request to wait for."""
    added = await add(store, awaiting("one"))
    due_at = added.due_at
    for request_window, taken in (((due_at - 1, due_at), 0), ((due_at, due_at + 1), 0), (NEVER, 1)):
        assert len(await store.lease("one", NOW, NOW, 9, T, Early(request_window))) == taken
    await add(store, queued("two"))
    assert len(await store.lease("two", NOW, NOW, 9, T, Early((0.0, NOW + 999)))) == 1


async def test_an_awaited_delivery_shows_its_lease_and_its_result(store: Store) -> None:
    """So that a request at another process waits for the attempt."""
    added = await add(store, awaiting("one"))
    (due,) = await store.lease("one", NOW, NOW + 60, 9, T, Early(NEVER))
    (row,) = await rows_of(store, added)
    assert (row.is_leased, row.recover_at, row.state) == (True, NOW + 60, State.AWAITING)
    assert (due.first_at, due.request_due_at) == (added.first_at, added.due_at)
    left = replace(due.row, reason="code", attempts=2, recover_at=NOW + 9)
    assert await store.finish(due, left, NOW + 1, T)
    (row,) = await rows_of(store, added)
    assert row == left
    assert not row.is_leased
    assert await store.lease("one", NOW + 8, NOW + 60, 9, T, Early(NEVER)) == ()
    assert len(await store.lease("one", NOW + 9, NOW + 60, 9, T, Early(NEVER))) == 1


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("time", State.DEAD),
        ("supersede", State.SUPERSEDED),
        ("discard", State.SUPERSEDED),
        ("restore", State.AWAITING),
        ("acknowledge", State.ACKNOWLEDGED),
    ],
)
async def test_a_change_of_a_delivery_ends_its_lease(
    store: Store, admin: Admin, end: str, state: State
) -> None:
    """A failure that comes later changes nothing and is not kept; an acknowledgement counts."""
    added = await add(store, awaiting())
    (due,) = await store.lease("one", NOW, NOW + 9000, 9, T, Early(NEVER))
    match end:
        case "time":
            (ended,) = await store.end(NOW + 1000, 9, T)
            assert ended.dead == {"one": "timeout"}
        case "supersede":
            await store.supersede([added.event_id], ["one"], NOW, T)
        case "acknowledge":
            await store.acknowledge(added.event_id, "one", NOW, T)
        case _:
            await admin.act(action(Verb.DISCARD), await entries(admin))
    if end == "restore":
        await admin.act(action(Verb.RESTORE), await entries(admin))
    assert not await store.finish(due, replace(due.row, tried=failed()), NOW + 1001, T)
    assert await kept_attempts(admin, added) == ()
    assert await states(store, added) == {"one": state}
    assert await store.acknowledge(added.event_id, "one", NOW + 1001, T)
    assert await states(store, added) == {"one": State.ACKNOWLEDGED}


async def test_attempts_are_never_counted_back(store: Store) -> None:
    """A request that knows less of them than the store keeps their number."""
    added = await add(store, replace(awaiting("one"), attempts=3))
    await store.settle(settlement(added, replace(awaiting("one"), attempts=1)), T)
    (row,) = await rows_of(store, added)
    assert row.attempts == 3


async def test_a_retry_comes_first_and_never_sends_what_is_in_flight(
    store: Store, admin: Admin
) -> None:
    added = [await add(store, awaiting("one")) for _ in range(3)]
    (in_flight,) = await store.lease("one", NOW, NOW + 60, 1, T, Early(NEVER))
    assert in_flight.event_id == added[0].event_id
    asked = [entry for entry in await entries(admin) if entry.event_id != added[1].event_id]
    assert await admin.act(action(Verb.RETRY), asked) == 1
    due = await store.lease("one", NOW, NOW + 60, 9, T, Early(NEVER, asked=True))
    assert [each.event_id for each in due] == [added[2].event_id]
    assert not due[0].replayed
    rest = await store.lease("one", NOW, NOW + 60, 9, T, Early(NEVER))
    assert [each.event_id for each in rest] == [added[1].event_id]


async def test_a_leased_delivery_is_finished_by_its_lease(store: Store) -> None:
    """A result that comes after the next lease changes nothing."""
    added = await add(store, queued())
    (first,) = await store.lease("one", NOW, NOW + 10, 9, T)
    (second,) = await store.lease("one", NOW + 10, NOW + 20, 9, T)
    again = replace(second.row, due_at=NOW + 30, retries=1, reason="code")
    assert not await store.finish(first, again, NOW + 11, T)
    assert await store.finish(second, again, NOW + 12, T)
    assert not await store.finish(second, again, NOW + 13, T)
    (third,) = await store.lease("one", NOW + 30, NOW + 40, 9, T)
    assert (third.event_id, third.row) == (added.event_id, again)


async def test_a_record_ends_when_its_time_has_passed(store: Store) -> None:
    """It ends once: awaited deliveries become dead letters, queued ones stay."""
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
    """One commit does no more than the limit."""
    for _ in range(5):
        await add(store, awaiting())
    assert [len(await store.end(NOW + 1000, 2, T)) for _ in range(4)] == [2, 2, 1, 0]
    assert [await store.prune(NOW + 9999, 2, T) for _ in range(4)] == [2, 2, 1, 0]


async def test_only_expired_events_are_pruned(store: Store) -> None:
    """Settled events are kept for a while, dead letters for longer, unsettled ones for good."""
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
    """Unsettled deliveries are counted by target and state."""
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


async def test_a_dead_letter_that_was_acknowledged_later_is_not_counted(
    store: Store, admin: Admin
) -> None:
    """In either order. It still uses room, and counts again in the queue."""

    async def counts() -> dict[tuple[str, State], int]:
        return {each: n for each, n in (await store.usage(T)).deliveries.items() if n}

    gone = await add(store, dead("one"), dead("two"), stage=Stage.ENDED, ends_at=NOW)
    held = (await store.usage(T)).bytes
    await later(store, gone)
    await later(store, gone)
    assert await counts() == {("two", State.DEAD): 1}
    await add(store, awaiting("one"), ends_at=NOW + 9)
    closing = await add(store, awaiting("one"))
    await store.settle(settlement(closing, acknowledged("one"), stage=Stage.CLOSED), T)
    assert await counts() == {("two", State.DEAD): 1, ("one", State.AWAITING): 1}
    await store.end(NOW + 9, 9, T)
    assert await counts() == {("two", State.DEAD): 1}
    of_one = Selection(targets=("one",), states=(State.DEAD,))
    await admin.act(action(), (await entries(admin, of_one))[:1])
    assert await counts() == {("two", State.DEAD): 1, ("one", State.QUEUED): 1}
    await admin.act(action(Verb.DISCARD), await entries(admin, Selection(targets=("one",))))
    assert await counts() == {("two", State.DEAD): 1}
    assert (await store.usage(T)).bytes > held
    await store.prune(NOW + 9999, 10, T)
    usage = await store.usage(T)
    assert (usage.rows, usage.bytes, await counts()) == (0, 0, {})


async def ends(store: Store) -> dict[str, float]:
    """Return when the first awaited event of each target is given up."""
    return dict((await store.usage(T)).first_ends)


async def test_the_first_end_of_each_target_is_known(store: Store, admin: Admin) -> None:
    """Through every change of awaited deliveries; without any, there is no time."""
    assert await ends(store) == {}
    first = await add(store, awaiting("one"), acknowledged("two"), ends_at=NOW + 10)
    await add(store, awaiting("one"), awaiting("two"), queued("three"), ends_at=NOW + 20)
    assert await ends(store) == {"one": NOW + 10, "two": NOW + 20}
    await store.settle(settlement(first, awaiting("one"), ends_at=NOW + 40), T)
    assert await ends(store) == {"one": NOW + 20, "two": NOW + 20}
    await store.settle(settlement(first, ends_at=NOW + 15), T)
    assert await ends(store) == {"one": NOW + 15, "two": NOW + 20}
    await store.acknowledge(first.event_id, "one", NOW, T)
    assert await ends(store) == {"one": NOW + 20, "two": NOW + 20}
    await admin.act(action(Verb.DISCARD), await entries(admin))
    assert await ends(store) == {}
    await admin.act(action(Verb.RESTORE), await entries(admin))
    await store.end(NOW + 20, 9, T)
    assert await ends(store) == {}


async def test_the_first_that_is_due_is_known_by_target_and_retries(store: Store) -> None:
    """Through every change of queued deliveries."""

    async def first_due() -> dict[tuple[str, int], float]:
        usage = await store.usage(T)
        return {key: at - NOW for key, at in usage.first_due.items()}

    assert await first_due() == {}
    for target, due_at, retries in [("one", 9, 0), ("one", 5, 0), ("one", 7, 3), ("two", 0, 4)]:
        await add(store, replace(queued(target, NOW + due_at), retries=retries))
    assert await first_due() == {("one", 0): 5, ("one", 3): 7, ("two", 4): 0}
    (two,) = await store.lease("two", NOW, NOW + 99, 9, T)
    await store.finish(two, replace(two.row, state=State.DEAD), NOW, T)
    (one,) = await store.lease("one", NOW + 5, NOW + 99, 9, T)
    await store.finish(one, replace(one.row, retries=1, due_at=NOW + 30), NOW, T)
    assert await first_due() == {("one", 0): 9, ("one", 1): 30, ("one", 3): 7}


async def test_a_full_store_takes_nothing_new(place: Place) -> None:
    """Bodies count in bytes. Its events still go on to their ends; then there is room again."""
    async with place.store(replace(LIMITS, max_bytes=3 * SIZE, share=1.0)) as store:
        opened = [await add(store, awaiting()) for _ in range(2)]
        with pytest.raises(StoreFull):
            await add(store, awaiting(), body=b"y" * 100)
        opened.append(await add(store, awaiting()))
        assert (await store.usage(T)).fullest == 1.0
        with pytest.raises(StoreFull) as full:
            await add(store, awaiting())
        assert not full.value.targets
        assert await store.settle(settlement(opened[0], acknowledged(), stage=Stage.CLOSED), T)
        assert await store.prune(NOW + 9999, 10, T) == 1
        await add(store, awaiting())


async def test_one_target_fills_its_share_alone(place: Place) -> None:
    """Only events that need room for that target are refused, and the error names it."""
    limits = replace(LIMITS, max_bytes=100 * SIZE, share=0.1)
    async with place.store(limits) as store:
        for _ in range(10):
            await add(store, awaiting("dead"))
        with pytest.raises(StoreFull) as full:
            await add(store, awaiting("dead"), awaiting("other"))
        assert full.value.targets == {"dead"}
        opened = await add(store, awaiting("other"))
        with pytest.raises(StoreFull):
            await store.settle(settlement(opened, queued("dead"), stage=Stage.CLOSED), T)
        assert (await found(store))[opened.event_id].stage is Stage.OPEN


async def test_a_refused_write_costs_its_neighbours_nothing(place: Place) -> None:
    """Writes that share a commit succeed or fail independently."""
    async with place.store(replace(LIMITS, max_bytes=100 * SIZE, share=0.05)) as store:
        writes = [add(store, awaiting("dead" if n % 2 else f"t{n}")) for n in range(40)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        refused = [result for result in results if isinstance(result, StoreFull)]
        assert len(refused) == 15
        assert (await store.usage(T)).rows == 25


async def test_writes_survive_closing(place: Place) -> None:
    """Opened again it is the same store."""
    async with place.store() as store:
        added = await add(store, awaiting())
        await store.revoke_all_credit(T)
    async with place.store() as store:
        assert (await found(store))[added.event_id] == replace(added, credit_revoked=True)


async def test_a_write_that_was_too_late_grants_nothing(store: Store) -> None:
    """A write that commits after its caller got an error has no credit from the first moment it can
    be seen. The test tries until it meets one."""
    seen: list[Record] = []
    async with asyncio.timeout(PATIENCE):
        for number in itertools.count():
            body = b"%d" % number
            try:
                await store.add(record(), letter(body), [awaiting()], number % 100 / 5000)
            except StoreFailed:
                later = asyncio.create_task(add(store, awaiting(), body=b"later"))
                while not later.done():
                    seen += (await found(store, body)).values()
                    await asyncio.sleep(0)
            if seen:
                break
    assert all(each.credit_revoked for each in seen)


# What people ask of it and do with it.


def dead(target: str = "one") -> DeliveryRow:
    return DeliveryRow(target, State.DEAD, "timeout", retries=20)


def action(verb: Verb = Verb.REPLAY, **fields: Any) -> Action:
    made = Action(f"action-{next(_numbers)}", verb, "alice", "--state dead", NOW)
    return replace(made, **fields)


async def entries(admin: Admin, selection: Selection = Selection()) -> list[Entry]:  # noqa: B008
    return [entry async for page in admin.pages(selection, 3) for entry in page]


async def rows(admin: Admin, of: Record) -> dict[str, DeliveryRow]:
    dossier = await admin.dossier(of.event_id)
    assert dossier is not None
    return {entry.row.target: entry.row for entry in dossier.entries}


async def later(store: Store, *of: Record, target: str = "one") -> None:
    """Another event with the same body is acknowledged."""
    await store.supersede([each.event_id for each in of], [target], NOW + 7, T)


async def test_deliveries_are_grouped_by_target_state_and_reason(
    store: Store, admin: Admin
) -> None:
    """With their ages and the number acknowledged later. The last recorded one is the example, with
    the answer to its last attempt."""
    ended: Any = {"stage": Stage.ENDED}
    await add(store, dead("one"), acknowledged("two"), event_id="a", first_at=NOW - 5, **ended)
    tried = Tried(Attempt(Reason.STATUS, True, 0.1, 503, "", None, NOW, "7", "later"), retry=2)
    last = replace(dead("one"), tried=tried)
    marked = await add(store, last, queued("two"), event_id="b", first_at=NOW - 9, **ended)
    await later(store, marked)
    await add(store, replace(dead("one"), reason="dns"), event_id="c", **ended)
    key = letter().event.event_key
    assert set(await admin.groups(Selection())) == {
        Group("one", State.DEAD, "timeout", 2, 1, NOW - 9, NOW - 5, "b", key, "HTTP 503: 7: later"),
        Group("one", State.DEAD, "dns", 1, 0, NOW, NOW, "c", key, ""),
        Group("two", State.ACKNOWLEDGED, "acknowledged", 1, 0, NOW - 5, NOW - 5, "a", key, ""),
        Group("two", State.QUEUED, "timeout", 1, 0, NOW - 9, NOW - 9, "b", key, ""),
    }


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "0one 0two 1one 2one 2two 3one"),
        (Selection(targets=("two",)), "0two 2two"),
        (Selection(targets=("two", "one", "none")), "0one 0two 1one 2one 2two 3one"),
        (Selection(states=(State.QUEUED,)), "0two"),
        (Selection(states=(State.QUEUED, State.AWAITING)), "0two 2one"),
        (Selection(targets=("one",), states=(State.QUEUED,)), ""),
        (Selection(reasons=("acknowledged", "none")), "2two"),
        (Selection(event_ids=("event-2",)), "2one 2two"),
        (Selection(event_ids=("event-1", "event-3", "no event")), "1one 3one"),
        (Selection(event_ids=("event-1",), targets=("two",)), ""),
        (Selection(keys=(Glob("a.gs.*"),)), "0one 0two 1one"),
        (Selection(keys=(Glob("a.gs.cert.1"), Glob("*.[!x]"))), "0one 0two 1one 2one 2two"),
        (Selection(keys=(Glob("*\x00*"),)), "3one"),
        (Selection(keys=(Glob("A.*"),)), ""),
        (Selection(since=NOW - 20), "0one 0two 1one 2one 2two"),
        (Selection(until=NOW - 20), "3one"),
        (Selection(since=NOW - 30, until=NOW - 10), "2one 2two 3one"),
        (Selection(acknowledged_later=Later.ONLY), "1one"),
        (Selection(acknowledged_later=Later.EXCLUDE), "0one 0two 2one 2two 3one"),
    ],
)
async def test_every_part_of_a_selection_counts(
    store: Store, admin: Admin, selection: Selection, expected: str
) -> None:
    """Pages and counts agree; patterns are those of routes, and a key may have any character."""
    rows = (
        (dead("one"), queued("two")),
        (dead("one"),),
        (awaiting("one"), acknowledged("two")),
        (dead("one"),),
    )
    keys = ("a.gs.cert.1", "a.gs.key.2", "b.gs.cert.2", "c.\x00.\U0001f600.x")
    for n, (of, key) in enumerate(zip(rows, keys, strict=True)):
        one = record(event_id=f"event-{n}", first_at=NOW - 10 * n, stage=Stage.ENDED)
        await store.add(one, letter(b"%d" % n, key), of, T)
    await later(store, record(event_id="event-1"))
    found = await entries(admin, selection)
    assert " ".join(f"{e.event_id[-1]}{e.row.target}" for e in found) == expected
    assert sum(group.deliveries for group in await admin.groups(selection)) == len(found)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.OLDEST, "0one 0two 1one 1two 2one 2two 3one 3two"),
        (Sort.NEWEST, "2two 2one 1two 1one 0two 0one"),
        (Sort.TARGET, "2one 1one 0one 3two 2two 1two 0two"),
    ],
)
async def test_pages_show_each_once_in_order_whatever_changes(
    store: Store, admin: Admin, sort: Sort, expected: str
) -> None:
    """While shown deliveries change, and others are recorded."""
    seen: list[str] = []
    for n in range(3):
        await add(store, dead("one"), dead("two"), event_id=f"event-{n}")
    async for page in admin.pages(Selection(), 3, sort=sort):
        assert len(page) <= 3
        seen += [f"{entry.event_id[-1]}{entry.row.target}" for entry in page]
        await admin.act(action(Verb.DISCARD), page)
        if len(seen) == 3:
            await add(store, dead("one"), dead("two"), event_id="event-3")
    assert seen == expected.split()


@pytest.mark.parametrize(
    ("reason", "expected"), [("dns", "superseded dead"), (DISCARDED, "dead dead")]
)
async def test_a_restore_goes_by_the_reason_before_the_discard(
    store: Store, admin: Admin, reason: str, expected: str
) -> None:
    added = await add(store, dead("one"), replace(dead("two"), reason="dns"), stage=Stage.ENDED)
    await admin.act(action(Verb.DISCARD), await entries(admin))
    restored = acted_on(Verb.RESTORE, {"reason": [reason]}, NOW + 1)
    await admin.act(action(Verb.RESTORE), await entries(admin, restored))
    after = await rows(admin, added)
    assert [after[name].state for name in ("one", "two")] == expected.split()


@pytest.mark.parametrize("verb", [Verb.REPLAY, Verb.RETRY])
async def test_the_outcome_of_an_action_is_counted(store: Store, admin: Admin, verb: Verb) -> None:
    """As it comes: acknowledged, failed at least once, or to go, also while one is in flight.
    Deliveries of other actions do not count."""
    before = dead("one") if verb is Verb.REPLAY else replace(queued("one", NOW + 99), retries=4)
    await add(store, replace(before, target="two"), stage=Stage.ENDED)
    for _ in range(4):
        await add(store, before, stage=Stage.ENDED)
    sent = action(verb)
    await admin.act(action(verb), await entries(admin, Selection(targets=("two",))))
    await admin.act(sent, await entries(admin, Selection(targets=("one",))))

    async def outcome(*targets: str) -> tuple[int, ...]:
        return await admin.outcome([sent.action_id, "another"], targets)

    assert await outcome() == (0, 0, 4)
    due = await store.lease("one", NOW, NOW + 60, 3, T, Early((0.0, 0.0)))
    assert await outcome() == (0, 0, 4)
    first, second, third = (each.row for each in due)
    await store.finish(due[0], replace(first, state=State.ACKNOWLEDGED), NOW, T)
    await store.finish(due[1], replace(second, state=State.DEAD, retries=9), NOW, T)
    again = replace(third, retries=third.retries + 1, recover_at=NOW + 60)
    await store.finish(due[2], again, NOW, T)
    assert await outcome() == (1, 2, 1)
    assert await outcome("two") == (0, 0, 0)


async def test_a_dossier_is_all_that_is_kept_of_an_event(store: Store, admin: Admin) -> None:
    """The record, the event as its targets get it, and every delivery."""
    kept = record(requests=3, stage=Stage.ENDED, credit_revoked=True)
    await store.add(kept, letter(b"\x00\xff", "k"), [dead("one"), queued("two")], T)
    dossier = await admin.dossier(kept.event_id)
    assert dossier is not None
    assert (dossier.record, dossier.letter) == (kept, letter(b"\x00\xff", "k"))
    assert [entry.row for entry in dossier.entries] == [dead("one"), queued("two")]
    assert await admin.dossier("no event") is None


async def test_a_replayed_dead_letter_is_due_now(store: Store, admin: Admin) -> None:
    """Its retries begin again, its reason stays visible, and it is marked as replayed."""
    added = await add(store, dead("one"), dead("two"), stage=Stage.ENDED)
    assert await admin.act(action(), await entries(admin, Selection(targets=("one",)))) == 1
    assert await rows(admin, added) == {"one": queued("one", NOW), "two": dead("two")}
    assert await store.queue(T) == {"one": NOW}
    (due,) = await store.lease("one", NOW, NOW + 60, 9, T)
    assert due.replayed
    assert await store.finish(due, replace(due.row, due_at=NOW + 60, retries=1), NOW, T)
    (due,) = await store.lease("one", NOW + 60, NOW + 99, 9, T)
    assert due.replayed
    assert (due.event_id, due.row.retries) == (added.event_id, 1)


async def test_a_delivery_queued_by_a_request_is_not_a_replay(store: Store, admin: Admin) -> None:
    """A request that writes the delivery again ends the person's action on it."""
    added = await add(store, queued("one"), awaiting("two"))
    await admin.act(action(Verb.DISCARD), await entries(admin, Selection(targets=("one",))))
    assert await store.settle(settlement(added, queued("one")), T)
    (due,) = await store.lease("one", NOW, NOW + 60, 9, T)
    assert not due.replayed
    assert [entry.action for entry in await entries(admin)] == [None, None]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("verb", list(Verb))
async def test_each_verb_is_for_its_states_alone(
    store: Store, admin: Admin, verb: Verb, state: State
) -> None:
    """Only dead letters are replayed, only unsettled deliveries are discarded, only discarded ones
    restored, and only those that wait retried."""
    before = DeliveryRow("one", state, "code")
    added = await add(store, before)
    changed = await admin.act(action(verb), await entries(admin))
    after = (await rows(admin, added))["one"]
    if verb is Verb.REPLAY:
        assert changed == (state is State.DEAD)
        assert after.state is (State.QUEUED if changed else state)
    elif verb is Verb.RESTORE:
        assert (changed, after) == (0, before)
    elif verb is Verb.RETRY:
        assert changed == (state in (State.QUEUED, State.AWAITING))
        assert after == (replace(before, recover_at=ASKED) if changed else before)
    else:
        assert changed == (state in (State.DEAD, State.QUEUED, State.AWAITING))
        assert after == (DeliveryRow("one", State.SUPERSEDED, DISCARDED) if changed else before)


async def test_discarding_settles(store: Store, admin: Admin) -> None:
    """The event expires as a settled one, and the target's share is released."""
    added = await add(store, dead("one"), queued("two"), stage=Stage.ENDED)
    await admin.act(action(Verb.DISCARD), await entries(admin))
    assert not any((await store.usage(T)).deliveries.values())
    assert await store.prune(NOW + 59, 9, T) == 0
    assert await store.prune(NOW + 60, 9, T) == 1
    assert await admin.dossier(added.event_id) is None


async def test_discarding_does_not_end_a_record(store: Store, admin: Admin) -> None:
    """The caller's retry still finds it, and calls only the targets that need it; it leaves no dead
    letter."""
    added = await add(store, awaiting("one"), acknowledged("two"))
    await admin.act(action(Verb.DISCARD), await entries(admin))
    assert (await found(store))[added.event_id] == added
    (ended,) = await store.end(NOW + 1000, 9, T)
    assert ended.dead == {}


async def test_a_delivery_that_changed_since_the_query_stays(store: Store, admin: Admin) -> None:
    """Acknowledged, replayed by another person, or acknowledged later meanwhile."""
    added = [await add(store, dead(), stage=Stage.ENDED) for _ in range(4)]
    seen = await entries(admin)
    await store.acknowledge(added[0].event_id, "one", NOW, T)
    await admin.act(action(), seen[1:2])
    await later(store, added[2])
    assert await admin.act(action(), seen) == 1
    states = [(await rows(admin, each))["one"].state for each in added]
    assert states == [State.ACKNOWLEDGED, State.QUEUED, State.DEAD, State.QUEUED]


async def test_of_two_people_one_replays(place: Place, store: Store, admin: Admin) -> None:
    """However often and from wherever they do it at once."""
    for _ in range(20):
        await add(store, dead())
    async with place.admin() as other:
        seen = await entries(admin)
        acts = (each.act(action(), seen) for each in (admin, other) * 3)
        assert sum(await asyncio.gather(*acts)) == 20


async def test_actions_are_kept_with_their_persons(store: Store, admin: Admin) -> None:
    """With all steps, on every delivery, newest first; for as long as dead letters."""
    for _ in range(5):
        await add(store, dead(), stage=Stage.ENDED)
    seen = await entries(admin)
    replay, discard = action(), action(Verb.DISCARD, who="bob", what="--event x")
    assert [await admin.act(replay, part) for part in (seen[:2], seen[2:4])] == [2, 2]
    assert await admin.act(discard, seen[4:]) == 1
    after = [replace(discard, deliveries=1), replace(replay, deliveries=4)]
    assert list(await admin.actions(9)) == after
    assert await admin.actions(1) == (after[0],)
    assert [entry.action for entry in await entries(admin)] == [after[1]] * 4 + [after[0]]
    await store.prune(NOW + 599, 1, T)
    assert len(await admin.actions(9)) == 2
    await store.prune(NOW + 600, 1, T)
    assert await admin.actions(9) == ()


async def test_an_action_goes_in_steps(store: Store, admin: Admin) -> None:
    """No step is larger than the router can wait for, and together they are complete."""
    await asyncio.gather(*(add(store, dead(f"t{n % 4}")) for n in range(2 * STEP + 50)))
    selection = Selection(states=(State.DEAD,))
    seen = await Seen.of(admin, selection, NOW + 1)
    steps = [step async for step in carry_out(admin, action(), selection, seen)]
    assert [step.taken for step in steps] == [STEP, STEP, 50]
    assert all(step.changed == step.taken for step in steps)
    groups = await admin.groups(Selection())
    assert sum(group.deliveries for group in groups if group.state is State.QUEUED) == 450


async def test_an_action_leaves_alone_what_its_preview_has_not_shown(
    store: Store, admin: Admin
) -> None:
    """Also what was decided before the preview and committed after it, and what another event with
    the same body has settled since. Deliveries that changed long before need no mark."""
    for at in (NOW, NOW + 100):
        await add(store, dead(), stage=Stage.ENDED, replied_at=at)
    settled = await add(store, dead(), stage=Stage.ENDED)
    selection = Selection(states=(State.DEAD,))
    seen = await Seen.of(admin, selection, NOW + 101)
    assert len(seen.recent) == 1
    for at in (NOW + 100.5, NOW + 101):
        await add(store, dead(), stage=Stage.ENDED, replied_at=at)
    await store.supersede([settled.event_id], ["one"], NOW + 102, T)
    steps = [step async for step in carry_out(admin, action(), selection, seen)]
    assert steps == [Step(2, 2)]


async def test_a_replay_remembers_how_far_it_has_come(store: Store, admin: Admin) -> None:
    """With each step, until it is over; people see it in the action's text."""
    replay = action(what="archive all", since=NOW - 0.25)
    events = [
        Resend(record(first_at=NOW + n, stage=Stage.CLOSED), letter(b"%d" % n)) for n in range(3)
    ]
    assert await admin.resend(replay, "one", events[:2]) == Step(2, 2)
    (stopped,) = await admin.actions(9)
    assert stopped == replace(replay, deliveries=2, place=events[1].place)
    assert stopped.text == f"archive all up to {stamp(NOW + 1)} {events[1].record.event_id}"
    assert await admin.resend(replay, "one", events[2:]) == Step(1, 1)
    assert await admin.resend(replay, "one", []) == Step(0, 0)
    assert await admin.actions(9) == (replace(replay, deliveries=3),)
    assert len(await store.lease("one", NOW, NOW + 60, 9, T)) == 3


async def test_an_event_is_sent_again_unless_it_is_retried_anyway(
    place: Place, store: Store, admin: Admin
) -> None:
    """Or unless this replay has queued it before. Half of a full store is left to callbacks."""
    rows = [DeliveryRow("one", state) for state in State] + [queued("two")]
    added = [await add(store, row, stage=Stage.CLOSED) for row in rows]
    events = [Resend(each, letter()) for each in added]
    assert await admin.resend(replay := action(), "one", events) == Step(6, 4)
    assert await store.prune(NOW + 100, 9, T) == 0
    for due in await store.lease("one", NOW, NOW + 60, 9, T):
        await store.finish(due, replace(due.row, state=State.DEAD), NOW, T)
    assert await admin.resend(replay, "one", events) == Step(6, 1)
    for limits in (
        replace(LIMITS, max_bytes=14 * SIZE, share=1.0),
        replace(LIMITS, max_bytes=100 * SIZE, share=0.08),
    ):
        new = [Resend(record(stage=Stage.CLOSED), letter()) for _ in range(3)]
        async with place.admin(limits) as full:
            assert await full.resend(action(), "one", new) == Step(1, 1)


async def test_the_fullest_share_is_named(place: Place) -> None:
    """The target with the fullest share, or the store as a whole."""
    async with place.store(replace(LIMITS, max_bytes=100 * SIZE, share=0.5)) as store:
        assert await store.usage(T) == Usage(0, 0, {}, 0.0, "")
        for _ in range(10):
            await add(store, awaiting("one"))
        usage = await store.usage(T)
        assert (usage.fullest, usage.fullest_of) == (0.2, "one")
        for _ in range(30):
            await add(store, acknowledged("one"))
        usage = await store.usage(T)
        assert (usage.fullest, usage.fullest_of) == (0.4, "")


def failed(at: float = NOW, request: int = 1, retry: int = 0, **fields: Any) -> Tried:
    attempt = Attempt(Reason.CODE, True, 0.25, 200, "code '700'", None, at, "700", "库存不足")
    return Tried(attempt.replace(**fields), request, retry)


async def kept_attempts(admin: Admin, of: Record, target: str = "one") -> tuple[Tried, ...]:
    dossier = await admin.dossier(of.event_id)
    assert dossier is not None
    return dossier.attempts.get(target, ())


async def test_a_failed_attempt_is_kept_with_its_row(store: Store, admin: Admin) -> None:
    """By every method that writes a row, with the receiver's own words, in order and numbered."""
    opened = await add(store, replace(awaiting(), tried=failed()), queued("two"))
    again = replace(awaiting(), tried=failed(NOW + 1, 2, status=None, msg="", delivered=False))
    assert await store.settle(settlement(opened, again, requests=2), T)
    (due,) = await store.lease("two", NOW, NOW + 60, 1, T)
    retried = replace(queued("two", NOW + 9), retries=1, tried=failed(NOW + 2, 0, 1))
    assert await store.finish(due, retried, NOW, T)
    assert await kept_attempts(admin, opened) == (
        failed()._replace(number=1),
        again.tried._replace(number=2) if again.tried else None,
    )
    assert await kept_attempts(admin, opened, "two") == (failed(NOW + 2, 0, 1)._replace(number=1),)


async def test_the_first_attempt_and_the_last_are_kept(store: Store, admin: Admin) -> None:
    """The numbers show how many are not kept."""
    opened = await add(store, replace(awaiting(), tried=failed()))
    for number in range(2, 31):
        row = replace(awaiting(), tried=failed(NOW + number, number))
        assert await store.settle(settlement(opened, row, requests=number), T)
    numbers = [each.number for each in await kept_attempts(admin, opened)]
    assert numbers == [1, *range(11, 31)]
    assert len(numbers) == 1 + LAST


async def test_an_attempt_that_failed_late_is_kept(store: Store, admin: Admin) -> None:
    """It adds a reason that was missing, and recovery waits for it no longer, but still for a later
    attempt. Without such a delivery it is ignored."""
    one = replace(queued("one"), recover_at=NOW + 99)
    two = DeliveryRow("two", State.QUEUED, "", NOW + 9, recover_at=NOW + 9)
    opened = await add(store, one, two)
    for target in ("one", "two", "three"):
        await store.missed(opened.event_id, target, failed(), NOW + 9, T)
    await store.missed("no event", "one", failed(), NOW, T)
    after = await rows(admin, opened)
    assert after == {"one": one, "two": replace(two, reason="code", recover_at=0.0)}
    assert [len(await kept_attempts(admin, opened, name)) for name in ("one", "two")] == [1, 1]


async def test_attempts_count_in_the_size_and_go_with_their_event(place: Place) -> None:
    """They count for the store and the target's share; all of it is released."""
    limits = replace(LIMITS, max_bytes=10_000, share=1.0, keep_dead=0.0)
    async with place.store(limits) as store:
        opened = await add(store, awaiting(), stage=Stage.ENDED)
        before = await store.usage(T)
        await store.missed(opened.event_id, "one", failed(msg="x" * 200), NOW, T)
        after = await store.usage(T)
        assert after.bytes - before.bytes == failed(msg="x" * 200).size > 200
        assert after.deliveries[("one", State.AWAITING)] == 1
        assert await store.acknowledge(opened.event_id, "one", NOW, T)
        assert await store.prune(NOW + 1000, 10, T) == 1
        left = await store.usage(T)
        assert (left.rows, left.bytes, left.fullest) == (0, 0, 0.0)


async def test_attempts_are_the_first_to_go_without(place: Place) -> None:
    """If a target's share is full its attempts are not kept, and all else goes on."""
    limits = replace(LIMITS, max_bytes=2 * SIZE, share=0.5)
    async with place.store(limits) as store, place.admin(limits) as admin:
        opened = await add(store, awaiting("one"), queued("two", NOW + 9))
        assert (await store.usage(T)).full >= {"one", "two"}
        row = replace(awaiting(), tried=failed(NOW + 1, 2))
        assert await store.settle(settlement(opened, row, requests=2), T)
        await store.missed(opened.event_id, "two", failed(), NOW, T)
        assert (await found(store))[opened.event_id].requests == 2
        assert await kept_attempts(admin, opened) == await kept_attempts(admin, opened, "two") == ()


@pytest.mark.parametrize(
    "before", [awaiting(), queued(due_at=NOW + 7), DeliveryRow("one", State.DEAD, "dns")]
)
async def test_a_discard_is_taken_back(store: Store, admin: Admin, before: DeliveryRow) -> None:
    """The delivery gets its former state, retries and usage."""
    before = replace(before, retries=3)
    added = await add(store, before)
    used = (await store.usage(T)).deliveries
    assert await admin.act(action(Verb.DISCARD), await entries(admin)) == 1
    assert await admin.act(action(Verb.RESTORE), await entries(admin)) == 1
    assert (await rows(admin, added))["one"] == before
    assert {k: n for k, n in (await store.usage(T)).deliveries.items() if n} == used


async def test_nothing_is_awaited_from_a_caller_that_has_given_up(
    store: Store, admin: Admin
) -> None:
    """A delivery that was awaited from it is restored as a dead letter."""
    added = await add(store, awaiting(), ends_at=NOW + 1)
    assert await admin.act(action(Verb.DISCARD), await entries(admin)) == 1
    await store.end(NOW + 2, 10, T)
    assert await admin.act(action(Verb.RESTORE), await entries(admin)) == 1
    assert (await rows(admin, added))["one"] == DeliveryRow("one", State.DEAD, "timeout")


async def test_the_event_that_replaced_a_delivery_is_known(store: Store, admin: Admin) -> None:
    """The event that superseded it, or that was acknowledged later."""
    await add(store, awaiting("one"))
    await add(store, awaiting("two"))
    one, two = [entry.event_id for entry in await entries(admin)]
    await store.supersede([one], ["one"], NOW, T, by="event-x")
    closing = await add(store, awaiting("two"))
    assert await store.settle(settlement(closing, acknowledged("two"), stage=Stage.CLOSED), T)
    by = {entry.event_id: entry.later_event for entry in await entries(admin)}
    assert (by[one], by[two]) == ("event-x", closing.event_id)


# Pauses.


async def test_a_pause_is_kept_until_it_is_over(store: Store, admin: Admin) -> None:
    """For every process. Another pause replaces it, and an old one is deleted."""
    made = await pause(admin, "one", "10m", "a move", "ops")
    assert made == Pause("one", NOW, NOW + 600, "a move", "ops")
    assert await store.pauses(T) == await paused(admin) == (made,)
    other = await pause(admin, "one", "1970-01-12T14:46:40Z", "a\tlonger\x1bmove", "night")
    assert (other.until, other.because) == (NOW + 3600, "a longer\N{REPLACEMENT CHARACTER}move")
    assert await store.pauses(T) == (other,)
    await store.prune(other.until + LIMITS.keep_settled - 1, 9, T)
    assert await store.pauses(T) == (other,)
    await store.prune(other.until + LIMITS.keep_settled, 9, T)
    assert await store.pauses(T) == ()


async def test_a_pause_is_ended_once(store: Store, admin: Admin) -> None:
    """With the name of the person; a target without a pause cannot be resumed."""
    made = await pause(admin, "one", "10m", "a move", "ops")
    assert await resume(admin, "two", "ops") is None
    ended = await resume(admin, "one", "night")
    assert ended == replace(made, until=NOW, resumed_by="night")
    assert await store.pauses(T) == (ended,)
    assert await paused(admin) == ()
    assert await resume(admin, "one", "day") is None


@pytest.mark.parametrize(
    ("until", "because", "why"),
    [
        ("soon", "x", "neither a time from now"),
        ("0s", "x", "over already"),
        ("31d", "x", "`paused: true` in routes.yaml"),
        ("10m", " \n", "1 to 200 characters"),
        ("10m", "x" * 201, "1 to 200 characters"),
    ],
)
async def test_a_pause_needs_an_end_and_a_reason(
    admin: Admin, until: str, because: str, why: str
) -> None:
    """Both within bounds; otherwise nothing is written."""
    with pytest.raises(ValueError, match=why):
        await pause(admin, "one", until, because, "ops")
    assert await paused(admin) == ()


# Notices.


async def test_one_of_several_processes_notifies(place: Place) -> None:
    """The first one does; the others see its notice. A second call with the same notice
    succeeds."""
    async with place.store() as one, place.store() as other:
        notices = [Notice("failing", NOW + n) for n in range(16)]
        sent = await asyncio.gather(
            *((one, other)[n % 2].notify("a", made, None, T) for n, made in enumerate(notices))
        )
        assert sorted(sent) == [False] * 15 + [True]
        first = notices[sent.index(True)]
        assert await other.notice("a", T) == first
        assert await one.notify("a", first, None, T)
        assert await other.notify("a", Notice("recovered", NOW + 60), first, T)
        assert not await one.notify("a", Notice("recovered", NOW + 61), first, T)
        assert await one.notice("b", T) is None


async def test_an_old_notice_is_forgotten(store: Store) -> None:
    """As late as a dead letter. A process that remembers it may replace it."""
    old = Notice("failing", NOW)
    assert await store.notify("target.a", old, None, T)
    await store.prune(NOW + LIMITS.keep_dead - 1, 9, T)
    assert await store.notice("target.a", T) == old
    await store.prune(NOW + LIMITS.keep_dead, 9, T)
    assert await store.notice("target.a", T) is None
    assert await store.notify("target.a", Notice("recovered", NOW), old, T)


async def test_no_store_remembers_nothing_and_refuses() -> None:
    """Nothing is found, nothing is due, and durable writes are refused."""
    store: Store = NoStore()
    assert not store.remembers
    with pytest.raises(StoreFailed):
        await store.add(record(), letter(), [awaiting()], T)
    assert not await store.settle(settlement(record()), T)
    assert not await store.acknowledge("event", "one", NOW, T)
    assert (await store.find(letter().digest, T), await store.queue(T)) == ((), {})
    assert (await store.lease("one", NOW, NOW, 1, T), await store.end(NOW, 1, T)) == ((), ())
