"""`/status`: how the router does, from its report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from router.config.document import shown
from router.contract.replies import why_failed
from router.ops.report import (
    ArchiveStatus,
    CallbacksStatus,
    Configuration,
    RecentStatus,
    Report,
    Status,
    StoreStatus,
    TargetStatus,
    is_failing,
    told_at,
)
from router.store.promises import ADVICE
from router.telemetry.metrics.instruments import RECENT_GAP

#: How long after its last error the store, or the archive, counts as degraded, in seconds.
STORE_RECOVERED = 60.0

#: From which part of its limits on the store is degraded.
STORE_FULL = 0.5

#: From which lag of the loop on a process is degraded, in seconds.
LAG = 0.25

#: For how long the nodes may run different configurations, in seconds: a roll-out takes its time.
ROLL_OUT = 60.0

#: What to do about callbacks that are refused with a code.
_REFUSED: Mapping[str, str] = {
    "400": "the log lines `refused` say what is wrong with each body",
    "401": "compare the token that EBaaS sends with ebaas.token in routes.yaml",
    "403": "the log lines `refused` name the caller, which ebaas.allow_from does not have",
    "408": "the requests arrive too slowly: check the network and the proxies on the way",
    "413": "the bodies are larger than --max-body",
    "415": "the bodies are compressed: turn that off at the caller or the proxy",
    "503": "the store is not open, or more callbacks are in flight than --max-requests allows",
    "508": "a target sends its events back to this router: compare the URLs in routes.yaml",
}

#: A refusal counts until the next retry of EBaaS must have come. It counts only this long, in
#: seconds, if a retry usually gets past it, or if the router has let in a callback since.
_PASSED = 300.0
_PASSING = ("408", "503")
_DENIED = ("401", "403")

#: A target in one word. What needs a person soonest comes first.
TargetState = Literal[
    "failing", "dead_letters", "paused", "breaker_open", "waiting", "well", "unused"
]
WORST: tuple[TargetState, ...] = get_args(TargetState)

Check = dict[str, Any]

#: The numbers of the process, by the names of the metrics' table.
Numbers = Mapping[str, Any]


def status_of(report: Report, now: float) -> dict[str, Any]:
    """`ok`, or `degraded` with every reason for it, and each check with what is behind it."""
    metrics, status = report["metrics"], report["status"]
    process = metrics["process"]
    checks = {
        "process": _process(status),
        "configuration": _configuration(status["configuration"], process),
        "callbacks": _callbacks(status["callbacks"], process, now),
        "store": _store(status["store"], process, now),
        "archive": _archive(status["archive"], process, now),
        "loop": _loop(status),
        "targets": _targets(report),
    }
    reasons = [f"{name}: {why}" for name, check in checks.items() for why in check["reasons"]]
    build = process["build"][0]
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "at": told_at(now),
        "version": build["version"],
        "compiled": build["compiled"] == "yes",
        "requests": {
            "in_flight": process["requests_in_flight"],
            "limit": process["requests_limit"],
        },
        **checks,
    }


def _process(status: Status) -> Check:
    return _check(
        [] if status["ready"] else ["it is not ready"],
        pid=status["pid"],
        ready=status["ready"],
        started=told_at(status["started"]),
        tasks=status["tasks"],
    )


def _configuration(known: Configuration, process: Numbers) -> Check:
    """The configuration in force, and the last reload."""
    reasons = []
    if not known["successful"]:
        count, tried = len(known["problems"]) + known["more"], told_at(known["tried"])
        reasons.append(f"the file's content was refused at {tried}: {count} wrong")
    differ = process["configurations_differ"]
    if differ > ROLL_OUT:
        reasons.append(f"the nodes have run different ones for {differ:.0f} s")
    reload = {
        "at": told_at(known["tried"]),
        "successful": known["successful"],
        "problems": known["problems"],
        "more": known["more"],
    }
    return _check(
        reasons,
        hash=known["hash"],
        since=told_at(known["since"]),
        routes=known["routes"],
        targets=known["targets"],
        last_reload=reload,
    )


def _callbacks(known: CallbacksStatus, process: Numbers, now: float) -> Check:
    """Events that match no route and callbacks that are refused. EBaaS resends both in vain."""
    reasons = []
    unmatched = _lately(known["unmatched"], now)
    if unmatched["count"]:
        reasons.append(
            f"{_count(unmatched['count'], 'event')} matched no route {_when(unmatched)}: "
            "`ebaas-router explain` says why for the last one's key, "
            f"{shown(known['event_key'])}"
        )
    refused: dict[str, Any] = {}
    for code, recent in sorted(known["refused"].items()):
        let_in = process["last_event"] > recent["last"]
        is_short = code in _PASSING or (code in _DENIED and let_in)
        lately = _lately(recent, now, _PASSED if is_short else RECENT_GAP)
        if lately["count"]:
            refused[code] = _recent(lately)
            advice = _REFUSED.get(code, "the log lines `refused` say why")
            count = _count(lately["count"], "callback")
            reasons.append(f"{count} refused with {code} {_when(lately)}: {advice}")
    return _check(reasons, unmatched=_recent(unmatched), refused=refused)


def _lately(recent: RecentStatus, now: float, counts_for: float = RECENT_GAP) -> RecentStatus:
    """The recent, or an empty one if it is over."""
    if recent["count"] and now - recent["last"] < counts_for:
        return recent
    return RecentStatus(count=0, since=0.0, last=0.0)


def _when(recent: RecentStatus) -> str:
    return f"since {told_at(recent['since'])}, last at {told_at(recent['last'])}"


def _recent(recent: RecentStatus) -> dict[str, Any]:
    return {**recent, "since": told_at(recent["since"]), "last": told_at(recent["last"])}


def _store(known: StoreStatus, process: Numbers, now: float) -> Check:
    error, fullness = known["error"], process["store_fullness"]
    reasons = []
    if now - known["failed_at"] < STORE_RECOVERED:
        advice = ADVICE.get(error)
        why = f"{error} ({advice})" if advice else error
        reasons.append(f"{why}, last at {told_at(known['failed_at'])}")
    if fullness >= STORE_FULL:
        reasons.append(f"{fullness:.0%} full")
    return _check(
        reasons,
        kind=known["kind"],
        where=known["where"],
        error=error,
        failed_at=told_at(known["failed_at"]),
        events=process["store_events"],
        bytes=process["store_bytes"],
        fullness=round(fullness, 3),
        oldest_unsettled_seconds=round(process["oldest_unsettled"], 1),
    )


def _archive(known: ArchiveStatus, process: Numbers, now: float) -> Check:
    lost, failed_at = process["archive_lines_lost"], told_at(known["failed_at"])
    reasons = []
    if now - known["failed_at"] < STORE_RECOVERED:
        reasons.append(f"{known['error']}, last at {failed_at}; lines lost: {lost}")
    return _check(reasons, lines_lost=lost, error=known["error"], failed_at=failed_at)


def _loop(status: Status) -> Check:
    lag = status["lag"]
    reasons = [f"it was blocked for {lag:.2f} s in the last minute"] if lag > LAG else []
    return _check(reasons, worst_lag_seconds=round(lag, 4))


def _targets(report: Report) -> Check:
    reasons = []
    each = {}
    for name, numbers in report["metrics"]["targets"].items():
        dead = numbers["unsettled"]["dead"]
        if dead:
            reasons.append(f"{name} has {_count(dead, 'dead letter')}")
        lately = report["status"]["targets"].get(name)
        if lately is None:
            # In no configuration, so there is no line of it that would tell.
            if queued := numbers["unsettled"]["queued"]:
                reasons.append(f"{name} has {queued:.0f} queued")
            continue
        each[name] = _target(lately, numbers)
        reasons += [f"{name} {why}" for why in _contained(numbers, each[name]["pause"])]
        if is_failing(lately):
            failure = each[name]["last_failure"]
            reasons.append(f"{name} fails: {why_failed(failure)} at {failure['at']}")
    return _check(reasons, each=each)


def _contained(numbers: dict[str, Any], pause: dict[str, Any] | None) -> Iterator[str]:
    """Why it gets fewer attempts than there are events for it."""
    if pause is not None:
        yield f"is paused until {pause['until']} by {pause['who']}: {pause['because']}"
    elif numbers["paused"]:
        yield "is paused"
    if numbers["breaker"]["open"] or numbers["breaker"]["half_open"]:
        yield "has its breaker open"


def _target(lately: TargetStatus, numbers: dict[str, Any]) -> dict[str, Any]:
    failed = lately["failure"]
    failure = failed and {
        **{name: failed[name] for name in ("reason", "status", "detail")},
        "at": told_at(failed["at"]),
    }
    paused = lately["pause"]
    pause = paused and {
        **paused,
        "since": told_at(paused["since"]),
        "until": told_at(paused["until"]),
    }
    return {
        "owner": lately["owner"],
        "state": state_of(numbers, lately),
        "failing": is_failing(lately),
        "last_acknowledged": told_at(lately["acknowledged_at"]),
        "last_failure": failure,
        "failing_since": told_at(numbers["failing_since"]),
        "paused": bool(numbers["paused"]),
        "pause": pause,
        "breaker": {state: count for state, count in numbers["breaker"].items() if count},
        "in_flight": numbers["in_flight"],
        "limit": numbers["limit"],
        "unsettled": numbers["unsettled"],
    }


def state_of(numbers: Mapping[str, Any], lately: TargetStatus) -> TargetState:
    """One word for it. What a person has paused is meant to be so, whatever it did before."""
    unsettled, breaker = numbers["unsettled"], numbers["breaker"]
    if numbers["paused"]:
        return "paused"
    if is_failing(lately):
        return "failing"
    if unsettled["dead"]:
        return "dead_letters"
    if breaker["open"] or breaker["half_open"]:
        return "breaker_open"
    now = numbers["waiting"] or numbers["waiting_for_rate"]
    if now or unsettled["queued"] or unsettled["awaiting"]:
        return "waiting"
    return "well" if lately["acknowledged_at"] or lately["failure"] else "unused"


def _check(reasons: Iterable[str], **details: Any) -> Check:
    reasons = list(reasons)
    return {"ok": not reasons, "reasons": reasons, **details}


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}{'' if number == 1 else 's'}"
