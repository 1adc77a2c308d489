"""The console's API: a table of endpoints, each in the file of what it is about."""

from __future__ import annotations

from typing import Any

from router.config.holders import DEEDS
from router.ops.api.application import described
from router.ops.api.deliveries import ACTS, DELIVERIES
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.events import EVENTS, STREAM
from router.ops.api.routes import ROUTES
from router.ops.api.status import NODES, STANDING
from router.ops.api.targets import PAUSING, TARGETS

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
