"""The heart: one event to all its targets at once, and when its reply is decided."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from router.model import Attempt
from router.routes import Plan, Target
from router.sender import Envelope, Headers, Sender


@dataclass(slots=True)
class Delivery:
    """One event to one target. Not frozen: its attempt is filled in once, when that ends."""

    target: Target
    required: bool
    #: None while the attempt is in flight.
    attempt: Attempt | None = None
    #: The attempt outlived the decision about the reply.
    late: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.attempt is not None and self.attempt.acknowledged


class Outcome:
    """How one request went: all its deliveries, taken together."""

    def __init__(self, envelope: Envelope, plan: Plan) -> None:
        self.envelope = envelope
        self.deliveries = (
            *(Delivery(target, required=True) for target in plan.required),
            *(Delivery(target, required=False) for target in plan.optional),
        )
        self.attempts: tuple[asyncio.Task[None], ...] = ()

    @property
    def acknowledged(self) -> bool:
        """Every required target has acknowledged; without that there is no `000`."""
        return all(delivery.acknowledged for delivery in self.deliveries if delivery.required)

    @property
    def lost(self) -> tuple[Delivery, ...]:
        """The optional deliveries that nobody tries again, once all is over."""
        return tuple(d for d in self.deliveries if not d.required and not d.acknowledged)

    async def over(self) -> None:
        """Return when the last attempt has ended: each does within its target's timeout.

        Raises what went wrong in the router itself, if anything did.
        """
        if self.attempts:
            await asyncio.wait(self.attempts)
        for attempt in self.attempts:
            attempt.result()


class Forwarder:
    """Sends an event to every target of its plan and waits until the reply is decided."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def forward(self, envelope: Envelope, plan: Plan, deadline: float) -> Outcome:
        """All targets at once; returns as soon as the reply is decided.

        That is when every required attempt has ended, or at `deadline` (on `time.monotonic`). One
        failure does not end it: the reply would not be another, and a retry that overlaps the
        attempts still in flight would deliver twice. What is in flight then runs on.
        """
        outcome = Outcome(envelope, plan)
        common = envelope.headers()
        outcome.attempts = tuple(
            asyncio.create_task(self._attempt(delivery, envelope, common))
            for delivery in outcome.deliveries
        )
        required = outcome.attempts[: len(plan.required)]
        if required:
            await asyncio.wait(required, timeout=max(0.0, deadline - time.monotonic()))
        for delivery in outcome.deliveries:
            delivery.late = delivery.attempt is None
        return outcome

    async def _attempt(self, delivery: Delivery, envelope: Envelope, common: Headers) -> None:
        delivery.attempt = await self._sender.send(delivery.target, envelope, common)
