"""The faults of one history, drawn from its seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances are per happening; a history has few kinds of trouble, so that each shows alone. By
    default there is none."""

    #: Events, and how many of them have the same body.
    events: int = 1
    bodies: int = 50
    #: Seconds over which the events come.
    span: float = 10.0
    required: int = 2
    optional: int = 0
    #: Routers on one store.
    processes: int = 1
    #: One of the targets never acknowledges anything.
    dead: bool = False
    #: A target fails plainly, answers too late, or acts and says it has not.
    fails: float = 0.0
    slow: float = 0.0
    lies: float = 0.0
    #: An attempt takes up to so long where all is well, in seconds.
    pace: float = 0.5
    #: A caller goes away within so many seconds: noticed, or kept alive by a proxy.
    hangs_up: float = 0.0
    patience: float = 1.0
    unnoticed: float = 0.0
    #: A request or a reply is lost on its way.
    request_lost: float = 0.0
    reply_lost: float = 0.0
    #: A caller gives an event up for no reason.
    forgets: float = 0.0
    #: A store call fails, misses its timeout and commits or not, or just takes its time.
    store_fails: float = 0.0
    store_slow: float = 0.0
    #: How much later than its timeout such a write comes to pass.
    late_by: float = 0.0
    #: The effects, counted over the history, at which a process dies.
    crashes: frozenset[int] = frozenset()
    #: When the clock jumps, and by how much.
    steps: tuple[tuple[float, float], ...] = ()
    #: When a target of the plan changes sides, or leaves it.
    changes: tuple[float, ...] = ()
    #: An attempt is not even begun, by the router's own doing.
    shut: float = 0.0
    #: When the store can't be reached.
    away: tuple[float, float] = (0.0, 0.0)
    #: When each event comes; at random, where there are none.
    starts: tuple[float, ...] = ()
    #: A process stands still while an attempt is in flight, until any lease is over.
    stalls: float = 0.0
    #: How long `revoke_all_credit` takes at most to return once it has committed, in seconds.
    lag: float = 0.0


def weather(seed: int) -> Weather:
    """Some histories are of every kind; the others look where two things have to meet."""
    kind = _kind(seed)
    if seed % 16 == 7 or seed % 40 == 27:
        return replace(kind, shut=Random(f"shut {seed}").uniform(0.1, 0.9))
    return kind


def _kind(seed: int) -> Weather:
    random = Random(seed)
    given = _any(random)
    kinds = (_twins, _slow_store, _changing_routes, _one_event, _silence, _overlap, _twins)
    if seed % 8 == len(kinds):
        return given
    found = kinds[seed % 8](given, random)
    return replace(found, processes=2) if seed % 8 == 6 else found


def _any(random: Random) -> Weather:
    def maybe(chance: float, low: float, high: float) -> float:
        return random.uniform(low, high) if random.random() < chance else 0.0

    def some(chance: float, most: int) -> int:
        return random.randint(1, most) if random.random() < chance else 0

    events = random.choice((1, 1, 2, 2, 3, 4))
    return Weather(
        events=events,
        bodies=random.choice((1, 1, events)),
        span=random.choice((0.0, 3.0, 30.0, 120.0, 400.0)),
        required=random.choice((1, 2, 2, 3)),
        optional=random.choice((0, 0, 1, 2)),
        processes=2 if random.random() < 0.3 else 1,
        dead=random.random() < 0.15,
        fails=maybe(0.8, 0.1, 0.7),
        slow=maybe(0.3, 0.1, 0.5),
        lies=maybe(0.25, 0.1, 0.5),
        pace=random.choice((0.05, 0.5, 3.0, 12.0)),
        hangs_up=maybe(0.3, 0.1, 0.6),
        patience=random.choice((1.0, 10.0)),
        unnoticed=maybe(0.25, 0.1, 0.6),
        request_lost=maybe(0.2, 0.1, 0.5),
        reply_lost=maybe(0.2, 0.1, 0.5),
        forgets=maybe(0.2, 0.1, 0.3),
        store_fails=maybe(0.2, 0.02, 0.4),
        store_slow=maybe(0.3, 0.05, 0.4),
        late_by=random.choice((0.0, 2.5, 5.0)),
        crashes=frozenset(random.sample(range(1, 150), some(0.3, 3))),
        steps=tuple(
            (random.uniform(0, 60), random.choice((-300.0, -20.0, -0.5, 20.0, 300.0)))
            for _ in range(some(0.15, 1))
        ),
        changes=tuple(random.uniform(0, 60) for _ in range(some(0.2, 2))),
    )


def _twins(given: Weather, random: Random) -> Weather:
    """Events with one body, callers that a proxy keeps alive, and targets that fail: which record
    is whose?"""
    return replace(
        _quiet(given),
        events=random.choice((2, 3, 4)),
        bodies=1,
        span=random.choice((3.0, 20.0, 40.0)),
        required=random.choice((1, 2)),
        optional=0,
        fails=random.uniform(0.2, 0.7),
        pace=random.choice((0.5, 3.0, 5.0)),
        hangs_up=random.uniform(0.2, 0.8),
        patience=random.choice((0.3, 2.0)),
        unnoticed=random.uniform(0.3, 1.0),
    )


def _overlap(given: Weather, random: Random) -> Weather:
    """A retry is answered while its request, kept alive by a proxy, is still under way."""
    return replace(
        _quiet(given),
        events=2,
        bodies=1,
        span=15.0,
        required=2,
        optional=0,
        fails=random.uniform(0.2, 0.5),
        pace=random.choice((3.0, 5.0)),
        hangs_up=0.5,
        patience=0.3,
        unnoticed=1.0,
    )


def _slow_store(given: Weather, random: Random) -> Weather:
    """Writes that come to pass too late, between events with one body."""
    return replace(
        _quiet(given),
        events=random.choice((2, 3)),
        bodies=1,
        span=random.choice((8.0, 40.0)),
        required=random.choice((1, 2)),
        fails=random.uniform(0.2, 0.6),
        pace=0.5,
        store_slow=random.uniform(0.2, 0.7),
        late_by=2.5,
        store_fails=random.choice((0.0, 0.0, 0.3)),
    )


def _changing_routes(given: Weather, random: Random) -> Weather:
    return replace(
        _quiet(given),
        optional=2,
        fails=random.uniform(0.3, 0.8),
        changes=tuple(random.uniform(0, 40) for _ in range(random.randint(2, 6))),
        bodies=50,
        pace=random.choice((given.pace, 1.5, 3.0)),
    )


def _one_event(given: Weather, random: Random) -> Weather:
    """No twins, so that no target may see anything twice."""
    return replace(
        _quiet(given),
        events=random.choice((1, 3)),
        bodies=50,
        fails=random.uniform(0.2, 0.7),
        hangs_up=random.choice((0.0, 0.5)),
        crashes=given.crashes,
    )


def _silence(given: Weather, random: Random) -> Weather:
    """Callers that give up without a word, and later events with the same body."""
    return replace(
        _quiet(given),
        events=2,
        bodies=1,
        span=random.choice((60.0, 200.0)),
        required=2,
        fails=random.uniform(0.3, 0.6),
        forgets=random.uniform(0.3, 0.9),
    )


#: The faults that would excuse anything.
_EXCUSES = ("processes", "slow", "lies", "hangs_up", "unnoticed", "request_lost", "reply_lost",
            "forgets", "store_fails", "store_slow", "crashes", "steps", "changes")  # fmt: skip


def _quiet(given: Weather) -> Weather:
    return replace(given, **{name: getattr(Weather(), name) for name in _EXCUSES})


#: What a random history hardly ever comes to. Each is played from seeds, as a history is.
SCENES: dict[str, Weather] = {
    # Retries that get their 000 while the store fails, of events that were recorded before.
    "outage": Weather(events=3, fails=0.4, store_fails=0.35),
    # Late acknowledgements, and those of a close, that the store does not take.
    "late_outage": Weather(events=3, fails=0.5, store_fails=0.3, pace=4.0),
    # Two nodes go on with one record, and one of them is late to close it.
    "two_nodes": Weather(
        events=2, bodies=1, starts=(0.0, 2.0), processes=2, fails=0.6, pace=3.0, away=(0.9, 1.4)
    ),
    # Callers hang up while the optional target has its 50 ms.
    "optional_window": Weather(
        events=4, required=1, optional=1, pace=0.15, hangs_up=0.7, patience=0.3
    ),
    # A 000 is given blindly after `revoke_all_credit` has committed and before it returns.
    "slow_spending": Weather(
        events=3,
        bodies=1,
        starts=(4.5, 5.3, 9.0),
        away=(4.0, 4.95),
        fails=0.3,
        store_fails=0.4,
        pace=0.1,
        lag=6.0,
    ),
    # An acknowledgement comes when another process has the lease.
    "lost_lease": Weather(
        events=4, span=300.0, required=1, optional=1, processes=2, fails=0.75, stalls=0.5
    ),
    # A target fails and works again, between requests that are half a minute apart.
    "recovery": Weather(events=10, span=60.0, optional=1, fails=0.5, pace=0.3),
    # The same with two nodes, whose callers come at any time, and attempts that outlive requests.
    "recovery_nodes": Weather(events=4, span=60.0, processes=2, fails=0.35, slow=0.1, pace=6.0),
}
