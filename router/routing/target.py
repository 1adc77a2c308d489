"""A target and its policy, as routes.yaml has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from router.contract.schedule import Schedule
from router.model.secret import Secret
from router.net.egress import ANYWHERE, Egress
from router.net.tls import USUAL, Tls


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The conditions under which a breaker opens, and for how long."""

    #: It opens at this share of failures, from 0 to 1,
    failures: float = 0.5
    #: among at least so many attempts
    of_at_least: int = 20
    #: that ended within so many seconds.
    within: float = 30.0
    #: The time that it stays open before the next probe, in seconds.
    pause: float = 10.0
    #: `count`: an answer that refuses an event counts as a failure.
    refusals: Literal["ignore", "count"] = "ignore"


@dataclass(frozen=True, slots=True)
class Rate:
    """The most calls of a target by one process."""

    per_second: float
    #: The most attempts that may follow each other at once after a pause.
    burst: int


@dataclass(frozen=True, slots=True)
class Target:
    """A named downstream URL with its policy; the name is its identity, not the URL."""

    name: str
    #: It may contain a secret.
    url: str = field(repr=False)
    #: The longest that an attempt may take, from connecting to the last byte, in seconds.
    timeout: float = 5.0
    #: An acknowledgement is a 2xx with the contract's code, or any 2xx.
    acknowledge: Literal["code", "status"] = "code"
    #: The most attempts in flight, for each process.
    max_in_flight: int = 64
    #: Headers besides the router's own; names in lower case.
    headers: tuple[tuple[str, Secret], ...] = ()
    #: Attempts are signed with all of these.
    secret: tuple[Secret, ...] = ()
    breaker: BreakerPolicy | None = None
    rate: Rate | None = None
    #: Its retries while it is optional; None: the schedule of all targets.
    queue: Schedule | None = None
    paused: bool = False
    #: The team that is responsible for it, shown in logs and on pages.
    owner: str = ""
    tls: Tls = USUAL
    #: The addresses that events may go to; the same for all targets.
    egress: Egress = ANYWHERE
    #: The URL to print: possible secrets in it are `***`. Empty if it was not read from a file.
    public_url: str = field(default="", compare=False)

    def __hash__(self) -> int:
        """The hash of the name alone: every attempt looks a target up."""
        return hash(self.name)
