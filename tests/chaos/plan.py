"""The actions of one run, all drawn from the seed: they do not depend on what happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from random import Random

from router.contract.schedule import Schedule

#: The targets and their timeouts, in seconds; some outlive the reply.
TIMEOUTS = {"r0": 0.4, "r1": 1.5, "w0": 0.4, "w1": 1.0, "o0": 0.4, "o1": 1.5}


@dataclass(frozen=True, slots=True)
class Times:
    """The schedules of a run and its time limits, in seconds."""

    ebaas: Schedule
    queue: Schedule
    reply_within: float = 0.6
    grace: float = 3.0
    #: All timeouts of targets are so many times as long.
    patience: float = 1.0

    @property
    def ends(self) -> float:
        """Seconds from an event's first request until the router has surely given it up."""
        replies = (1 + self.ebaas.retries) * self.reply_within
        return self.ebaas.total() + replies + self.grace

    def timeout(self, target: str) -> float:
        return TIMEOUTS[target] * self.patience


#: EBaaS's schedule and the queue's, sped up.
QUICK = Times(Schedule((0.3, 0.25), 20), Schedule((0.1, 0.2), 6))

#: With waits during which targets recover.
LONG = Times(Schedule((0.3, 0.25, 2.5), 7), Schedule((0.2, 1.5), 6))

#: For strict runs, in which a machine that stands still for a moment makes nothing late. With
#: several nodes an attempt that outlives its reply is over before EBaaS's next request.
STRICT = Times(Schedule((0.3, 2.5, 4.0), 6), Schedule((0.5, 3.0), 8), 1.5, 3.0, 2.5)
STRICT_NODES = replace(STRICT, ebaas=Schedule((4.0,), 5))

#: Those that no edit of the routes touches: what holds for them holds all the time.
REQUIRED, OPTIONAL = ("r0", "r1"), ("o0", "o1")

#: Those whose side changes.
WANDERING = ("w0", "w1")


class Mood(StrEnum):
    WELL = "well"
    #: It fails, and has not acted.
    CODE = "code"
    STATUS = "status"
    HANGS = "hangs"
    REFUSES = "refuses"
    #: It acts, and answers in time for the attempt, but not for the reply if that is decided first.
    SLOW = "slow"
    #: It acts, and its answer comes about when the attempt is over.
    LATE = "late"
    #: It acts, and says nothing.
    ACTS_AND_HANGS = "acts_and_hangs"
    #: It acts, and the connection breaks.
    ACTS_AND_RESETS = "acts_and_resets"
    #: It acts, and breaks off within the answer.
    BREAKS_OFF = "breaks_off"
    #: It acts, and its 2xx says something else.
    LIES = "lies"
    #: It acts, acknowledges, and says another thing right after it.
    TWO_ANSWERS = "two_answers"


#: How much of the attempt's time those take that are slow, from and to.
_PACES = {Mood.LATE: (0.8, 1.3), Mood.SLOW: (0.55, 0.75)}


class Manner(StrEnum):
    WAITS = "waits"
    #: It closes or resets the connection before it has its reply.
    LEAVES = "leaves"
    RESETS = "resets"
    #: It goes away in the middle of its body.
    CUTS = "cuts"
    #: It gives up, but a proxy in between does not, and reads the reply.
    BEHIND_PROXY = "behind_proxy"


class Blow(StrEnum):
    #: kill -9.
    KILL = "kill"
    #: SIGTERM, and a new one once it has ended.
    TERM = "term"


class Storm(StrEnum):
    """A fault of the database that nodes share, or of one node's way to it."""

    #: The server is stopped, or crashes, and is started again.
    RESTART = "restart"
    CRASH = "crash"
    #: It does nothing at all, and has not ended.
    FREEZE = "freeze"
    #: Connections are reset, and new ones refused.
    REFUSES = "refuses"
    #: Nothing gets through, and no connection breaks.
    CUT_OFF = "cut_off"
    #: Each message takes 100 ms.
    SLOW = "slow"
    #: Connections are reset, new ones too as soon as they are made.
    RESETS = "resets"
    #: Connections are reset in place of an answer: what was asked has come to pass.
    LOSES = "loses"


@dataclass(frozen=True, slots=True)
class Rates:
    """The frequency of faults: chances per attempt, request or event."""

    fails: float
    slow: float
    #: A caller gives an event up after any failure.
    forgets: float
    #: An event is one that a certain target never takes.
    doomed: float
    #: The part of the time in which a target is out as a whole.
    outages: float
    edits: int
    lies: float = 0.0
    leaves: float = 0.0
    proxied: float = 0.0
    twins: float = 0.0
    #: Seconds that the router is up between two blows, on average; 0 for no blows.
    blows: float = 0.0
    #: Seconds between two storms, on average; 0 for none.
    storms: float = 0.0


@dataclass(frozen=True, slots=True)
class Edit:
    """Another routes.yaml; a broken one changes nothing."""

    at: float
    #: The side of each wandering target: required, optional, or out; gone is not defined, and
    #: paused is optional.
    sides: dict[str, str]
    #: The router gets a SIGHUP; otherwise it has to notice by itself.
    signalled: bool
    broken: bool


@dataclass(frozen=True)
class Plan:
    seed: int
    #: How long faults go on.
    seconds: float
    #: Routers on one store, behind a balancer that chooses at random.
    nodes: int = 1
    #: The store is a PostgreSQL database.
    database: bool = False
    #: Events in a second.
    pace: float = 10.0
    #: The engine that speaks HTTP to targets: see `serve --engine`.
    engine: str = "native"
    #: Nothing happens that excuses a duplicate.
    strict: bool = False

    def random(self, *about: object) -> Random:
        return Random("/".join(map(str, (self.seed, *about))))

    @property
    def lasts(self) -> float:
        """The least time of faults, in seconds; it is longer if storms are."""
        return self.seconds

    @cached_property
    def times(self) -> Times:
        if self.strict:
            return STRICT if self.nodes == 1 else STRICT_NODES
        return LONG if self.seed % 2 else QUICK

    @cached_property
    def rates(self) -> Rates:
        """Every run has crashes and few other kinds of faults, so that each kind shows on its
        own. A strict one has targets that fail and recover."""
        random = self.random("rates")

        def maybe(chance: float, least: float, most: float) -> float:
            return random.uniform(least, most) if random.random() < chance else 0.0

        if self.strict:
            return Rates(
                fails=random.uniform(0.02, 0.3),
                slow=random.uniform(0.02, 0.15),
                forgets=maybe(0.3, 0.02, 0.1),
                doomed=maybe(0.5, 0.02, 0.1),
                outages=random.uniform(0.2, 0.5),
                edits=random.choice((0, 2, 4)),
            )
        return Rates(
            fails=random.uniform(0.05, 0.3),
            slow=maybe(0.6, 0.02, 0.15),
            lies=maybe(0.6, 0.02, 0.15),
            leaves=maybe(0.6, 0.05, 0.2),
            proxied=maybe(0.4, 0.05, 0.2),
            twins=maybe(0.5, 0.1, 0.4),
            forgets=maybe(0.4, 0.02, 0.1),
            doomed=random.uniform(0.02, 0.1),
            blows=random.uniform(0.6, 1.6),
            outages=maybe(0.5, 0.1, 0.4),
            edits=random.choice((0, 2, 4)),
            storms=maybe(0.8, 0.5, 2.0),
        )

    @cached_property
    def sendings(self) -> list[tuple[float, int]]:
        random, sendings = self.random("events"), list[tuple[float, int]]()
        for n in range(int(self.pace * self.seconds)):
            twin = random.random() < self.rates.twins and bool(sendings)
            body = random.choice(sendings[-8:])[1] if twin else n
            sendings.append(((n + random.random()) / self.pace, body))
        return sendings

    def blows(self, node: int) -> list[tuple[float, Blow, float]]:
        """Return uptimes, blows and downtimes of a router; more of them than there is time for."""
        random = self.random("blows", node)
        kinds = [Blow.KILL] * 4 + [Blow.TERM]
        downs = [0.0] * 12 + [0.5] * 2 + [2.5]
        count, often = int(self.seconds * 5), self.rates.blows
        return [
            (random.uniform(0.3, 1.7) * often, random.choice(kinds), random.choice(downs))
            for _ in range(count if often else 0)
        ]

    @cached_property
    def storms(self) -> Sequence[tuple[float, StrEnum, int, float]]:
        """Return the start, the kind, the node and the duration of each storm."""
        random, storms, at = self.random("storms"), list[tuple[float, Storm, int, float]](), 0.0
        while self.database and self.rates.storms and at < self.seconds:
            at += random.uniform(0.3, 1.7) * self.rates.storms
            seconds = random.choice((0.0, 0.05, 0.3, 0.6, 1.0, 2.5))
            storms.append((at, random.choice(list(Storm)), random.randrange(self.nodes), seconds))
            at += seconds
        return storms

    @cached_property
    def upgrades(self) -> list[float]:
        """The times at which all nodes are replaced, one after the other."""
        if self.nodes == 1 or self.strict:
            return []
        return [self.random("upgrade").uniform(0.2, 0.8) * self.seconds]

    @cached_property
    def edits(self) -> list[Edit]:
        random = self.random("edits")
        times = sorted(random.uniform(0.5, self.seconds) for _ in range(self.rates.edits))
        sides = ("required", "optional", "out", "gone", "paused")
        return [
            Edit(
                at,
                {wandering: random.choice(sides) for wandering in WANDERING},
                signalled=random.random() < 0.7,
                broken=random.random() < 0.2,
            )
            for at in times
        ]

    @cached_property
    def outages(self) -> dict[str, list[tuple[float, float]]]:
        outages = {}
        for target in TIMEOUTS:
            random, at = self.random("outages", target), 0.0
            outages[target] = list[tuple[float, float]]()
            while self.rates.outages and at < self.seconds:
                out = random.uniform(0.2, 2.0)
                at += random.uniform(0.5, 1.5) * out / self.rates.outages * (1 - self.rates.outages)
                outages[target].append((at, at + out))
                at += out
        return outages

    def doomed(self, target: str, body: int) -> bool:
        """The target never accepts that event; this fault does not end."""
        chance = self.random("doomed", body).random()
        return chance < self.rates.doomed and target == self.random("dooms", body).choice(
            (*REQUIRED, *OPTIONAL)
        )

    def mood(self, target: str, body: int, nth: int) -> tuple[Mood, float]:
        """Return the behaviour of a target in its nth request of that event, and its duration as a
        part of the attempt's time."""
        random, rates = self.random("mood", target, body, nth), self.rates
        chance, pace = random.random(), random.choice((0.0, 0.0, 0.05, 0.2))
        slow = (Mood.HANGS, Mood.ACTS_AND_HANGS, Mood.LATE, Mood.SLOW, Mood.SLOW)
        for moods, rate in (
            ((Mood.CODE, Mood.STATUS, Mood.REFUSES), rates.fails),
            ((Mood.HANGS, Mood.SLOW, Mood.SLOW) if self.strict else slow, rates.slow),
            ((Mood.LIES, Mood.ACTS_AND_RESETS, Mood.BREAKS_OFF, Mood.TWO_ANSWERS), rates.lies),
        ):
            if chance < rate:
                mood = random.choice(moods)
                return mood, random.uniform(*_PACES[mood]) if mood in _PACES else pace
            chance -= rate
        return Mood.WELL, pace

    def manner(self, source: int, nth: int) -> tuple[Manner, float]:
        """Return a caller's behaviour in its nth request, and after how many seconds."""
        random, rates = self.random("manner", source, nth), self.rates
        chance = random.random()
        if chance < rates.leaves:
            manner = random.choice((Manner.LEAVES, Manner.RESETS, Manner.CUTS))
            return manner, random.uniform(0.0, 0.6 * self.times.reply_within)
        if chance < rates.leaves + rates.proxied:
            return Manner.BEHIND_PROXY, random.uniform(0.0, self.times.reply_within)
        return Manner.WAITS, 0.0

    def keeps(self, source: int, nth: int) -> bool:
        return self.random("keeps", source, nth).random() < 0.5

    def forgets(self, source: int, nth: int) -> bool:
        return self.random("forgets", source, nth).random() < self.rates.forgets
