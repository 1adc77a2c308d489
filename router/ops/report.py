"""How the router does, as JSON can carry it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Any, TypedDict

from router.config.reload import Standing
from router.model.event import Attempt
from router.routing.target import Target
from router.telemetry.log.lines import utc
from router.telemetry.metrics import Metrics, Snapshot
from router.telemetry.metrics.instruments import Recent

#: The most problems of a refused configuration that are repeated.
MAX_TOLD_PROBLEMS = 20

_STARTED = time.time()


class Configuration(TypedDict):
    """The configuration in force, and how the last reload went. Times are Unix time, in seconds."""

    hash: str
    since: float
    tried: float
    successful: bool
    #: In the loader's words: with their places, without any secret.
    problems: list[str]
    #: How many more there are.
    more: int
    routes: int
    targets: int


class StoreStatus(TypedDict):
    """How the store does."""

    #: `sqlite`, `postgresql` or `none`.
    kind: str
    #: Which database, without user and password; `""` where it is on this machine.
    where: str
    #: Its last error, `""` where there was none, and when that was.
    error: str
    failed_at: float


class ArchiveStatus(TypedDict):
    """How the archive does: its last error, `""` where there was none, and when that was."""

    error: str
    failed_at: float


class RecentStatus(TypedDict):
    """How often something has happened lately. Times are Unix time, in seconds; 0 is never."""

    count: int
    since: float
    last: float


class CallbacksStatus(TypedDict):
    """Callbacks that reached no target."""

    #: Events that no route matched and that were not acknowledged, and the last one's key.
    unmatched: RecentStatus
    event_key: str
    #: Callbacks that were refused, by the code of the reply.
    refused: dict[str, RecentStatus]


class PauseStatus(TypedDict):
    """A person's pause of a target. Times are Unix time, in seconds."""

    since: float
    until: float
    because: str
    who: str


class FailedAttempt(TypedDict):
    """An attempt that a target failed, at a Unix time in seconds."""

    at: float
    reason: str
    #: The answer's HTTP status, where one came, and a few words of ours; then its own words.
    status: int | None
    detail: str
    code: str
    msg: str


class TargetStatus(TypedDict):
    """How the attempts at one target went lately; no address of it. A time of 0 is never."""

    owner: str
    acknowledged_at: float
    #: The last attempt that was no acknowledgement.
    failure: FailedAttempt | None
    pause: PauseStatus | None


def failed_at(target: TargetStatus) -> float:
    failure = target["failure"]
    return failure["at"] if failure else 0.0


def is_failing(target: TargetStatus) -> bool:
    return failed_at(target) > target["acknowledged_at"]


def told_at(at: float) -> str | None:
    """ISO 8601 in UTC, to the second; None for never."""
    return utc(at) if at else None


class Status(TypedDict):
    """How the process does."""

    pid: int
    started: float
    ready: bool
    #: Asyncio tasks: what grows where something is never finished.
    tasks: int
    configuration: Configuration
    callbacks: CallbacksStatus
    store: StoreStatus
    archive: ArchiveStatus
    #: The loop's worst lag of the last minute, in seconds.
    lag: float
    targets: dict[str, TargetStatus]


class Report(TypedDict):
    """All that the process reports."""

    metrics: Snapshot
    status: Status


def report_of(
    metrics: Metrics, standing: Standing, *, ready: bool, store: tuple[str, str], lag: float
) -> Report:
    """A report of this process; `store` is the store's kind and where it is, `lag` the loop's
    worst of the last minute, in seconds."""
    kind, where = store
    return Report(
        metrics=metrics.snapshot(),
        status=Status(
            pid=os.getpid(),
            started=_STARTED,
            ready=ready,
            tasks=len(asyncio.all_tasks()),
            configuration=_configuration(standing),
            callbacks=_callbacks(metrics),
            store=StoreStatus(
                kind=kind,
                where=where,
                error=metrics.store_error,
                failed_at=metrics.store_failed_at,
            ),
            archive=ArchiveStatus(error=metrics.archive_error, failed_at=metrics.archive_failed_at),
            lag=lag,
            targets=_targets(metrics, standing.config.table.targets.values()),
        ),
    )


def _configuration(standing: Standing) -> Configuration:
    table, problems = standing.config.table, standing.problems
    return Configuration(
        hash=standing.config.hash,
        since=standing.since,
        tried=standing.tried,
        successful=standing.successful,
        problems=[str(problem) for problem in problems[:MAX_TOLD_PROBLEMS]],
        more=max(0, len(problems) - MAX_TOLD_PROBLEMS),
        routes=len(table.routes),
        targets=len(table.targets),
    )


def _callbacks(metrics: Metrics) -> CallbacksStatus:
    last = metrics.last_unmatched
    return CallbacksStatus(
        unmatched=_recent(metrics.unmatched_lately),
        event_key=last.event_key if last else "",
        refused={code: _recent(recent) for code, recent in metrics.refused_lately.items()},
    )


def _recent(recent: Recent) -> RecentStatus:
    return RecentStatus(count=recent.count, since=recent.since, last=recent.last)


def _targets(metrics: Metrics, targets: Iterable[Target]) -> dict[str, TargetStatus]:
    return {
        target.name: TargetStatus(
            owner=target.owner,
            acknowledged_at=numbers.last_acknowledged,
            failure=_failure(numbers.failure),
            pause=_pause(numbers.pause),
        )
        for target in targets
        for numbers in [metrics.of(target.name)]
    }


def _failure(attempt: Attempt | None) -> FailedAttempt | None:
    if attempt is None:
        return None
    return FailedAttempt(
        at=attempt.at,
        reason=attempt.reason,
        status=attempt.status,
        detail=attempt.detail,
        code=attempt.code,
        msg=attempt.msg,
    )


def _pause(said: dict[str, Any] | None) -> PauseStatus | None:
    if said is None:
        return None
    since, until, because, who = (said[name] for name in PauseStatus.__annotations__)
    return PauseStatus(since=since, until=until, because=because, who=who)
