"""Searching a store, the only source if there is no archive."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.archive.reading import Question, Word
from router.archive.trace.lines import EventLine, parse_line
from router.archive.trace.views import stored_events, table
from router.config.settings import parse_store
from router.model.event import Attempt, Event, OutboundEvent, Reason
from router.store.opening import look_into
from router.store.protocol import DeliveryRow, Record, Stage, State, Tried
from tests.support.archived import event_line
from tests.support.effort import many
from tests.support.house import event
from tests.support.inprocess import ran
from tests.support.shop import LIMITS, Shop

TARGETS, KEYS = ("ledger", "audit", "search"), ("a.gs.cert.1", "a.gs.key.1", "b.gs.cert.1")


@dataclass(frozen=True)
class Known:
    event_id: str
    key: str
    body: bytes
    stage: Stage
    first_at: float
    changed_at: float
    rows: tuple[DeliveryRow, ...]

    @property
    def tried(self) -> list[Attempt]:
        return [row.tried.attempt for row in self.rows if row.tried is not None]

    def fits(self, question: Question) -> bool:
        """Decide as docs/how-to/trace.md describes it."""
        reasons = {row.reason for row in self.rows} | {each.reason for each in self.tried}
        reply = "000" if self.stage is Stage.CLOSED else "500"
        codes = {reply, *(a.code for a in self.tried), *(str(a.status) for a in self.tried)}
        return (
            (not question.words or any(self._known_by(word.text) for word in question.words))
            and (not question.targets or any(row.target in question.targets for row in self.rows))
            and (not question.codes or not codes.isdisjoint(question.codes))
            and (not question.failed or reply != "000" or bool(reasons - {"", "acknowledged"}))
            and (question.since is None or self.changed_at >= question.since)
            and (question.until is None or self.first_at < question.until)
        )

    def _known_by(self, word: str) -> bool:
        digest = hashlib.sha256(self.body).hexdigest()
        is_key = word == self.key or ("*" in word and fnmatchcase(self.key, word))
        return is_key or word in (self.event_id, f"of-{self.event_id}") or digest.startswith(word)


@st.composite
def stores(draw: st.DrawFn) -> list[Known]:
    number = draw(st.integers(1, 12))
    changed = draw(st.permutations([1000.0 + 10 * n for n in range(number)]))
    return [_known(draw, n, changed[n]) for n in range(number)]


def _known(draw: st.DrawFn, number: int, changed_at: float) -> Known:
    names = draw(st.lists(st.sampled_from(TARGETS), min_size=1, unique=True))
    return Known(
        f"event-{number}",
        draw(st.sampled_from(KEYS)),
        event(changes=[f"order-{number}"]),
        draw(st.sampled_from(Stage)),
        changed_at - draw(st.sampled_from((0.0, 15.0, 100.0))),
        changed_at,
        tuple(_row(draw, name, changed_at) for name in names),
    )


def _row(draw: st.DrawFn, target: str, at: float) -> DeliveryRow:
    state = draw(st.sampled_from((State.ACKNOWLEDGED, State.DEAD, State.QUEUED)))
    reason = "acknowledged" if state is State.ACKNOWLEDGED else draw(st.sampled_from(("", "code")))
    tried = None
    if draw(st.booleans()):
        status, code = draw(st.sampled_from(((200, "700"), (503, ""), (None, ""))))
        attempt = Attempt(Reason.CODE, True, 0.1, status, at=at, code=code)
        tried = Tried(attempt, request=1)
    return DeliveryRow(target, state, reason, due_at=at, tried=tried)


#: `digest` stands for the digest of the first event.
WORDS = (
    *("event-0", "of-event-1", "a.gs.cert.1", "a.gs.*", "*.cert.1"),
    *("digest", "whole digest", "cert"),
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    def some(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), max_size=2, unique=True)))

    digest = hashlib.sha256(event(changes=["order-0"])).hexdigest()
    spelt = {"digest": digest[:8], "whole digest": digest}
    times = st.none() | st.floats(900, 1200).map(round)
    return Question(
        words=tuple(Word(spelt.get(word, word)) for word in some(WORDS)),
        targets=some(TARGETS),
        codes=some(("000", "500", "700", "503", "404")),
        failed=draw(st.booleans()),
        since=draw(times),
        until=draw(times),
    )


@settings(
    max_examples=many(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(known=stores(), question=questions(), limit=st.integers(1, 5))
def test_a_search_finds_what_a_naive_one_does(
    shop: Shop, known: list[Known], question: Question, limit: int
) -> None:
    """The search returns the newest events that fit, up to the limit."""
    shop.forget()
    for one in known:
        put(shop, one)
    fitting = sorted((e for e in known if e.fits(question)), key=lambda e: -e.changed_at)
    assert found_in(shop, question, limit) == [e.event_id for e in fitting[:limit]]


def put(shop: Shop, known: Known) -> None:
    at = known.changed_at
    record = Record(known.event_id, known.stage, known.first_at, 1, at, at, at, at + 1e12)
    source, topic, kind, status = known.key.split(".")
    parts = Event(source, topic, kind, status, known.key, known.body)
    digest = hashlib.sha256(known.body).digest()
    shop.put(record, OutboundEvent(parts, digest, f"of-{known.event_id}"), known.rows)


def found_in(shop: Shop, question: Question, limit: int) -> list[str]:
    async def look() -> list[str]:
        store = parse_store(shop.option)
        assert store is not None
        ops = await look_into(store, LIMITS)
        try:
            return [each.event_id for each in await stored_events(ops, question, limit)]
        finally:
            await ops.close()

    return asyncio.run(look())


def test_one_that_failed_is_found_before_many_that_did_not(shop: Shop) -> None:
    """`--failed` and the target's code find it, without an archive."""
    output = Attempt(Reason.CODE, True, 0.1, 200, at=1.0, code="700")
    bad = Tried(output, request=1)
    shop.add("bad", DeliveryRow("ledger", State.AWAITING, "code", tried=bad), stage=Stage.OPEN)
    fine = DeliveryRow("ledger", State.ACKNOWLEDGED, "acknowledged")
    for number in range(25):
        shop.add(f"fine-{number}", fine, ago=50 - number, stage=Stage.CLOSED)
    nowhere_else = ("--archive", "none", "--store", shop.option, "--format", "json")
    for asked in ("--failed", "--code=700", "--code=500"):
        shown = ran("trace", asked, "--target", "ledger", *nowhere_else)
        assert (shown.code, shown.json["event_id"]) == (0, "bad")


def test_newer_events_that_do_not_fit_do_not_count_towards_the_limit(shop: Shop) -> None:
    """A target that alone may be seen has its code found behind codes of others."""
    output = Tried(Attempt(Reason.CODE, True, 0.1, 200, at=1.0, code="700"), request=1)
    code = DeliveryRow("ledger", State.AWAITING, "code", tried=output)
    shop.add("right", code, stage=Stage.OPEN, ago=100)
    for number in range(3):
        silent = DeliveryRow("ledger", State.AWAITING, "timeout")
        others = DeliveryRow("audit", State.AWAITING, "code", tried=output)
        shop.add(f"wrong-{number}", silent, others, stage=Stage.OPEN, ago=50 - number)
    question = Question(codes=("700",), seen=("ledger",))
    assert found_in(shop, question, 1) == ["right"]


def test_another_line_of_a_listed_event_is_not_more() -> None:
    """A search lists each event once, by its newest line."""
    newest, older, other = (line_of(name, ago) for name, ago in (("a", 1), ("a", 2), ("b", 3)))
    assert table([newest, older], 1) == ([newest], False)
    assert table([newest, older, other], 1) == ([newest], True)


def line_of(event_id: str, ago: float) -> EventLine:
    line = parse_line(event_line(event_id, ago))
    assert line is not None
    return line
