"""Every metric, once: its name, its help, its label and what holds its numbers.

All else follows from these two classes: the series that exist from the start, what `/metrics` says,
and docs/metrics.md (`make docs`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from router.model.event import FIELDS, OWN_DOING, SUCCESS, Attempt, Event, Reason
from router.telemetry.metrics.instruments import (
    Counts,
    Histogram,
    Label,
    Recent,
    counter,
    gauge,
    histogram,
    info,
)

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

#: Stands for every target that is in no configuration any more. No target can be named so.
REMOVED: Final = "(removed)"


@dataclass(slots=True)
class OfProcess:
    """What is counted once for a process."""

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
        "build_info", "The router's version and its Python's, and whether it is compiled."
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


@dataclass(slots=True)
class OfTarget:
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

    def attempt(self, attempt: Attempt) -> None:
        """An attempt has ended. It costs well under a microsecond."""
        reason = attempt.reason
        self.attempts[reason] += 1
        if reason in OWN_DOING:
            return
        self.attempt_seconds.observe(attempt.seconds)
        if reason is Reason.ACKNOWLEDGED:
            self.last_acknowledged = attempt.at
        else:
            self.failure = attempt
