"""A target, and what is said of it in routes.yaml. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from router.model.secret import Secret
from router.net.egress import ANYWHERE, Egress
from router.net.tls import USUAL, Tls


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long."""

    #: The share of failures at which it opens, from 0 to 1.
    failures: float = 0.5
    #: Among at least so many attempts.
    of_at_least: int = 20
    #: That ended within so many seconds.
    within: float = 30.0
    #: How long it stays open before it lets an attempt probe, in seconds.
    pause: float = 10.0
    #: Whether a target's own refusal of an event counts as a failure. It does answer.
    refusals: Literal["ignore", "count"] = "ignore"


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a target may be called, by one process."""

    per_second: float
    #: How many attempts may come at once after a time of rest.
    burst: int


@dataclass(frozen=True, slots=True)
class Target:
    """A named downstream URL with its policy; the name is its identity, not the URL."""

    name: str
    #: It may hold a secret.
    url: str = field(repr=False)
    #: The longest that one attempt may take, in seconds, from the first step to the last byte.
    timeout: float = 5.0
    #: What counts as an acknowledgement: a 2xx with the contract's code, or any 2xx.
    acknowledge: Literal["code", "status"] = "code"
    #: The most attempts that one process has in flight to it.
    max_in_flight: int = 64
    #: Sent besides the router's own; names in lower case.
    headers: tuple[tuple[str, Secret], ...] = ()
    #: What attempts are signed with, by all of them; none are where there is none.
    secret: tuple[Secret, ...] = ()
    #: When it is spared for a while; never where there is none.
    breaker: BreakerPolicy | None = None
    #: How often one process may call it.
    rate: Rate | None = None
    #: No attempt is made.
    paused: bool = False
    #: Who answers for it; repeated in logs and pages.
    owner: str = ""
    #: How TLS is spoken to it.
    tls: Tls = USUAL
    #: Where it may be; the same for all.
    egress: Egress = ANYWHERE
    #: The URL as it may be printed: what may be a secret in it is `***`. Empty where it was not
    #: read from a file.
    public_url: str = field(default="", compare=False)

    def __hash__(self) -> int:
        """By what tells targets apart, not by all that they have: each attempt looks one up."""
        return hash(self.name)
