"""`/status`: how the whole service does, from what its processes report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from router.config import shown
from router.contract import why_failed
from router.ops.report import (
    ArchiveStatus,
    CallbacksStatus,
    Configuration,
    RecentStatus,
    Report,
    Status,
    StoreStatus,
    TargetStatus,
    failed_at,
    is_failing,
    told_at,
)
from router.store import ADVICE
from router.telemetry import RECENT_GAP, Snapshot, merged

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


@dataclass(frozen=True, slots=True)
class Reports:
    """What was gathered of all processes of the service."""

    living: Sequence[Report]
    #: The last snapshots of processes that are gone, one by one or merged.
    retired: Sequence[Snapshot] = ()
    #: How many processes live and did not answer in time.
    silent: int = 0

    @property
    def metrics(self) -> Snapshot:
        return merged([report["metrics"] for report in self.living], self.retired)

    def target(self, name: str) -> TargetStatus | None:
        """How the attempts at it went lately in all that live; None where none of them has it."""
        statuses = [report["status"]["targets"] for report in self.living]
        known = [targets[name] for targets in statuses if name in targets]
        if not known:
            return None
        return {
            **max(known, key=failed_at),
            "acknowledged_at": max(each["acknowledged_at"] for each in known),
            "pause": next((each["pause"] for each in known if each["pause"]), None),
        }


def status_of(reports: Reports, now: float) -> dict[str, Any]:
    """`ok`, or `degraded` with every reason for it, and each check with what is behind it."""
    metrics = reports.metrics
    statuses = [report["status"] for report in reports.living]
    checks = {
        "processes": _processes(statuses, reports.silent),
        "configuration": _configuration([s["configuration"] for s in statuses], metrics),
        "callbacks": _callbacks([status["callbacks"] for status in statuses], metrics, now),
        "store": _store([status["store"] for status in statuses], metrics, now),
        "archive": _archive([status["archive"] for status in statuses], metrics, now),
        "loop": _loop(statuses),
        "targets": _targets(reports, metrics),
    }
    reasons = [f"{name}: {why}" for name, check in checks.items() for why in check["reasons"]]
    build = metrics["process"]["build"][0] if statuses else {}
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "at": told_at(now),
        "version": build.get("version", ""),
        "compiled": build.get("compiled") == "yes",
        "requests": {
            "in_flight": metrics["process"]["requests_in_flight"],
            "limit": metrics["process"]["requests_limit"],
        },
        **checks,
    }


def _processes(statuses: Sequence[Status], silent: int) -> Check:
    reasons = [f"process {each['pid']} is not ready" for each in statuses if not each["ready"]]
    if silent:
        reasons.append(f"{silent} of {len(statuses) + silent} do not answer")
    if not statuses:
        reasons.append("none answers")
    each = [
        {
            "pid": status["pid"],
            "ready": status["ready"],
            "started": told_at(status["started"]),
            "tasks": status["tasks"],
        }
        for status in statuses
    ]
    return _check(reasons, answering=len(statuses), silent=silent, each=each)


def _configuration(known: Sequence[Configuration], metrics: Snapshot) -> Check:
    """The newest one in force, and the last reload of all processes."""
    if not known:
        return _check([])
    newest = max(known, key=lambda each: each["since"])
    last = max(known, key=lambda each: (not each["successful"], each["tried"]))
    hashes = {each["hash"] for each in known}
    reasons = []
    if not last["successful"]:
        count = len(last["problems"]) + last["more"]
        reasons.append(f"the file's content was refused at {told_at(last['tried'])}: {count} wrong")
    if len(hashes) > 1:
        reasons.append(f"the processes have {len(hashes)} different ones in force")
    differ = metrics["process"]["configurations_differ"]
    if differ > ROLL_OUT:
        reasons.append(f"the nodes have run different ones for {differ:.0f} s")
    reload = {
        "at": told_at(last["tried"]),
        "successful": last["successful"],
        "problems": last["problems"],
        "more": last["more"],
    }
    return _check(
        reasons,
        hash=newest["hash"],
        since=told_at(newest["since"]),
        routes=newest["routes"],
        targets=newest["targets"],
        last_reload=reload,
    )


def _callbacks(known: Sequence[CallbacksStatus], metrics: Snapshot, now: float) -> Check:
    """Events that match no route and callbacks that are refused. EBaaS resends both in vain."""
    reasons = []
    unmatched = _lately([each["unmatched"] for each in known], now)
    if unmatched["count"]:
        key = max(known, key=lambda each: each["unmatched"]["last"])["event_key"]
        reasons.append(
            f"{_count(unmatched['count'], 'event')} matched no route {_when(unmatched)}: "
            f"`ebaas-router explain` says why for the last one's key, {shown(key)}"
        )
    refused: dict[str, Any] = {}
    for code in sorted({code for each in known for code in each["refused"]}):
        each = [each["refused"][code] for each in known if code in each["refused"]]
        let_in = metrics["process"]["last_event"] > max(recent["last"] for recent in each)
        is_short = code in _PASSING or (code in _DENIED and let_in)
        lately = _lately(each, now, _PASSED if is_short else RECENT_GAP)
        if lately["count"]:
            refused[code] = _recent(lately)
            advice = _REFUSED.get(code, "the log lines `refused` say why")
            count = _count(lately["count"], "callback")
            reasons.append(f"{count} refused with {code} {_when(lately)}: {advice}")
    return _check(reasons, unmatched=_recent(unmatched), refused=refused)


def _lately(
    known: Iterable[RecentStatus], now: float, counts_for: float = RECENT_GAP
) -> RecentStatus:
    """The counts of several processes as one, without those that are over."""
    going_on = [each for each in known if each["count"] and now - each["last"] < counts_for]
    return RecentStatus(
        count=sum(each["count"] for each in going_on),
        since=min((each["since"] for each in going_on), default=0.0),
        last=max((each["last"] for each in going_on), default=0.0),
    )


def _when(recent: RecentStatus) -> str:
    return f"since {told_at(recent['since'])}, last at {told_at(recent['last'])}"


def _recent(recent: RecentStatus) -> dict[str, Any]:
    return {**recent, "since": told_at(recent["since"]), "last": told_at(recent["last"])}


def _store(known: Sequence[StoreStatus], metrics: Snapshot, now: float) -> Check:
    if not known:
        return _check([])
    process = metrics["process"]
    last = max(known, key=lambda each: each["failed_at"])
    fullness = process["store_fullness"]
    reasons = []
    if now - last["failed_at"] < STORE_RECOVERED:
        error, advice = last["error"], ADVICE.get(last["error"])
        why = f"{error} ({advice})" if advice else error
        reasons.append(f"{why}, last at {told_at(last['failed_at'])}")
    if fullness >= STORE_FULL:
        reasons.append(f"{fullness:.0%} full")
    return _check(
        reasons,
        kind=last["kind"],
        where=last["where"],
        error=last["error"],
        failed_at=told_at(last["failed_at"]),
        events=process["store_events"],
        bytes=process["store_bytes"],
        fullness=round(fullness, 3),
        oldest_unsettled_seconds=round(process["oldest_unsettled"], 1),
    )


def _archive(known: Sequence[ArchiveStatus], metrics: Snapshot, now: float) -> Check:
    last = max(
        known, key=lambda each: each["failed_at"], default=ArchiveStatus(error="", failed_at=0)
    )
    lost, reasons = metrics["process"]["archive_lines_lost"], []
    if now - last["failed_at"] < STORE_RECOVERED:
        reasons.append(f"{last['error']}, last at {told_at(last['failed_at'])}; lines lost: {lost}")
    failed_at = told_at(last["failed_at"])
    return _check(reasons, lines_lost=lost, error=last["error"], failed_at=failed_at)


def _loop(statuses: Sequence[Status]) -> Check:
    reasons = [
        f"process {each['pid']} was blocked for {each['lag']:.2f} s in the last minute"
        for each in statuses
        if each["lag"] > LAG
    ]
    return _check(reasons, worst_lag_seconds=max((round(s["lag"], 4) for s in statuses), default=0))


def _targets(reports: Reports, metrics: Snapshot) -> Check:
    reasons = []
    each = {}
    for name, numbers in metrics["targets"].items():
        dead = numbers["unsettled"]["dead"]
        if dead:
            reasons.append(f"{name} has {_count(dead, 'dead letter')}")
        lately = reports.target(name)
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
