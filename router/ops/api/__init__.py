"""The console's API: a table of endpoints, each in the file of what it is about."""

from __future__ import annotations

from typing import Any

from router.config.holders import DEEDS
from router.ops.api.acting import ACTS
from router.ops.api.deliveries import DELIVERIES
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.events import EVENTS
from router.ops.api.nodes import NODES
from router.ops.api.openapi import described
from router.ops.api.pausing import PAUSING
from router.ops.api.routes import ROUTES
from router.ops.api.standing import STANDING
from router.ops.api.stream import STREAM
from router.ops.api.targets import TARGETS

#: Where it is.
PREFIX = "/api/v1"


async def openapi(asked: Asked) -> dict[str, Any]:
    """This description"""
    return described(ENDPOINTS, PREFIX)


#: All there is.
ENDPOINTS: tuple[Endpoint, ...] = (
    *STANDING,
    *TARGETS,
    *PAUSING,
    *ROUTES,
    *NODES,
    *EVENTS,
    *DELIVERIES,
    *ACTS,
    *STREAM,
    Endpoint("GET", "/openapi.json", openapi, dict[str, Any], may=DEEDS),
)
