"""`/status`: the checks of a report, and the causes for which the service is degraded.

The causes are the one list of troubles: the page, `status` and its exit code, and the metrics of
the alerts show it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from router.config.document import shown
from router.contract.replies import why_failed
from router.delivery import rules
from router.delivery.observations import SENTENCES
from router.ops.api.targets import (
    SEVERITIES,
    Severity,
    pause_facts,
    severity_of,
    target_now,
    urgency,
)
from router.ops.insight import (
    MAX_SHOWN_PROBLEMS,
    STARTED,
    RefusedFile,
    Report,
    refused_files,
    utc_or_none,
)
from router.store.protocol import ADVICE
from router.telemetry.health import TROUBLED
from router.telemetry.log.lines import utc
from router.telemetry.metrics import (
    RECENT_GAP,
    REMOVED,
    UNMATCHED,
    Metrics,
    Recent,
    TargetMetrics,
)

#: The seconds for which the store, or the archive, is degraded after its last error.
STORE_RECOVERED = 60.0

#: The store is degraded if it has used this part of its limits, and the process if its loop lagged
#: longer than this, in seconds.
STORE_FULL, LAG = 0.5, 0.25

#: The seconds for which nodes may run different configurations, as in a roll-out.
ROLL_OUT = 60.0

#: How many refused files a sentence names at most, and how many keys or faults of callbacks.
MAX_SHOWN_FILES = 3
MAX_SHOWN_KEYS = 5

#: The sentence of each cause, and of each difference between EBaaS and routes.yaml, by its code.
#: `{}` are parameters. The page has them in Chinese.
CAUSES: Mapping[str, str] = {
    "not_ready": "not ready",
    "file_refused": "{files} refused at {at}: {count:problem}",
    "nodes_differ": "nodes have run different configurations for {seconds} s",
    "unmatched": "{count:event} matched no route since {since}, last at {last}: {keys}; EBaaS "
    "retries until {until}; `ebaas-router explain` says why",
    "callbacks_refused": "{count:callback} refused with {code} since {since}, last at {last}"
    "{faults}: {advice}",
    "turned_away": "{count:request} turned away with {code} since {since}, last at {last}: "
    "{advice}",
    "store_failed": "{error}, last at {last}",
    "store_gone": "{error} ({advice}), last at {last}",
    "store_full": "{percent}% full",
    "archive_failed": "{error}, last at {last}; lines lost: {lost}",
    "loop_blocked": "blocked for {seconds} s in the last minute",
    "dead_letters": "{target} has {count:dead letter}",
    "queued": "{target} has {count} queued",
    "paused_by": "{target} is paused until {until} by {who}: {because}",
    "paused": "{target} is paused",
    "failing": "{target} is failing since {since}, {failed} of the last {count:attempt} failed: "
    "{failure}",
    "degraded": "{target} is degraded since {since}, {failed} of the last {count:attempt} failed: "
    "{failure}",
    **SENTENCES,
}

#: The severities of causes that keep no event from its targets; others are critical. Those of a
#: target depend on its role.
_SEVERITIES: Mapping[str, Severity] = {
    **dict.fromkeys(("file_refused", "nodes_differ", "store_full"), "warning"),
    **dict.fromkeys(("archive_failed", "loop_blocked", "dead_letters", "queued"), "warning"),
    **dict.fromkeys(("paused", "paused_by", "turned_away"), "notice"),
}

#: What to do about callbacks that are refused with a code.
REFUSED: Mapping[str, str] = {
    "400": "the log lines `refused` say what is wrong with each body",
    "401": "compare the token that EBaaS sends with ebaas.token in routes.yaml",
    "403": "the log lines `refused` name the caller, which ebaas.allow_from does not have",
    "408": "the requests arrive too slowly: check the network and the proxies on the way",
    "413": "the bodies are larger than 1 MiB",
    "415": "the bodies are compressed: turn that off at the caller or the proxy",
    "503": "the store is not open, or more callbacks are in flight than --max-requests allows",
    "508": "a target sends its events back to this router: compare the URLs in routes.yaml",
}

#: A rejection counts until EBaaS must have sent its next retry; only this long, in seconds, if a
#: retry usually succeeds.
_PASSED = 300.0

#: Turned-away callers are a reason once no event has come for so many seconds since the first of
#: them: the token may be EBaaS's.
_SHUT = 300.0
_PASSING = ("408", "503")
_DENIED = ("401", "403")


class CauseView(TypedDict):
    """A reason why the service is degraded, or a notice, as data."""

    check: str
    code: str
    severity: Severity
    #: The sentence of the code, and its parameters.
    text: str
    params: dict[str, Any]


class _Count(int):
    """A number of things. Its format is a noun: `3 events` for `event`."""

    def __format__(self, noun: str) -> str:
        return f"{int(self)} {noun}{'' if self == 1 else 's'}" if noun else str(int(self))


class _Check:
    """A check: its causes, and the figures behind it."""

    def __init__(self, name: str, **figures: Any) -> None:
        self.name = name
        self.causes: list[CauseView] = []
        self._figures = figures

    def add(
        self, cause: str, *, when: object = True, severity: Severity | None = None, **params: Any
    ) -> None:
        """Add a cause if it holds."""
        if when:
            self.causes.append(
                {
                    "check": self.name,
                    "code": cause,
                    "severity": severity or _SEVERITIES.get(cause, "critical"),
                    "text": CAUSES[cause].format(**params),
                    "params": params,
                }
            )

    @property
    def view(self) -> dict[str, Any]:
        reasons = [cause["text"] for cause in wrong(self.causes)]
        return {"ok": not reasons, "reasons": reasons, **self._figures}


def wrong(causes: Sequence[CauseView]) -> list[CauseView]:
    """Return the causes for which the service is degraded: all but notices."""
    return [cause for cause in causes if cause["severity"] != "notice"]


def status_of(report: Report, now: float) -> dict[str, Any]:
    """Return `ok`, or `degraded` with every reason, and each check with its figures."""
    metrics = report.metrics
    checks = [
        _process(report),
        _configuration(report),
        _callbacks(report, now),
        _store(report, now),
        _archive(metrics, now),
        _loop(report.lag),
        _targets(metrics),
    ]
    # Stable: targets come last, and in their own order.
    causes = sorted(
        (cause for check in checks for cause in check.causes),
        key=lambda cause: SEVERITIES.index(cause["severity"]),
    )
    reasons = wrong(causes)
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": [f"{cause['check']}: {cause['text']}" for cause in reasons],
        "causes": causes,
        "at": utc(now),
        "counted_since": utc(metrics.counted_since),
        "version": metrics.build["version"],
        "compiled": metrics.build["compiled"] == "yes",
        "requests": {"in_flight": metrics.requests_in_flight, "limit": metrics.requests_limit},
        **{check.name: check.view for check in checks},
        "observed": report.observed,
    }


def _process(report: Report) -> _Check:
    ready, started = report.ready, utc(STARTED)
    check = _Check("process", pid=os.getpid(), ready=ready, started=started, tasks=report.tasks)
    check.add("not_ready", when=not ready)
    return check


def refused_causes(files: Sequence[RefusedFile], tried: str, count: int) -> list[CauseView]:
    """Return the cause that there are refused files, if there are any. `count` is the number of
    their problems, `tried` the time of the last reload."""
    check, names = _Check("configuration"), [file["file"] for file in files[:MAX_SHOWN_FILES]]
    if len(files) > MAX_SHOWN_FILES:
        names.append(f"{len(files) - MAX_SHOWN_FILES} more")
    about: Any = {"at": tried, "count": _Count(count), "files": ", ".join(names)}
    check.add("file_refused", when=files, **about)
    return check.causes


def _configuration(report: Report) -> _Check:
    """Check the configuration in force and the last reload."""
    state, differ = report.config_state, report.metrics.configurations_differ
    problems, tried, refused = state.problems, utc(state.tried_at), refused_files(state)
    check = _Check(
        "configuration",
        hash=state.config.hash,
        since=utc(state.since),
        routes=len(state.config.table.routes),
        targets=len(state.config.table.targets),
        last_reload={
            "at": tried,
            "successful": state.successful,
            # In the loader's words: with their positions, without any secret.
            "problems": [str(problem) for problem in problems[:MAX_SHOWN_PROBLEMS]],
            "more": max(0, len(problems) - MAX_SHOWN_PROBLEMS),
        },
        refused=refused,
    )
    check.causes += refused_causes(refused, tried, len(problems))
    check.add("nodes_differ", when=differ > ROLL_OUT, seconds=round(differ))
    return check


def _callbacks(report: Report, now: float) -> _Check:
    """Check for events without a route and refused callbacks, which EBaaS retries in vain, and for
    callers that were turned away."""
    metrics, terms = report.metrics, report.config_state.config.terms
    kinds: dict[str, dict[str, Recent]] = {}
    for (kind, what), recent in sorted({**metrics.rejected}.items()):
        if now - recent.last < (_PASSED if kind in _PASSING else RECENT_GAP):
            kinds.setdefault(kind, {})[what] = recent
    events = kinds.pop(UNMATCHED, {})
    unmatched = _summed(events, "keys")
    refused: dict[str, Any] = {}
    turned_away: dict[str, Any] = {}
    check = _Check("callbacks", unmatched=unmatched, refused=refused, turned_away=turned_away)
    if events:
        newest = max(recent.newest for recent in events.values())
        unmatched["retried_until"] = until = utc(rules.ends_at(newest, terms))
        last = max(events, key=lambda key: events[key].last)
        about: Any = {"keys": _most(events, shown), "key": last, "until": until}
        check.add("unmatched", **about, **_counts(unmatched))
    for code, faults in kinds.items():
        views = turned_away if code in _DENIED else refused
        views[code] = view = _summed(faults, "faults")
        advice = REFUSED.get(code, "the log lines `refused` say why")
        # Strangers are turned away all day. It is a reason only if events no longer get in.
        unbroken = min(recent.unbroken for recent in faults.values())
        is_shut = metrics.has_had_events and metrics.last_event < unbroken <= now - _SHUT
        cause = "turned_away" if code in _DENIED and not is_shut else "callbacks_refused"
        why = f", {most}" if (most := _most(faults, str)) else ""
        check.add(cause, code=code, advice=advice, faults=why, **_counts(view))
    return check


def _first(recents: Mapping[str, Recent]) -> float:
    return min(recent.since for recent in recents.values())


def _summed(recents: Mapping[str, Recent], name: str) -> dict[str, Any]:
    """Return the number of callbacks, in all and, under `name`, by fault or key."""
    last = max((recent.last for recent in recents.values()), default=0.0)
    return {
        "count": _Count(sum(recent.count for recent in recents.values())),
        "since": utc_or_none(_first(recents)) if recents else None,
        "last": utc_or_none(last),
        name: {what: recent.count for what, recent in recents.items() if what},
    }


def _counts(view: Mapping[str, Any]) -> Any:
    return {name: view[name] for name in ("count", "since", "last")}


def _most(recents: Mapping[str, Recent], show: Callable[[str], str]) -> str:
    """Format the most frequent faults or keys with their counts, for any language."""
    most = sorted(recents.items(), key=lambda item: -item[1].count)
    named = [f"{show(what)} ({recent.count})" for what, recent in most if what]
    more = len(most) - len(named[:MAX_SHOWN_KEYS])
    return ", ".join([*named[:MAX_SHOWN_KEYS], *([f"+{more}"] if more and named else [])])


def _store(report: Report, now: float) -> _Check:
    metrics, (kind, where) = report.metrics, report.store
    error, failed_at = metrics.store_error, utc_or_none(metrics.store_failed_at)
    full = metrics.store_fullness
    check = _Check(
        "store",
        kind=kind,
        where=where,
        error=error,
        failed_at=failed_at,
        events=metrics.store_events,
        bytes=metrics.store_bytes,
        fullness=round(full, 3),
        oldest_unsettled_seconds=round(metrics.oldest_unsettled, 1),
    )
    cause, advice = "store_gone" if error in ADVICE else "store_failed", ADVICE.get(error, "")
    is_failing = now - metrics.store_failed_at < STORE_RECOVERED
    check.add(cause, when=is_failing, error=error, advice=advice, last=failed_at)
    check.add("store_full", when=full >= STORE_FULL, percent=round(100 * full))
    return check


def _archive(metrics: Metrics, now: float) -> _Check:
    lost, error = metrics.archive_lines_lost, metrics.archive_error
    failed_at = utc_or_none(metrics.archive_failed_at)
    check = _Check("archive", lines_lost=lost, error=error, failed_at=failed_at)
    is_failing = now - metrics.archive_failed_at < STORE_RECOVERED
    check.add("archive_failed", when=is_failing, error=error, last=failed_at, lost=lost)
    return check


def _loop(lag: float) -> _Check:
    check = _Check("loop", worst_lag_seconds=round(lag, 4))
    check.add("loop_blocked", when=lag > LAG, seconds=round(lag, 2))
    return check


def _targets(metrics: Metrics) -> _Check:
    targets: dict[str, Any] = {}
    check = _Check("targets", each=targets)
    for name, numbers in sorted(metrics.targets.items(), key=lambda item: urgency(*item)):
        dead, queued = _Count(numbers.unsettled["dead"]), int(numbers.unsettled["queued"])
        if name == REMOVED:
            # The targets of the configuration show their own queues.
            check.add("dead_letters", when=dead, target=name, count=dead)
            check.add("queued", when=queued, target=name, count=queued)
            continue
        targets[name] = view = _target(numbers)
        pause, failure, severity = view["pause"], view["last_failure"], severity_of(numbers)
        if pause:
            check.add("paused_by", target=name, **pause)
        else:
            check.add("paused", when=numbers.paused, target=name)
        if numbers.state in TROUBLED:
            health = numbers.health
            check.add(
                numbers.state,
                severity=severity,
                target=name,
                since=view["failing_since"],
                count=_Count(health.attempts),
                failed=health.failed,
                failure=why_failed(failure or {}),
            )
        check.add("dead_letters", when=dead, target=name, count=dead)
    return check


def _target(numbers: TargetMetrics) -> dict[str, Any]:
    """Return a target as the API has it, without its own words: /status may need no token."""
    now = target_now(numbers)
    failure, pause = now["last_failure"], numbers.pause
    return {
        **now,
        "last_failure": failure
        and {name: failure[name] for name in ("reason", "status", "detail", "at")},
        "paused": bool(numbers.paused),
        "pause": pause and pause_facts(pause),
        "breaker": {state: count for state, count in numbers.breaker.items() if count},
    }
