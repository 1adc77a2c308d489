"""`/status`: how the router does, from its report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from router.config.document import shown
from router.contract.replies import why_failed
from router.ops.api.targets import target_now
from router.ops.insight import STARTED, Report, utc_or_none
from router.store.protocol import ADVICE
from router.telemetry.log.lines import utc
from router.telemetry.metrics import RECENT_GAP, REMOVED, Metrics, Recent, TargetMetrics

#: How long after its last error the store, or the archive, counts as degraded, in seconds.
STORE_RECOVERED = 60.0

#: From which part of its limits on the store is degraded.
STORE_FULL = 0.5

#: From which lag of the loop on a process is degraded, in seconds.
LAG = 0.25

#: For how long the nodes may run different configurations, in seconds: a roll-out takes its time.
ROLL_OUT = 60.0

#: The most problems of a refused configuration that are repeated.
MAX_SHOWN_PROBLEMS = 20

#: What to do about callbacks that are refused with a code.
_REFUSED: Mapping[str, str] = {
    "400": "the log lines `refused` say what is wrong with each body",
    "401": "compare the token that EBaaS sends with ebaas.token in routes.yaml",
    "403": "the log lines `refused` name the caller, which ebaas.allow_from does not have",
    "408": "the requests arrive too slowly: check the network and the proxies on the way",
    "413": "the bodies are larger than 1 MiB",
    "415": "the bodies are compressed: turn that off at the caller or the proxy",
    "503": "the store is not open, or more callbacks are in flight than --max-requests allows",
    "508": "a target sends its events back to this router: compare the URLs in routes.yaml",
}

#: A refusal counts until the next retry of EBaaS must have come. It counts only this long, in
#: seconds, if a retry usually gets past it, or if the router has let in a callback since.
_PASSED = 300.0
_PASSING = ("408", "503")
_DENIED = ("401", "403")

Check = dict[str, Any]


def status_of(report: Report, now: float) -> dict[str, Any]:
    """`ok`, or `degraded` with every reason for it, and each check with what is behind it."""
    metrics = report.metrics
    checks = {
        "process": _process(report),
        "configuration": _configuration(report),
        "callbacks": _callbacks(metrics, now),
        "store": _store(report, now),
        "archive": _archive(metrics, now),
        "loop": _loop(report.lag),
        "targets": _targets(metrics),
    }
    reasons = [f"{name}: {why}" for name, check in checks.items() for why in check["reasons"]]
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "at": utc(now),
        "version": metrics.build["version"],
        "compiled": metrics.build["compiled"] == "yes",
        "requests": {"in_flight": metrics.requests_in_flight, "limit": metrics.requests_limit},
        **checks,
    }


def _process(report: Report) -> Check:
    return _check(
        [] if report.ready else ["it is not ready"],
        pid=os.getpid(),
        ready=report.ready,
        started=utc(STARTED),
        tasks=report.tasks,
    )


def _configuration(report: Report) -> Check:
    """The configuration in force, and the last reload."""
    standing, reasons = report.standing, []
    problems, tried = standing.problems, utc(standing.tried)
    if not standing.successful:
        reasons.append(f"the file's content was refused at {tried}: {len(problems)} wrong")
    differ = report.metrics.configurations_differ
    if differ > ROLL_OUT:
        reasons.append(f"the nodes have run different ones for {differ:.0f} s")
    return _check(
        reasons,
        hash=standing.config.hash,
        since=utc(standing.since),
        routes=len(standing.config.table.routes),
        targets=len(standing.config.table.targets),
        last_reload={
            "at": tried,
            "successful": standing.successful,
            # In the loader's words: with their places, without any secret.
            "problems": [str(problem) for problem in problems[:MAX_SHOWN_PROBLEMS]],
            "more": max(0, len(problems) - MAX_SHOWN_PROBLEMS),
        },
    )


def _callbacks(metrics: Metrics, now: float) -> Check:
    """Events that match no route and callbacks that are refused. EBaaS resends both in vain."""
    reasons = []
    unmatched, last = _lately(metrics.unmatched_lately, now), metrics.last_unmatched
    if unmatched.count:
        reasons.append(
            f"{_count(unmatched.count, 'event')} matched no route {_when(unmatched)}: "
            "`ebaas-router explain` says why for the last one's key, "
            f"{shown(last.event_key if last else '')}"
        )
    refused: dict[str, Any] = {}
    for code, recent in sorted(metrics.refused_lately.items()):
        let_in = metrics.last_event > recent.last
        is_short = code in _PASSING or (code in _DENIED and let_in)
        lately = _lately(recent, now, _PASSED if is_short else RECENT_GAP)
        if lately.count:
            refused[code] = _recent(lately)
            advice = _REFUSED.get(code, "the log lines `refused` say why")
            count = _count(lately.count, "callback")
            reasons.append(f"{count} refused with {code} {_when(lately)}: {advice}")
    return _check(reasons, unmatched=_recent(unmatched), refused=refused)


def _lately(recent: Recent, now: float, counts_for: float = RECENT_GAP) -> Recent:
    """Return it, or an empty one if it is over."""
    return recent if recent.count and now - recent.last < counts_for else Recent()


def _when(recent: Recent) -> str:
    return f"since {utc(recent.since)}, last at {utc(recent.last)}"


def _recent(recent: Recent) -> dict[str, Any]:
    since, last = utc_or_none(recent.since), utc_or_none(recent.last)
    return {"count": recent.count, "since": since, "last": last}


def _store(report: Report, now: float) -> Check:
    metrics, (kind, where) = report.metrics, report.store
    error, fullness = metrics.store_error, metrics.store_fullness
    failed_at = utc_or_none(metrics.store_failed_at)
    reasons = []
    if now - metrics.store_failed_at < STORE_RECOVERED:
        advice = ADVICE.get(error)
        why = f"{error} ({advice})" if advice else error
        reasons.append(f"{why}, last at {failed_at}")
    if fullness >= STORE_FULL:
        reasons.append(f"{fullness:.0%} full")
    return _check(
        reasons,
        kind=kind,
        where=where,
        error=error,
        failed_at=failed_at,
        events=metrics.store_events,
        bytes=metrics.store_bytes,
        fullness=round(fullness, 3),
        oldest_unsettled_seconds=round(metrics.oldest_unsettled, 1),
    )


def _archive(metrics: Metrics, now: float) -> Check:
    lost, error = metrics.archive_lines_lost, metrics.archive_error
    failed_at = utc_or_none(metrics.archive_failed_at)
    reasons = []
    if now - metrics.archive_failed_at < STORE_RECOVERED:
        reasons.append(f"{error}, last at {failed_at}; lines lost: {lost}")
    return _check(reasons, lines_lost=lost, error=error, failed_at=failed_at)


def _loop(lag: float) -> Check:
    reasons = [f"it was blocked for {lag:.2f} s in the last minute"] if lag > LAG else []
    return _check(reasons, worst_lag_seconds=round(lag, 4))


def _targets(metrics: Metrics) -> Check:
    reasons = []
    each = {}
    for name, numbers in metrics.targets.items():
        if dead := numbers.unsettled["dead"]:
            reasons.append(f"{name} has {_count(dead, 'dead letter')}")
        if name == REMOVED:
            # No target of the configuration is shown that would tell of its queue.
            if queued := numbers.unsettled["queued"]:
                reasons.append(f"{name} has {queued:.0f} queued")
            continue
        each[name] = _target(numbers)
        reasons += [f"{name} {why}" for why in _contained(numbers, each[name]["pause"])]
        if numbers.failing:
            failure = each[name]["last_failure"]
            reasons.append(f"{name} fails: {why_failed(failure)} at {failure['at']}")
    return _check(reasons, each=each)


def _contained(numbers: TargetMetrics, pause: dict[str, Any] | None) -> Iterator[str]:
    """Why it gets fewer attempts than there are events for it."""
    if pause is not None:
        yield f"is paused until {pause['until']} by {pause['who']}: {pause['because']}"
    elif numbers.paused:
        yield "is paused"
    if numbers.breaker["open"] or numbers.breaker["half_open"]:
        yield "has its breaker open"


def _target(numbers: TargetMetrics) -> dict[str, Any]:
    """As the API has it, without what the target said in its own words: who asks may have no
    token."""
    now = target_now(numbers)
    failure, pause = now["last_failure"], numbers.pause
    return {
        **now,
        "failing": numbers.failing,
        "last_failure": failure
        and {name: failure[name] for name in ("reason", "status", "detail", "at")},
        "paused": bool(numbers.paused),
        "pause": pause
        and {
            "since": utc(pause["since"]),
            "until": utc(pause["until"]),
            "because": pause["because"],
            "who": pause["who"],
        },
        "breaker": {state: count for state, count in numbers.breaker.items() if count},
    }


def _check(reasons: Iterable[str], **details: Any) -> Check:
    reasons = list(reasons)
    return {"ok": not reasons, "reasons": reasons, **details}


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}{'' if number == 1 else 's'}"
