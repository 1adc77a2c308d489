"""The probes, in the contract's JSON."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from router.contract.replies import ACKNOWLEDGED, BUSY, NOT_OPEN
from router.contract.respond import request_id_of, respond


class Probes:
    """`/livez`: the process answers. `/readyz`: it takes callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: The store is not open yet.
        self.opening = True

    async def live(self, request: Request) -> Response:
        return respond(ACKNOWLEDGED, request_id_of(request))

    async def readiness(self, request: Request) -> Response:
        unready = NOT_OPEN if self.opening else BUSY
        return respond(ACKNOWLEDGED if self.ready else unready, request_id_of(request))
