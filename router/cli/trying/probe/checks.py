"""All checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from router.cli.trying.probe import answers, connections, events, refusals
from router.cli.trying.probe.client import Client, Effort
from router.cli.trying.probe.finding import Finding
from router.cli.trying.probe.samples import Samples


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[Client], Awaitable[Finding]]
    #: How many requests it makes at most.
    requests: int = 1
    #: Whether after its breach no other check would tell more.
    is_first: bool = False


def checks(effort: Effort) -> tuple[Check, ...]:
    return (
        Check("tls", connections.tls, 0, is_first=True),
        Check("redirects", answers.redirects, is_first=True),
        Check("answers", answers.acknowledged, is_first=True),
        Check("timing", answers.timing, effort.requests),
        *(
            Check(name, partial(events.acknowledged, name), len(of(Samples())))
            for name, of in events.AWKWARD.items()
        ),
        *(
            Check(name, partial(refusals.distrusted, name), len(of(Samples())))
            for name, of in refusals.DISTRUSTED.items()
        ),
        Check("rotated", refusals.rotated),
        Check("method", refusals.method),
        Check("content-type", refusals.content_type),
        Check("broken-json", refusals.broken_json, 2),
        Check("keep-alive", connections.keep_alive, 3),
        Check("closing", connections.closing),
        Check("at-once", answers.at_once, effort.at_once),
    )
