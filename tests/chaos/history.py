"""The events of a run, as callers, targets and the test itself have seen them. Times are Unix time,
in seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from time import monotonic, time
from typing import Any

from tests.chaos.plan import REQUIRED, Manner, Times

#: How long the router may take to notice that a caller has gone, or to make something durable,
#: in seconds, and how many times longer than this program is itself kept waiting.
_MARGIN, _PER_LAG = 0.25, 3.0

#: How much earlier than it must a reply is no late one, in seconds.
_LAST_MOMENT = 0.05

#: How long this program may be kept waiting until a run counts as disturbed, in seconds.
_DISTURBS = 0.3

#: How often that is measured, in seconds.
_TICK = 0.01

#: How long a store that was too slow leaves traces, in seconds.
STORE_TROUBLE = 3.0


@dataclass(frozen=True, slots=True)
class Line:
    at: float
    fields: dict[str, Any]

    @property
    def store_failed(self) -> bool:
        """The store was unreachable or too slow for it."""
        return (
            self.fields.get("cause") == "store"
            or "unrecorded" in self.fields
            or self.fields["happening"] == "store"
        )

    @property
    def timed_out(self) -> Iterator[tuple[str, str]]:
        """The attempts in this line that timed out, by event id and target."""
        event_id = self.fields.get("event_id", "")
        if self.fields.get("reason") == "timeout":
            yield event_id, self.fields["target"]
        if self.fields["happening"] == "event":
            for target, attempt in self.fields["targets"].items():
                if attempt.get("reason") == "timeout":
                    yield event_id, target


def lines(log: Path) -> Iterator[Line]:
    for line in log.read_text().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # its process died in the middle of it
        yield Line(datetime.fromisoformat(fields["time"]).timestamp(), fields)


@dataclass(eq=False)
class Source:
    """An event as its caller knows it."""

    number: int
    body: int
    requests: list[Request] = field(default_factory=list)

    @property
    def arrived(self) -> float | None:
        """The time at which its first request reached a router."""
        return min((r.began for r in self.requests if r.reached), default=None)

    @property
    def last_contact(self) -> float:
        return max((r.ended for r in self.requests if r.reached), default=0.0)

    @property
    def answered(self) -> bool:
        return any(r.code == "000" and not r.left for r in self.requests)


@dataclass(eq=False)
class Request:
    """One request of a caller, with a name, so that targets know whose it is."""

    source: Source
    number: int
    manner: Manner
    began: float
    #: When its whole body was on a connection to a router; only then it is an event.
    reached: bool = False
    #: The node that got it.
    node: int = 0
    #: Its caller has gone without a reply.
    left: bool = False
    #: The code that was read, by its caller or by a proxy; `""` for none.
    code: str = ""
    #: When a reply was read, or the caller had gone, or the connection broke.
    ended: float = 0.0

    @property
    def name(self) -> str:
        return f"s{self.source.number}-r{self.number}"

    @property
    def broken(self) -> bool:
        """No reply came, though the caller waited for it."""
        return self.reached and not self.code and not self.left


@dataclass(eq=False)
class Seen:
    """One request to a target, as the target knows it."""

    target: str
    body: int
    #: The caller's request that it belongs to, or the first of its record.
    request: str
    event_id: str
    #: `callback`, `retry`, `queue` or `recovery`.
    cause: str
    mood: str
    began: float
    ended: float = 0.0
    acted: bool = False
    #: Its whole acknowledgement was written to a connection that still stood.
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Struck:
    """A router was ended; or the store, or a node's way to it, had a fault."""

    at: float
    blow: StrEnum
    #: When all that it hit was gone, or the fault was over.
    over: float
    node: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    required: frozenset[str]
    optional: frozenset[str]
    written: float
    #: Until when an older one may have been in force.
    taken: float


@dataclass
class History:
    times: Times
    sources: list[Source] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    storms: list[Struck] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    edits: int = 0
    #: Failures of the router that the test did not cause.
    faults: list[str] = field(default_factory=list)
    #: The longest that this program was kept waiting: how busy the machine is. Seconds.
    lag: float = 0.0
    #: The lines of the routers' logs, over all their lives.
    lines: list[Line] = field(default_factory=list)
    began: float = field(default_factory=time)

    @property
    def requests(self) -> Iterable[Request]:
        return (request for source in self.sources for request in source.requests)

    @property
    def is_disturbed(self) -> bool:
        """The machine was so busy that the store failed or attempts may have timed out."""
        return self.lag > _DISTURBS or any(line.store_failed for line in self.lines)

    @property
    def margin(self) -> float:
        """The longest duration of an immediate action of the router."""
        return _MARGIN + _PER_LAG * self.lag

    async def measure_lag(self) -> None:
        while True:
            began = monotonic()
            await asyncio.sleep(_TICK)
            self.lag = max(self.lag, monotonic() - began - _TICK)

    def recorded(self, request: Request) -> bool:
        """Return whether its caller got a failure, so that it is in the store, unless the router's
        line says otherwise. A router that died before its line may have replied without waiting for
        a slow store."""
        if request.code != "500":
            return False
        if request.name in self._lines:
            return "unrecorded" not in self._lines[request.name].fields
        in_time = request.ended - request.began < self.times.reply_within - _LAST_MOMENT
        return in_time and not self.store_failed(request.began, request.ended)

    def wait_after(self, request: Request) -> float:
        """Return how long its router expects to wait; the least if it died before its line."""
        line, waits = self._lines.get(request.name), self.times.ebaas
        made = line.fields.get("request") if line is not None else None
        return min(waits.waits) if made is None else waits.wait(made - 1) or 0.0

    def answered_blindly(self, source: Source) -> bool:
        """Its `000` came from a router that did not know the earlier records."""
        lines = (self._lines.get(r.name) for r in source.requests if r.code == "000")
        return any(line is not None and line.fields.get("cause") == "store" for line in lines)

    @cached_property
    def _lines(self) -> dict[str, Line]:
        events = (line for line in self.lines if line.fields["happening"] == "event")
        return {line.fields["request_id"]: line for line in events}

    def accepted(self, source: Source) -> bool:
        """It is in the store, or has been."""
        return any(self.recorded(request) for request in source.requests)

    def store_failed(self, began: float, ended: float) -> bool:
        """The store failed without a fault of the test: a busy machine makes it too slow. The
        router logs that within seconds, and for a while does not ask the store."""
        begin, end = began - STORE_TROUBLE, ended + STORE_TROUBLE
        return any(begin <= line.at <= end for line in self.lines if line.store_failed)

    def in_force(self, request: Request) -> list[Table]:
        """The tables that a request may have started with."""
        before = [t for t in self.tables if t.taken <= request.began]
        between = [t for t in self.tables if t.taken > request.began and t.written <= request.ended]
        return [*before[-1:], *between]

    def required(self, request: Request) -> frozenset[str]:
        """The targets that were required of it, with any table it may have started with."""
        return frozenset.intersection(*(table.required for table in self.in_force(request)))

    def optional(self, request: Request) -> frozenset[str]:
        return frozenset.intersection(*(table.optional for table in self.in_force(request)))

    def always_required(self, sources: Iterable[Source]) -> frozenset[str]:
        """The targets that were required for as long as the requests' records may have lived."""
        requests = [request for source in sources for request in source.requests]
        began = min(request.began for request in requests)
        over = max(request.ended for request in requests) + self.times.ends
        if any(began <= table.taken and table.written <= over for table in self.tables[1:]):
            return frozenset(REQUIRED)
        return frozenset.intersection(*map(self.required, requests))
