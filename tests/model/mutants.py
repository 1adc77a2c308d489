"""The rules, each left out in turn: every one of these breaks a promise in some history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from router.delivery import queue, recovery, rules
from router.delivery.forwarder import Forwarder
from router.delivery.memory import Memory, Outcome, RequestMemory
from router.delivery.queue import Queue
from router.delivery.rules import Delivery
from router.model import event
from router.store.protocol import DeliveryRow, Due, Settlement, State, StoreFailed
from router.store.sqlite.statements import Statements
from tests.model.world import SimulatedStore

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change that leaves one rule out."""

    #: The rule's number, and what is left out of it.
    rule: str
    leave_out: Callable[[Patch], None]
    #: A history that catches it.
    seed: int
    #: The scene that the history is of, where it is no random one.
    scene: str = ""


async def _nothing(*_: Any, **__: Any) -> Any:
    return None


def put(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    """Return a change of one attribute."""
    return lambda patch: patch.setattr(owner, name, value)


#: A property that is false, whatever it is set to.
_NEVER = property(lambda self: False, lambda *_: None)


def _same(_: Any, record: Any) -> Any:
    return record


def _not_acknowledged(delivery: Delivery) -> bool:
    return delivery.row is None or delivery.row.state is not State.ACKNOWLEDGED


def _too_early(first_at: float, terms: Any) -> float:
    return float(first_at + terms.ebaas.total() + terms.grace)


def hang_up_not_noticed(patch: Patch) -> None:
    real: Any = Forwarder.forward

    async def deaf(self: Forwarder, *given: Any) -> Any:
        given = (*given[:-1], asyncio.get_running_loop().create_future())
        return await real(self, *given)

    patch.setattr(Forwarder, "forward", deaf)


def queued_counts_as_acknowledged(patch: Patch) -> None:
    def acknowledged(self: Delivery) -> bool:
        if self.attempt is not None:
            return self.attempt.acknowledged
        return self.row is not None and self.row.state in (State.ACKNOWLEDGED, State.QUEUED)

    def needed(self: Delivery) -> bool:
        return self.row is None or self.row.state is State.AWAITING

    patch.setattr(Delivery, "needed", property(needed))
    patch.setattr(Delivery, "acknowledged", property(acknowledged))


def removed_target_left_queued(patch: Patch) -> None:
    real = Queue._retry

    async def retry(self: Queue, due: Due, in_force: Any, *rest: Any) -> None:
        if due.row.target in in_force.targets:
            await real(self, due, in_force, *rest)

    patch.setattr(Queue, "_retry", retry)


def claims_shared(patch: Patch) -> None:
    real = Memory._recognise

    def recognise(self: Memory, recalled: RequestMemory, *rest: Any) -> None:
        with pytest.MonkeyPatch.context() as alone:
            alone.setattr(Memory, "_rivals", lambda self, recalled: [])
            real(self, recalled, *rest)

    patch.setattr(Memory, "_recognise", recognise)


def closed_without_looking(patch: Patch) -> None:
    real = Statements.settle

    def settle(self: Statements, settlement: Any) -> bool:
        real(self, settlement)
        return True

    patch.setattr(Statements, "settle", settle)


def closed_after_the_reply(patch: Patch) -> None:
    real = Memory.answer

    async def answer(self: Memory, outcome: Outcome, timeout: float) -> bool:
        if outcome.recalled.record is None:
            return await real(self, outcome, timeout)

        async def later() -> None:
            await asyncio.sleep(2.0)
            with suppress(StoreFailed):
                await self._commit(outcome, timeout)

        asyncio.create_task(later())  # noqa: RUF006
        return True

    patch.setattr(Memory, "answer", answer)


def spent_credit_comes_back(patch: Patch) -> None:
    real = Statements.settle

    def settle(self: Statements, settlement: Settlement) -> bool:
        settled = real(self, settlement)
        again = (settlement.record.credit_revoked, settlement.record.event_id)
        self._execute("UPDATE events SET spent = ? WHERE event_id = ?", again)
        return settled

    patch.setattr(Statements, "settle", settle)


def blind_answers_forgotten(patch: Patch) -> None:
    patch.setattr(Memory, "write_pending", _nothing)
    real = Memory.answer

    async def answer(self: Memory, outcome: Outcome, timeout: float) -> bool:
        result = await real(self, outcome, timeout)
        self._blindly = 0
        return result

    patch.setattr(Memory, "answer", answer)


def meanwhile_forgotten(patch: Patch) -> None:
    real = Memory.write_pending

    async def write_pending(self: Memory, timeout: float) -> None:
        if self._blindly:
            await self._store.revoke_all_credit(timeout)
            self._blindly = 0
        await real(self, timeout)

    patch.setattr(Memory, "write_pending", write_pending)


def recorded_beside_others(patch: Patch) -> None:
    real = Memory.record

    async def record(self: Memory, outcome: Outcome, timeout: float) -> bool:
        before = [(other, other.other_event_ids) for other in self._rivals(outcome.recalled)]
        work = asyncio.ensure_future(real(self, outcome, timeout))
        await asyncio.sleep(0)
        for other, others in before:
            other.other_event_ids = others
        return await work

    patch.setattr(Memory, "record", record)


def attempt_in_flight_repeated(patch: Patch) -> None:
    class Forgetful(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return None

    real = Memory.__init__

    def init(self: Memory, store: Any) -> None:
        real(self, store)
        self._attempts = Forgetful()

    patch.setattr(Memory, "__init__", init)


async def _none_ended(*_: Any) -> tuple[()]:
    return ()


def retry_has_a_new_id(patch: Patch) -> None:
    real = RequestMemory.claim

    def claim(self: RequestMemory, kept: Any) -> None:
        before = self.event_id
        real(self, kept)
        self.event_id = before

    patch.setattr(RequestMemory, "claim", claim)


def leases_not_kept(patch: Patch) -> None:
    real = Statements.lease

    def lease(self: Statements, target: str, now: float, until: float, *rest: Any) -> Any:
        # A lease for recovery ends as it should: the queue's is enough to break a promise.
        return real(self, target, now, now if rest[-1] is None else until, *rest)

    patch.setattr(Statements, "lease", lease)


def dead_letters_dropped(patch: Patch) -> None:
    real = Statements.finish

    def finish(self: Statements, due: Due, row: DeliveryRow, now: float) -> bool:
        if row.state is State.DEAD:
            row = replace(row, state=State.SUPERSEDED)
        return real(self, due, row, now)

    patch.setattr(Statements, "finish", finish)


def queue_never_gives_up(patch: Patch) -> None:
    real = rules.row_after_retry

    def retried(row: DeliveryRow, *rest: Any) -> DeliveryRow:
        after = real(row, *rest)
        if after.state is State.DEAD:
            return replace(after, state=State.QUEUED, due_at=1e9 + 100.0)
        return after

    patch.setattr(queue, "row_after_retry", retried)


def nothing_is_own_doing(patch: Patch) -> None:
    for module in (rules, queue):
        patch.setattr(module, "SELF_INFLICTED", frozenset())


def deaf_at_the_end(patch: Patch) -> None:
    real: Any = Forwarder._commit_or_record

    async def settle(self: Forwarder, *given: Any) -> None:
        await real(self, *given[:-1], asyncio.get_running_loop().create_future())

    patch.setattr(Forwarder, "_commit_or_record", settle)


def acknowledged_if_leased(patch: Patch) -> None:
    async def recorded(self: Queue, retry: queue.Retry) -> bool:
        return await self._store.finish(retry.due, retry.row, self._store.now(), 10.0)

    patch.setattr(Queue, "_recorded", recorded)


def late_attempts_unseen(patch: Patch) -> None:
    real = rules._row_after_request

    def row_after(*given: Any) -> DeliveryRow | None:
        row = real(*given)
        return None if row is None else replace(row, recover_at=0.0)

    patch.setattr(rules, "_row_after_request", row_after)


def refusals_recovered_again(patch: Patch) -> None:
    patch.setattr(recovery, "left_alone", lambda due, row, now: row)
    patch.setattr(queue, "left_alone", lambda due, row, now: row)


def _without_margin(patch: Patch) -> None:
    """The queue's margin around EBaaS's requests, which is for other processes, hides what its own
    memory does."""
    patch.setattr(queue, "request_window", lambda *_: (0.0, 0.0))


def queue_repeats(patch: Patch) -> None:
    _without_margin(patch)
    patch.setattr(Delivery, "is_queued_but_required", _NEVER)


def recovery_forgets_what_it_joined(patch: Patch) -> None:
    _without_margin(patch)
    real = Memory.to_join

    def to_join(self: Memory, key: Any, recalled: Any = None) -> Any:
        return None if recalled is None else real(self, key, recalled)

    patch.setattr(Memory, "to_join", to_join)


ALL = [
    Mutant("1: bodies are not told apart", put(event, "digest_of", lambda body: b"one for all"), 4),
    Mutant("2: optionals are not queued", put(Delivery, "settled", property(lambda self: True)), 3),
    Mutant("3: failures are not recorded", put(Memory, "record", _nothing), 2),
    Mutant("3: a hang-up is noticed at the end", hang_up_not_noticed, 539),
    Mutant("3: a late write gives credit", put(SimulatedStore, "too_late", _same), 6881),
    Mutant("4: a retry goes to all", put(Delivery, "needed", property(lambda self: True)), 2),
    Mutant(
        "4: a retry goes to queued ones", put(Delivery, "needed", property(_not_acknowledged)), 90
    ),
    Mutant("4: queued is as good as acknowledged", queued_counts_as_acknowledged, 1866),
    Mutant("4: what has left the plan stays", put(rules, "left_behind", lambda *_: []), 114),
    Mutant("4: the queue keeps a removed target's deliveries", removed_target_left_queued, 34),
    Mutant("5: a claim is shared", claims_shared, 64),
    Mutant("6: a close that changes no row is taken for one", closed_without_looking, 438),
    Mutant("6: the record is closed after the 000", closed_after_the_reply, 0),
    Mutant(
        "8: credit never ends", put(rules, "has_credit", lambda of, now: not of.credit_revoked), 348
    ),
    Mutant("8: others keep their credit", put(Statements, "_revoke_others", lambda *_: None), 2833),
    Mutant("8: 000s that were given blindly are forgotten", blind_answers_forgotten, 3833),
    Mutant("8: the overtaken have credit", put(RequestMemory, "overtaken", _NEVER), 4581),
    Mutant("11: a record made meanwhile is not superseded", recorded_beside_others, 1533),
    Mutant("9: a late acknowledgement is dropped", put(Memory, "late", _nothing), 91),
    Mutant("9: an attempt in flight is repeated", attempt_in_flight_repeated, 835),
    Mutant("9: the queue repeats attempts", queue_repeats, 1370),
    Mutant("10: records never end", put(SimulatedStore, "end", _none_ended), 4),
    Mutant("10: a record ends too early", put(rules, "ends_at", _too_early), 403),
    Mutant("11: the unclaimed is kept", put(Statements, "supersede", lambda *_: None), 947),
    Mutant("12: a retry has a new id", retry_has_a_new_id, 2),
    Mutant("queue: leases are not kept", leases_not_kept, 1679),
    Mutant("queue: dead letters are dropped", dead_letters_dropped, 4),
    Mutant("queue: it never gives up", queue_never_gives_up, 219),
    Mutant("queue: what is not sent costs a retry", nothing_is_own_doing, 107),
    Mutant("3: deaf in the optional window", deaf_at_the_end, 19, "optional_window"),
    Mutant(
        "13: a refused close is lost", put(Memory, "_owe_rows", lambda *_: None), 87, "two_nodes"
    ),
    Mutant("9: it counts under a lease only", acknowledged_if_leased, 5, "lost_lease"),
    Mutant("8: spent credit comes back", spent_credit_comes_back, 49, "two_nodes"),
    Mutant("8: forgotten while it revokes", meanwhile_forgotten, 333, "slow_spending"),
    Mutant(
        "13: blind, nothing superseded",
        put(Memory, "_owe_blind_reply", lambda *_: None),
        11,
        "outage",
    ),
    Mutant("13: what is owed is dropped", put(Memory, "_owe", lambda *_: None), 0, "late_outage"),
    Mutant(
        "15: recovery sends what a request is at", put(Memory, "is_claimed", lambda *_: False), 26
    ),
    Mutant("15: a late attempt is not waited for", late_attempts_unseen, 207, "recovery_nodes"),
    Mutant(
        "15: EBaaS is about to come",
        put(queue, "request_window", lambda *_: (0.0, 0.0)),
        181,
        "recovery_nodes",
    ),
    Mutant(
        "16: leases are not seen",
        put(DeliveryRow, "is_being_sent", lambda *_: False),
        29,
        "recovery_nodes",
    ),
    Mutant("14: refusals are sent again", refusals_recovered_again, 13, "recovery"),
    Mutant("15: recovery repeats attempts", recovery_forgets_what_it_joined, 1370),
]
