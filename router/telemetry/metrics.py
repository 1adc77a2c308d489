"""Every number that the router counts: each metric with its name, help and label, declared once.

The rest follows from two tables, `TargetMetrics` and `Metrics`: the series that exist from the
start, what `/metrics` shows (scrape.py), and docs/reference/metrics.md (`make docs`).

Counting is an addition to a plain number. Nothing here takes a lock or knows Prometheus. A number
is changed on the event loop's thread, or by one other thread alone.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from router import __version__
from router.model.build import COMPILED
from router.model.event import FIELDS, SELF_INFLICTED, SUCCESS, Attempt, Event, Reason

METRIC_PREFIX: Final = "ebaas_router_"

#: `info` is a gauge that is always 1: what it says is in its labels.
Kind = Literal["counter", "gauge", "histogram", "info"]

#: The seconds without an occurrence after which a Recent counts anew: EBaaS waits at most an hour
#: for a retry.
RECENT_GAP: Final = 3900.0

_UNITS: Final = ("seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class Label:
    """One dimension of a metric, and the values that exist from the start. The values are the
    router's own words, never an event's content."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of a table. Metrics of targets have the label `target` besides."""

    name: str
    kind: Kind
    help: str
    label: Label | None = None
    #: Upper bounds of a histogram's buckets; `+Inf` comes by itself.
    buckets: tuple[float, ...] = ()
    #: Its number may be None: then there is no series.
    may_be_absent: bool = False

    @property
    def full_name(self) -> str:
        return METRIC_PREFIX + self.name

    @property
    def unit(self) -> str:
        """By the convention of its name; `""` for plain numbers."""
        return next((unit for unit in _UNITS if self.name.endswith("_" + unit)), "")


class Counts(dict[str, float]):
    """A number for each value of a label. One that was not there from the start begins at 0."""

    def __missing__(self, _: str) -> float:
        return 0

    def copy(self) -> Counts:
        return Counts(self)


class Histogram:
    """How often a value fell into each bucket, and the sum of all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: One more than the bounds: the last is for what is above all of them.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Histogram:
        copy = Histogram(self.bounds)
        copy.counts, copy.sum = [*self.counts], self.sum
        return copy


@dataclass(slots=True)
class Recent:
    """How often something has happened lately. After RECENT_GAP seconds without it the next
    occurrence starts a new count. Times are Unix time, in seconds; 0 is never."""

    count: int = 0
    since: float = 0.0
    last: float = 0.0

    def add(self, now: float) -> None:
        if now - self.last >= RECENT_GAP:
            self.count, self.since = 0, now
        self.count += 1
        self.last = now


# Each of these declares a field of a table; the field's type says what holds the number.


def counter(name: str, help: str, label: Label | None = None) -> Any:
    """An int, or Counts where there is a label."""
    return _number(Metric(name, "counter", help, label))


def gauge(
    name: str,
    help: str,
    label: Label | None = None,
    *,
    may_be_absent: bool = False,
    first: Callable[[], float] | None = None,
) -> Any:
    """An int or a float, or Counts where there is a label; None at first where it may be absent."""
    metric = Metric(name, "gauge", help, label, may_be_absent=may_be_absent)
    return _number(metric) if first is None else _declared(first, metric)


def histogram(name: str, help: str, buckets: tuple[float, ...]) -> Any:
    """A Histogram."""
    return _declared(lambda: Histogram(buckets), Metric(name, "histogram", help, buckets=buckets))


def info(name: str, help: str, labels: Mapping[str, str] | None = None) -> Any:
    """A mapping of label to value; empty while there is nothing to say."""
    return _declared(lambda: dict(labels or {}), Metric(name, "info", help))


def _number(metric: Metric) -> Any:
    label = metric.label
    if label is None:
        return _declared(lambda: None if metric.may_be_absent else 0, metric)
    return _declared(lambda: Counts(dict.fromkeys(label.values, 0)), metric)


def _declared(first: Callable[[], Any], metric: Metric) -> Any:
    return field(default_factory=first, metadata={"metric": metric})


#: Up to `reply_within` (8 s unless told otherwise) closely, and a little beyond it.
_EVENT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 7.5, 8, 9, 10, 15)

#: Up to a target's `timeout` (5 s unless told otherwise) closely, and a little beyond it.
_ATTEMPT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 4.5, 5, 6, 8, 15)

_LAG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

#: Instead of a code: nobody was there to be told.
_GONE: Final = "gone"

_CODE = Label("code", ("000", "500", _GONE))

_REFUSED = Label("code", ("400", "401", "403", "404", "405", "408", "413", "415", "503", "508"))

#: `unread`: reset, because its peer did not read its reply; `tls`: its handshake came to nothing.
_CUT = Label("code", ("400", "405", "408", "414", "417", "431", "503", "tls", "unread"))

#: The contract's fields; `body` is for what is no JSON object, `other` for fields that only an
#: operator's schema knows.
_FIELD: Final = Label("field", (*FIELDS, "changes", "body", "other"))

_RELOAD = Label("result", ("taken", "refused", "unchanged"))

_REASON = Label("reason", tuple(map(str, Reason)))

_FAILURE = Label("reason", tuple(str(each) for each in Reason if each is not Reason.ACKNOWLEDGED))

#: Why a delivery is dead: how its last attempt ended, or a word where none did.
_DEATH = Label("reason", (*_FAILURE.values, "target_removed", "unknown"))

_STATE = Label("state", ("awaiting", "queued", "dead"))

#: Requests to another path or with another method: they are not callbacks.
_NO_CALLBACK: Final = ("404", "405")

_BREAKER = Label("state", ("closed", "open", "half_open"))

_CAUSE = Label(
    "cause",
    ("crash", "reply_lost", "overlap", "other_process", "expired", "store", "late", "replay"),
)

#: The words of StoreFailed.
_ERROR = Label(
    "error",
    (
        *("slow", "full", "disk_full", "locked", "read_only", "io", "corrupt", "unreachable"),
        *("sqlite", "postgresql", "gone", "lost", "refused", "connections", "memory", "closed"),
    ),
)

_BUILD: Final = {
    "version": __version__,
    "python": platform.python_version(),
    "compiled": "yes" if COMPILED else "no",
}

#: Stands for all targets that were removed from the configuration. No target can have this name.
REMOVED: Final = "(removed)"

#: The labels of REMOVED in `target_info`: queries that join by it must find them.
_ABOUT_REMOVED: Final = {"owner": "", "role": "optional"}


@dataclass(slots=True)
class TargetMetrics:
    """What is counted for each target. It keeps its numbers over a reload."""

    about: dict[str, str] = info(
        "target_info",
        "To join by: its `owner` in routes.yaml, and its `role`, which is `required` where some "
        "route requires it, else `optional`.",
    )
    attempts: Counts = counter(
        "attempts_total", "Attempts, of requests and of the queue, by how they ended.", _REASON
    )
    attempt_seconds: Histogram = histogram(
        "attempt_duration_seconds",
        "From the decision to send until the answer was read, the wait for a place included; "
        "without what the router itself held back or broke off.",
        _ATTEMPT_SECONDS,
    )
    in_flight: int = gauge("attempts_in_flight", "Attempts in flight.")
    waiting: int = gauge("attempts_waiting", "Attempts that wait for a place.")
    limit: int = gauge("attempts_limit", "The most attempts in flight: its `max_in_flight`.")
    waiting_for_rate: int = gauge(
        "attempts_waiting_for_rate", "Attempts that wait for the target's `rate`."
    )
    breaker: Counts = gauge(
        "breaker_state",
        "1 for the state that the target's breaker is in; all 0 where it has none.",
        _BREAKER,
    )
    breaker_opened: int = counter("breaker_opened_total", "Times that the target's breaker opened.")
    paused: int = gauge("target_paused", "1 while routes.yaml or a person has it paused.")
    failing_since: float = gauge(
        "failing_since_timestamp_seconds",
        "When it first failed since it last acknowledged an event; 0 while it has not. What comes "
        "to nothing by the router's own doing does not count.",
    )
    last_acknowledged: float = gauge(
        "last_acknowledged_timestamp_seconds",
        "When it last acknowledged an event; 0 if it has not since the router started.",
    )
    certificate_ends: float = gauge(
        "certificate_expires_timestamp_seconds",
        "When the first of the certificates in its `tls` expires; 0 where it has none.",
    )
    avoided: int = counter(
        "duplicates_avoided_total",
        "Times that a retry of the caller left it in peace: it had acknowledged, was queued, or "
        "an attempt was still in flight.",
    )
    retries: Counts = counter(
        "queue_retries_total", "Attempts of the queue, by how they ended.", _REASON
    )
    dead_letters: Counts = counter(
        "dead_letters_total", "Deliveries that became dead letters, by reason.", _DEATH
    )
    lost: int = counter(
        "lost_total",
        "Optional deliveries that failed and that nobody retries: there is no store, or it was "
        "away for an event of the router's own.",
    )
    unsettled: Counts = gauge(
        "unsettled_deliveries",
        "Deliveries in the store that wait for the caller's retry (awaiting) or for the router's "
        "(queued), and dead letters, but for those whose body was acknowledged later.",
        _STATE,
    )
    gives_up: float | None = gauge(
        "gives_up_timestamp_seconds",
        "The earliest moment at which an event that still needs it is given up: by the caller, "
        "whose schedule is over then, or by the router's queue, whose last retry it would be. "
        "There is none while nothing in the store waits for the target.",
        may_be_absent=True,
    )

    # For pages alone.
    #: The last attempt that the target failed.
    failure: Attempt | None = field(default=None, kw_only=True)
    #: A person's pause: its `since`, `until`, `because` and `who`.
    pause: dict[str, Any] | None = field(default=None, kw_only=True)

    @property
    def failing(self) -> bool:
        """Whether it failed the last attempt that says anything of it."""
        return self.failure is not None and self.failure.at > self.last_acknowledged

    def attempt(self, attempt: Attempt) -> None:
        """Count an attempt that has ended. It costs well under a microsecond."""
        reason = attempt.reason
        self.attempts[reason] += 1
        if reason in SELF_INFLICTED:
            return
        self.attempt_seconds.observe(attempt.seconds)
        if reason is Reason.ACKNOWLEDGED:
            self.last_acknowledged = attempt.at
        else:
            self.failure = attempt


@dataclass(slots=True)
class Metrics:
    """The numbers of the process, all there from the start at 0, and those of its targets.

    Not locked: all of it belongs to the event loop. Other threads read a copy.
    """

    # Callers.
    events: Counts = counter(
        "events_total",
        "Events (callbacks that passed the schema), by the code of the reply; gone: the caller "
        "had hung up.",
        _CODE,
    )
    event_seconds: Histogram = histogram(
        "event_duration_seconds",
        "From an event's first byte to its reply.",
        _EVENT_SECONDS,
    )
    last_event: float = gauge(
        "last_event_timestamp_seconds",
        "When an event was last handled, whatever came of it; until the first one, when the "
        "process started.",
        first=time.time,
    )
    unmatched: int = counter("unmatched_total", "Events that no route matches.")
    refused: Counts = counter(
        "refused_total",
        "Requests that became no event, by the code of the reply: 400 is invalid, 413 too large, "
        "503 overload or draining.",
        _REFUSED,
    )
    invalid: Counts = counter(
        "invalid_total",
        "Callbacks that the contract or the operator's schema does not allow, by the first faulty "
        "field; body: no JSON object, other: a field that the contract does not have.",
        _FIELD,
    )
    hung_up: int = counter(
        "hung_up_total", "Callers that went away before their request was whole."
    )
    faults: int = counter(
        "faults_total", "Faults of the router itself; the caller got a 500, the log says where."
    )
    requests_in_flight: int = gauge("requests_in_flight", "Callbacks in flight.")
    requests_limit: int = gauge("requests_limit", "The most callbacks in flight.")
    connections: int = gauge("connections_open", "Open connections of callers.")
    connections_limit: int = gauge("connections_limit", "The most connections of callers.")
    connections_cut: Counts = counter(
        "connections_cut_total",
        "Connections that a limit ended, by what their peer was told: 408 too slow, 414 and 431 a "
        "head too large, 503 too many connections or unfinished bodies, 400 no unambiguous HTTP; "
        "tls: a handshake that failed or took too long, unread: it did not read its reply.",
        _CUT,
    )

    # The configuration.
    reloads: Counts = counter("reloads_total", "Reloads of the configuration, by result.", _RELOAD)
    reload_successful: int = gauge(
        "reload_last_successful",
        "1 while the file's present content is in force, 0 while it was refused.",
    )
    reload_refused: dict[str, str] = info(
        "configuration_refused_info",
        "The files that are wrong, and their owners; nothing while their present content is in "
        "force.",
    )
    configuration: dict[str, str] = info(
        "configuration_info", "The configuration in force, by its hash."
    )
    configuration_since: float = gauge(
        "configuration_since_timestamp_seconds",
        "When the configuration in force was taken.",
    )

    # The process.
    loop_lag: Histogram = histogram(
        "loop_lag_seconds",
        "How late the event loop ran its timer, measured four times a second; whatever else was "
        "due was as late.",
        _LAG_SECONDS,
    )
    log_lines_lost: int = counter(
        "log_lines_lost_total", "Log lines that could not be written, or not fast enough."
    )
    archive_lines_lost: int = counter(
        "archive_lines_lost_total",
        "Lines of the archive that could not be written, or not fast enough.",
    )
    build: dict[str, str] = info(
        "build_info",
        "The router's version and its Python's, and whether it is compiled.",
        _BUILD,
    )

    # The nodes: with PostgreSQL alone.
    nodes: int = gauge(
        "nodes",
        "Nodes that share the store and have said so in the last 10 s, this one included; 0 where "
        "the store keeps no list of them.",
    )
    configurations_differ: float = gauge(
        "configurations_differ_seconds",
        "For how long these nodes have run more than one configuration; 0 while they run the same.",
    )

    # The delivery memory and its store.
    claims: int = counter(
        "claims_total", "Retries of the caller that went on with what is remembered of their event."
    )
    repeats: Counts = counter(
        "repeats_total",
        "Events whose targets may have seen them before in spite of the delivery memory, by cause. "
        "A process sees expired, overlap, store and replay; the others stay 0.",
        _CAUSE,
    )
    never_claimed: int = counter(
        "records_never_claimed_total",
        "Records that ended without a single retry. Many mean that the caller does not resend the "
        "same bytes, or does not retry.",
    )
    unrecorded: Counts = counter(
        "unrecorded_total",
        "Events that failed and could not be recorded for their retry, by the store's error.",
        _ERROR,
    )
    unqueued: int = counter(
        "unqueued_total",
        "Events that failed although every required target had acknowledged: an optional one had "
        "to be queued, and its share of the store was used up.",
    )
    not_made_good: int = counter(
        "not_made_good_total",
        "Acknowledgements that the store could not learn of and that found no room in memory to "
        "wait until it is back. What was recorded of their events before may become a dead letter.",
    )
    oldest_unsettled: float = gauge(
        "oldest_unsettled_seconds",
        "The age of the oldest event in the store that awaits a retry or is queued; 0 where none "
        "does.",
    )
    store_errors: Counts = counter(
        "store_errors_total", "Calls of the store that failed, by error.", _ERROR
    )
    store_commit: Histogram = histogram(
        "store_commit_duration_seconds",
        "How long a commit took; one commit carries all writes that were waiting.",
        _COMMIT_SECONDS,
    )
    store_events: int = gauge(
        "store_events",
        "Events in the store, settled ones that are still shown included.",
    )
    store_bytes: int = gauge("store_size_bytes", "What those take up.")
    store_fullness: float = gauge(
        "store_fullness_ratio",
        "The fullest part of the store's limits, a target's share included: 1 is full.",
    )

    # For pages alone.
    #: The store's last error, and when it was.
    store_error: str = field(default="", kw_only=True)
    store_failed_at: float = field(default=0.0, kw_only=True)
    #: Why the archive lost a line or could not be tidied last, and when that was.
    archive_error: str = field(default="", kw_only=True)
    archive_failed_at: float = field(default=0.0, kw_only=True)
    #: Events that no route matched and that were not acknowledged; and the last one, without body.
    unmatched_lately: Recent = field(default_factory=Recent, kw_only=True)
    last_unmatched: Event | None = field(default=None, kw_only=True)
    #: Callbacks that were refused, by the code of the reply.
    refused_lately: dict[str, Recent] = field(default_factory=dict, kw_only=True)

    #: By name; REMOVED stands for all that were removed from the configuration.
    targets: dict[str, TargetMetrics] = field(
        default_factory=lambda: {REMOVED: TargetMetrics(about=_ABOUT_REMOVED)}
    )
    #: Called before each copy, to set what is read rather than counted: what is in flight, say.
    readings: list[Callable[[], None]] = field(default_factory=list)

    def adopt(self, names: Iterable[str]) -> None:
        """Count for these targets. A target that stays keeps its numbers; the others' go."""
        names = (*names, REMOVED)
        self.targets = {name: self.targets.get(name) or TargetMetrics() for name in names}

    def of(self, target: str) -> TargetMetrics:
        """The numbers of a target; those of REMOVED for one that is not in the configuration."""
        return self.targets.get(target) or self.targets[REMOVED]

    def copy(self) -> Metrics:
        """Return the numbers as they are now, for any thread to read."""
        for read in self.readings:
            read()
        copy: Metrics = _copied(self)
        copy.targets = {name: _copied(each) for name, each in self.targets.items()}
        copy.refused_lately = {code: replace(each) for code, each in self.refused_lately.items()}
        copy.unmatched_lately, copy.readings = replace(self.unmatched_lately), []
        return copy

    def among(self, names: Collection[str]) -> Metrics:
        """Return a copy without the numbers of other targets."""
        targets = {name: each for name, each in self.targets.items() if name in names}
        return replace(self, targets=targets)

    def event(self, code: str, seconds: float) -> None:
        """An event was answered with that code, so long after its first byte; the code is `""`
        where its caller was gone."""
        self.events[code or _GONE] += 1
        self.last_event = time.time()
        if code:
            self.event_seconds.observe(seconds)

    def no_route(self, code: str, event: Event) -> None:
        """No route matched the event, and its caller was told the code."""
        self.unmatched += 1
        if code != SUCCESS:
            self.unmatched_lately.add(time.time())
            self.last_unmatched = Event.of({name: getattr(event, name) for name in FIELDS})

    def route_found(self) -> None:
        """The last event that no route matched would not be answered with a failure any more."""
        self.unmatched_lately, self.last_unmatched = Recent(), None

    def refuse(self, code: str) -> None:
        """A request became no event."""
        self.refused[code] += 1
        if code not in _NO_CALLBACK:
            self.refused_lately.setdefault(code, Recent()).add(time.time())

    def invalid_at(self, place: str) -> None:
        """A callback was invalid there: `changes[3].id`, say, or `""` for the body as a whole.

        The place may come from the body; what is counted is a field of the contract, or `other`.
        """
        name = place.partition(".")[0].partition("[")[0] if place else "body"
        self.invalid[name if name in _FIELD.values else "other"] += 1

    def store_failed(self, error: str) -> None:
        """A call of the store has failed, with a word of StoreFailed."""
        self.store_errors[error] += 1
        self.store_error, self.store_failed_at = error, time.time()


def metrics_of(table: type) -> Mapping[str, Metric]:
    """The metrics that a table declares, by field."""
    return {
        each.name: each.metadata["metric"] for each in fields(table) if "metric" in each.metadata
    }


#: Every metric, by field.
PROCESS: Final = metrics_of(Metrics)
TARGET: Final = metrics_of(TargetMetrics)

_CHANGING: Final = {
    table: [name for name, each in metrics.items() if each.label or each.buckets]
    for table, metrics in ((Metrics, PROCESS), (TargetMetrics, TARGET))
}
_REPLACED: Final = {
    table: [each.name for each in fields(table) if each.name not in changing]
    for table, changing in _CHANGING.items()
}


def _copied(numbers: Any) -> Any:
    """A copy that shares what is only ever replaced: numbers, texts, the labels of an info."""
    table = type(numbers)
    changing = {name: getattr(numbers, name).copy() for name in _CHANGING[table]}
    return table(**changing, **{name: getattr(numbers, name) for name in _REPLACED[table]})
