"""All metrics: each with its name, help and label, declared once.

The tables `TargetMetrics` and `Metrics` define the series that exist from the start, the output of
`/metrics` (scrape.py), and docs/reference/metrics.md (`make docs`).

Counting is an addition to a plain number, without a lock: each number is changed by one thread
only, in general the event loop's.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple

from router import __version__
from router.model.build import COMPILED
from router.model.event import FIELDS, SELF_INFLICTED, SUCCESS, Attempt, Event, Reason
from router.telemetry.health import LONGEST, MINUTE, TROUBLED, Health, Minute, State, health_of

#: Seconds without an occurrence after which a Recent starts a new count. EBaaS retries within an
#: hour.
RECENT_GAP: Final = 3900.0

#: The most faults or keys that are remembered of each kind of rejection, and the most callbacks of
#: each that are distinguished by their bodies.
MAX_FAULTS: Final = 100
MAX_BODIES: Final = 1000

#: The kind of a rejection: a code of the contract, or this.
UNMATCHED: Final = "unmatched"


class Label(NamedTuple):
    """One dimension of a metric, and the values that exist from the start. Values are never taken
    from an event."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric. Metrics of targets also have the label `target`."""

    name: str
    help: str
    label: Label | None = None
    #: Upper bounds of a histogram's buckets, without `+Inf`.
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return f"ebaas_router_{self.name}"

    @property
    def kind(self) -> str:
        """The kind that the name says: an `info` is a gauge that is always 1, with its information
        in its labels."""
        if self.buckets:
            return "histogram"
        if self.name.endswith("_total"):
            return "counter"
        return "info" if self.name.endswith("_info") else "gauge"

    def first(self) -> Any:
        """Return its value at the start. An info without labels has no series."""
        if self.kind == "info":
            return {}
        if self.buckets:
            return Histogram(self.buckets)
        return Counts(dict.fromkeys(self.label.values, 0)) if self.label else 0


class Counts(dict[str, float]):
    """A number for each value of a label; 0 for a new value."""

    def __missing__(self, _: str) -> float:
        return 0

    def copy(self) -> Counts:
        return Counts(self)


class Histogram:
    """The number of values in each bucket, and the sum of all values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: One more than the bounds, for values above all of them.
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
    """Recent rejections of one kind. After RECENT_GAP seconds without one, the next one starts a
    new count. Times are Unix time, in seconds; 0 is never."""

    #: Callbacks, however often EBaaS has sent them.
    count: int = 0
    since: float = 0.0
    last: float = 0.0
    #: When the last callback arrived that had not come before: the last one that EBaaS gives up.
    newest: float = 0.0
    #: When the first one came since the last event that got in.
    unbroken: float = 0.0
    #: The last event, without its body, if no route matched it.
    event: Event | None = None
    #: The bodies, by a part of their hashes.
    bodies: set[str] = field(default_factory=set)

    def add(self, now: float, body: str, event: Event | None = None) -> None:
        """Count a rejection; `body` is a part of the body's hash, `""` for no body."""
        if now - self.last >= RECENT_GAP:
            self.count, self.since = 0, now
            self.bodies.clear()
        elif self.since - now >= RECENT_GAP:
            return  # read from the archive, and of an earlier count
        if now >= self.last:
            self.last, self.event = now, event
        self.since = min(self.since, now)
        if body in self.bodies:
            return
        self.count, self.newest = self.count + 1, max(self.newest, now)
        if body and len(self.bodies) < MAX_BODIES:
            self.bodies.add(body)


def metric(
    name: str,
    help: str,
    label: Label | None = None,
    *,
    buckets: tuple[float, ...] = (),
    first: Callable[[], Any] | None = None,
) -> Any:
    """Declare a field of a table: a number, Counts if there is a label, a Histogram, or labels with
    their values. A number that is None has no series."""
    declared = Metric(name, help, label, buckets)
    return field(default_factory=first or declared.first, metadata={"metric": declared})


#: Closely spaced up to the default of `reply_within`, 8 s.
_EVENT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 7.5, 8, 9, 10, 15)

#: Closely spaced up to the default `timeout` of a target, 5 s.
_ATTEMPT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 4.5, 5, 6, 8, 15)

_LAG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

#: In place of a code: the caller had hung up.
GONE: Final = "gone"

_CODE = Label("code", ("000", "500", GONE))
_REFUSED = Label("code", ("400", "401", "403", "404", "405", "408", "413", "415", "503", "508"))
_REJECTED = Label("kind", (UNMATCHED, "400", "401", "403", "408", "413", "415", "503", "508"))
#: `tls`: the handshake failed; `unread`: the peer did not read its reply.
_CUT = Label("code", ("400", "405", "408", "414", "417", "431", "503", "tls", "unread"))

#: The contract's fields; `body` if the body is not a JSON object, `other` for fields of an
#: operator's schema.
_FIELD: Final = Label("field", (*FIELDS, "changes", "body", "other"))

#: Both labels of a file.
_FILE = Label("file,owner", ())

_RELOAD = Label("result", ("taken", "refused", "unchanged"))
_STATE = Label("state", ("awaiting", "queued", "dead"))
_BREAKER = Label("state", ("closed", "open", "half_open"))
_REASON = Label("reason", tuple(map(str, Reason)))

_HEALTH = Label("state", TROUBLED)

#: How the last attempt of a dead letter ended, or why there was none.
_DEATH = Label("reason", (*_REASON.values[1:], "target_removed", "unknown"))

#: Codes of requests that are not callbacks: another path or method.
_NO_CALLBACK: Final = ("404", "405")

#: The longest fault or key by which rejections are remembered, in characters.
_MAX_WHAT: Final = 200

_CAUSE = Label(
    "cause",
    ("crash", "reply_lost", "overlap", "other_process", "expired", "store", "late", "replay"),
)

#: The errors of StoreFailed.
_ERRORS = (
    "slow full disk_full locked read_only io corrupt unreachable "
    "sqlite postgresql gone lost refused connections memory closed"
)
_ERROR = Label("error", tuple(_ERRORS.split()))

_BUILD: Final = {
    "version": __version__,
    "python": platform.python_version(),
    "compiled": "yes" if COMPILED else "no",
}

#: The name for all targets that were removed from the configuration. No target can have it.
REMOVED: Final = "(removed)"

#: The labels of REMOVED in `target_info`, because queries join by them.
_ABOUT_REMOVED: Final = {"owner": "", "role": "optional"}


@dataclass(slots=True)
class TargetMetrics:
    """The numbers of one target. They survive a reload."""

    about: dict[str, str] = metric(
        "target_info", "Its `owner`, and its `role`: `required` if any route requires it."
    )
    attempts: Counts = metric("attempts_total", "Attempts by reason.", _REASON)
    attempt_seconds: Histogram = metric(
        "attempt_duration_seconds", "Duration, with the wait for a slot.", buckets=_ATTEMPT_SECONDS
    )
    in_flight: int = metric("attempts_in_flight", "Attempts in flight.")
    waiting: int = metric("attempts_waiting", "Attempts that wait for a slot.")
    limit: int = metric("attempts_limit", "Its `max_in_flight`, the limit for attempts in flight.")
    waiting_for_rate: int = metric(
        "attempts_waiting_for_rate", "Attempts that wait for its `rate`."
    )
    breaker: Counts = metric(
        "breaker_state", "1 for the state of its breaker; all 0 without one.", _BREAKER
    )
    breaker_opened: int = metric("breaker_opened_total", "Times that the target's breaker opened.")
    paused: int = metric("target_paused", "1 while it is paused, by routes.yaml or by a person.")
    target_state: Counts = metric(
        "target_state",
        "1 while it is in this state, by its recent failures.",
        _HEALTH,
    )
    failing_since: float = metric(
        "failing_since_timestamp_seconds",
        "When it began to be failing or degraded; 0 if neither.",
    )
    last_acknowledged: float = metric(
        "last_acknowledged_timestamp_seconds", "Its last acknowledgement; 0 for none."
    )
    certificate_ends: float = metric(
        "certificate_expires_timestamp_seconds", "First expiry in its `tls`; 0 for none."
    )
    avoided: int = metric(
        "duplicates_avoided_total", "Retries of EBaaS that did not have to call it again."
    )
    retries: Counts = metric("queue_retries_total", "Attempts of the queue, by reason.", _REASON)
    dead_letters: Counts = metric("dead_letters_total", "New dead letters, by reason.", _DEATH)
    lost: int = metric(
        "lost_total", "Failed optional deliveries that are not retried, for lack of a store."
    )
    recovered: int = metric(
        "recovered_total", "Deliveries acknowledged before their time, in a recovery."
    )
    recovering: int = metric("target_recovering", "1 while what waited is sent before its time.")
    unsettled: Counts = metric(
        "unsettled_deliveries", "Deliveries by state; EBaaS retries those `awaiting`.", _STATE
    )
    expires_at: float | None = metric(
        "expires_timestamp_seconds", "Earliest last retry of an event.", first=lambda: None
    )

    # Not metrics: for the status and the page.
    #: The last attempt that failed.
    failure: Attempt | None = None
    #: A person's pause: its `since`, `until`, `because` and `who`.
    pause: dict[str, Any] | None = None
    #: A recovery in progress: its `trigger`, `since`, `delivered`, `left` and `per_second`.
    recovery: dict[str, Any] | None = None

    #: The attempts of the last minutes, by the minute's number in Unix time.
    lately: dict[int, Minute] = field(default_factory=dict)
    health: Health = field(default_factory=Health)

    @property
    def state(self) -> State:
        """Its state. A pause is intended, so it counts more than earlier failures."""
        return "paused" if self.paused else self.health.state

    def attempt(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        reason, at = attempt.reason, attempt.at
        self.attempts[reason] += 1
        if reason in SELF_INFLICTED:
            return
        self.attempt_seconds.observe(attempt.seconds)
        minute = self.lately.get(int(at) // MINUTE) or self._begun(int(at) // MINUTE)
        minute.attempts += 1
        if reason is Reason.ACKNOWLEDGED:
            self.last_acknowledged = at
        else:
            self.failure = attempt
            minute.failed += 1
            minute.failed_at = minute.failed_at or at

    def _begun(self, number: int) -> Minute:
        """Return a new minute, and forget those that are too old."""
        for old in [each for each in self.lately if each <= number - LONGEST]:
            del self.lately[old]
        minute = self.lately[number] = Minute()
        return minute

    def judge(self, now: float) -> None:
        """Decide its state at this time; Unix time, in seconds."""
        breaker, unsettled = self.breaker, self.unsettled
        is_open = bool(breaker["open"] or breaker["half_open"])
        if not (self.lately or is_open):
            return
        failed_at = 0.0 if self.failure is None else self.failure.at
        recent = now - max(failed_at, self.last_acknowledged) < RECENT_GAP
        failed = recent and failed_at > self.last_acknowledged
        self.health = health_of(
            self.health,
            self.lately,
            now,
            recent=recent,
            unsettled=bool(failed or unsettled["awaiting"] or unsettled["queued"]),
            is_open=is_open,
        )
        state = self.state
        for each in TROUBLED:
            self.target_state[each] = int(state == each)
        self.failing_since = self.health.since if state in TROUBLED else 0.0


@dataclass(slots=True)
class Metrics:
    """The numbers of the process and of its targets.

    They belong to the event loop's thread; others read them.
    """

    # Callers.
    events: Counts = metric(
        "events_total", "Events, by the reply's code; `gone` if the caller had hung up.", _CODE
    )
    event_seconds: Histogram = metric(
        "event_duration_seconds", "From an event's first byte to its reply.", buckets=_EVENT_SECONDS
    )
    last_event: float = metric(
        "last_event_timestamp_seconds", "Time of the last event, or of the start.", first=time.time
    )
    unmatched: int = metric("unmatched_total", "Events that no route matched.")
    refused: Counts = metric(
        "refused_total", "Requests refused before they became an event, by code.", _REFUSED
    )
    invalid: Counts = metric(
        "invalid_total", "Callbacks that violate a schema, by the first faulty field.", _FIELD
    )
    rejections: Counts = metric(
        "recent_rejections",
        "Refused callbacks by code, and events without a route; 0 after 65 minutes without one.",
        _REJECTED,
    )
    hung_up: int = metric("hung_up_total", "Callers that disconnected within their request.")
    faults: int = metric("faults_total", "Faults in the router; the log has the place.")
    requests_in_flight: int = metric("requests_in_flight", "Callbacks in flight.")
    requests_limit: int = metric("requests_limit", "The limit for callbacks in flight.")
    connections: int = metric("connections_open", "Open connections of callers.")
    connections_limit: int = metric("connections_limit", "The limit for open connections.")
    connections_cut: Counts = metric(
        "connections_cut_total", "Connections that the router ended, by the code.", _CUT
    )

    # The configuration.
    reloads: Counts = metric("reloads_total", "Reloads of the configuration, by result.", _RELOAD)
    reload_successful: int = metric(
        "reload_last_successful", "1 while the current files are in force, 0 if they are refused."
    )
    config_file_ok: dict[tuple[str, str], float] = metric(
        "config_file_ok",
        "1 for a file whose current text is in force, 0 for one that is refused.",
        _FILE,
    )
    reload_refused: dict[str, str] = metric(
        "configuration_refused_info", "The refused files and their owners; absent for none."
    )
    configuration: dict[str, str] = metric("configuration_info", "The hash in force.")
    configuration_since: float = metric(
        "configuration_since_timestamp_seconds", "Time of its load."
    )

    # The process.
    loop_lag: Histogram = metric(
        "loop_lag_seconds", "Delays of a timer on the event loop.", buckets=_LAG_SECONDS
    )
    log_lines_lost: int = metric("log_lines_lost_total", "Log lines that could not be written.")
    archive_lines_lost: int = metric(
        "archive_lines_lost_total", "Lost lines of the archive, refused callbacks' too."
    )
    build: dict[str, str] = metric(
        "build_info", "The versions of the router and of Python; `compiled`.", first=lambda: _BUILD
    )

    # The nodes, with PostgreSQL.
    nodes: int = metric("nodes", "Nodes that reported within 10 s; 0 without PostgreSQL.")
    configurations_differ: float = metric(
        "configurations_differ_seconds", "Seconds for which the nodes' configurations differ."
    )

    # The delivery memory and its store.
    claims: int = metric("claims_total", "Retries of EBaaS that continued a remembered event.")
    repeats: Counts = metric(
        "repeats_total",
        "Events that targets may receive again, by cause: expired, overlap, replay or store.",
        _CAUSE,
    )
    never_claimed: int = metric(
        "records_never_claimed_total", "Records without a retry: EBaaS may resend other bytes."
    )
    unrecorded: Counts = metric(
        "unrecorded_total", "Failed events that could not be recorded, by the error.", _ERROR
    )
    unqueued: int = metric(
        "unqueued_total", "Events with 500 only because a target's share of the store was full."
    )
    not_made_good: int = metric("not_made_good_total", "Acknowledgements lost without the store.")
    oldest_unsettled: float = metric(
        "oldest_unsettled_seconds", "Age of the oldest event that awaits a retry or is queued."
    )
    store_errors: Counts = metric("store_errors_total", "Failed store calls, by error.", _ERROR)
    store_commit: Histogram = metric(
        "store_commit_duration_seconds", "Duration of commits.", buckets=_COMMIT_SECONDS
    )
    store_events: int = metric("store_events", "Events in the store, settled ones included.")
    store_bytes: int = metric("store_size_bytes", "Size of these events.")
    store_fullness: float = metric(
        "store_fullness_ratio", "The fullest of its limits and of the targets' shares, up to 1."
    )

    # Not metrics: for the status and the page.
    #: The last errors of the store and of the archive, and their times.
    store_error: str = ""
    store_failed_at: float = 0.0
    archive_error: str = ""
    archive_failed_at: float = 0.0
    #: Recent rejections: refused callbacks by the code of the reply and their fault, and events
    #: that no route matched and that got a failure by UNMATCHED and their key.
    rejected: dict[tuple[str, str], Recent] = field(default_factory=dict)
    #: An earlier process had events, according to its archive.
    had_events_before: bool = False
    #: Since when minutes and rejections are counted; Unix time, in seconds.
    counted_since: float = field(default_factory=time.time)

    #: By name, including REMOVED.
    targets: dict[str, TargetMetrics] = field(
        default_factory=lambda: {REMOVED: TargetMetrics(about=_ABOUT_REMOVED)}
    )
    #: Set the numbers that are read, such as those in flight.
    readings: list[Callable[[], None]] = field(default_factory=list)

    def adopt(self, names: Iterable[str]) -> None:
        """Count for these targets, and drop the numbers of others."""
        names = (*names, REMOVED)
        self.targets = {name: self.targets.get(name) or TargetMetrics() for name in names}

    def of(self, target: str) -> TargetMetrics:
        """Return the numbers of a target, or of REMOVED if it is not in the configuration."""
        return self.targets.get(target) or self.targets[REMOVED]

    def measure(self) -> None:
        """Set the numbers that are read."""
        for read in self.readings:
            read()
        now = time.time()
        self.judge(now)
        self.rejections.update(dict.fromkeys(self.rejections, 0))
        for (kind, _), recent in self.rejected.items():
            self.rejections[kind] += recent.count if now - recent.last < RECENT_GAP else 0

    def judge(self, now: float) -> None:
        """Decide the states of targets. Another thread may do so as well, and comes to the same."""
        for name, numbers in [*self.targets.items()]:
            # Targets that were removed have no state together.
            if name != REMOVED:
                numbers.judge(now)

    def copy(self) -> Metrics:
        """Return a copy for a scrape. It may be made in another thread."""
        targets = {name: _copied(target) for name, target in self.targets.items()}
        copy: Metrics = _copied(self, targets=targets, readings=[])
        return copy

    def event(self, code: str, seconds: float) -> None:
        """Count an event. `seconds` are from its first byte to the reply, and the code is `""` if
        its caller had hung up."""
        self.events[code or GONE] += 1
        self.last_event = time.time()
        if code:
            self.event_seconds.observe(seconds)

    @property
    def has_had_events(self) -> bool:
        return self.had_events_before or any(self.events.values())

    def no_route(self, code: str, event: Event, body: str) -> None:
        """Count an event that no route matched; `body` is a part of its body's hash."""
        self.unmatched += 1
        if code != SUCCESS:
            self.reject(UNMATCHED, event.event_key, time.time(), body, event)

    def refuse(self, code: str, why: str = "", body: str = "") -> None:
        """Count a request that was refused; `body` is a part of its body's hash."""
        self.refused[code] += 1
        if code not in _NO_CALLBACK:
            self.reject(code, why, time.time(), body)

    def reject(
        self, kind: str, what: str, at: float, body: str, event: Event | None = None
    ) -> None:
        """Remember a rejection, by its fault or its event's key. Too many are remembered as one."""
        what = what[:_MAX_WHAT]
        if (kind, what) not in self.rejected and self._is_full(kind):
            self.forget(lambda _, recent: at - recent.last >= RECENT_GAP)
            what = "" if self._is_full(kind) else what
        about = event and Event.of({name: getattr(event, name) for name in FIELDS})
        recent = self.rejected.setdefault((kind, what), Recent())
        if recent.last <= self.last_event:
            recent.unbroken = at
        recent.add(at, body, about)

    def _is_full(self, kind: str) -> bool:
        # For each kind: a flood of garbage must not hide the keys of events without a route.
        return sum(each == kind for each, _ in self.rejected) >= MAX_FAULTS

    def forget(self, is_over: Callable[[str, Recent], bool]) -> None:
        """Forget the rejections that are over."""
        gone = [key for key, recent in self.rejected.items() if is_over(key[0], recent)]
        for key in gone:
            del self.rejected[key]

    def invalid_at(self, place: str) -> None:
        """Count an invalid callback. The place is for example `changes[3].id`, or `""` for the
        whole body. It may come from the body, so only names of the contract become labels."""
        name = place.partition(".")[0].partition("[")[0] if place else "body"
        self.invalid[name if name in _FIELD.values else "other"] += 1

    def store_failed(self, error: str) -> None:
        """Count a failed call of the store."""
        self.store_errors[error] += 1
        self.store_error, self.store_failed_at = error, time.time()


def _metrics_of(table: type) -> Mapping[str, Metric]:
    return {f.name: f.metadata["metric"] for f in fields(table) if "metric" in f.metadata}


#: Every metric, by field.
PROCESS: Final = _metrics_of(Metrics)
TARGET: Final = _metrics_of(TargetMetrics)

_CHANGING: Final = {
    table: [name for name, metric in metrics.items() if metric.label or metric.buckets]
    for table, metrics in ((Metrics, PROCESS), (TargetMetrics, TARGET))
}


def _copied(numbers: Any, **changes: Any) -> Any:
    """Return a copy. Values that are only replaced are shared: numbers, texts, an info's labels."""
    counts = {name: getattr(numbers, name).copy() for name in _CHANGING[type(numbers)]}
    return replace(numbers, **counts, **changes)
