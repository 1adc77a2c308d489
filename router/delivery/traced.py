"""The Sender with traces: in force where these are asked for, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.delivery.target.sender import Flight, Sender, addressed
from router.model.event import OutboundEvent
from router.net.loops import Gone
from router.routing.target import Target

if TYPE_CHECKING:
    from router.telemetry.spans import Spans


class TracedSender:
    """A Sender whose attempts have a span each, and carry it as their trace context."""

    def __init__(self, sender: Sender, spans: Spans) -> None:
        self._sender = sender
        self._spans = spans
        self.room = sender.room
        self.is_swamped = sender.is_swamped

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
    ) -> Flight:
        """As `Sender.send`: one that comes to nothing for want of a place has its span too."""
        letter, ending = self._spans.attempt(target.name, target.public_url, letter)
        flight = self._sender.send(target, addressed(letter, letter.event_id), patience, gone)
        if ending is not None:
            flight.listen(ending)
        return flight
