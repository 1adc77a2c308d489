"""A Sender with an engine, and one letter."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.contract.schedule import PLATFORM, Terms
from router.delivery.notifications import Notifications
from router.delivery.observer import Observer
from router.delivery.rules import InForce
from router.delivery.target.sender import Flight, Sender, addressed
from router.model.event import Event, OutboundEvent
from router.routing.table import RouteTable
from router.routing.target import Target
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from tests.support.engines import Engine

EVENT = Event("a", "gs", "cert", "1", "a.gs.cert.1", b"{}")
LETTER = addressed(OutboundEvent.of(EVENT, "request"), "id", 0.0)


def no_notifications() -> Notifications:
    """No route is meant for any."""
    in_force = InForce(RouteTable([], {}), Terms(PLATFORM, 60.0, 8.0, PLATFORM))
    return Notifications(lambda: in_force, Metrics(), Log(io.StringIO()))


def send(
    sender: Sender,
    target: Target,
    gone: asyncio.Future[None] | None = None,
    patience: float = 1.0,
) -> Flight:
    return sender.send(target, LETTER, patience, gone)


@asynccontextmanager
async def sending(
    engine: Engine, target: Target, log: io.StringIO | None = None
) -> AsyncIterator[tuple[Sender, Metrics]]:
    metrics = Metrics()
    observer = Observer(Log(log or io.StringIO(), "json"), metrics, no_notifications())
    sender = Sender([target], engine, 100, metrics, observer)
    try:
        yield sender, metrics
    finally:
        await sender.close()
