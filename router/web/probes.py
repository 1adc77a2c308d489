"""The probes, in the contract's JSON."""

from __future__ import annotations

from router.web.call import ANSWERED, Call, Handler
from router.web.replies import ACKNOWLEDGED, BUSY, NOT_OPEN, Reply


class Probes:
    """`/livez`: the process answers. `/readyz`: it takes callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: The store is not open yet.
        self.opening = True

    def live(self, call: Call) -> Handler:
        return _answer(call, ACKNOWLEDGED)

    def readiness(self, call: Call) -> Handler:
        if self.ready:
            return _answer(call, ACKNOWLEDGED)
        return _answer(call, NOT_OPEN if self.opening else BUSY)


def _answer(call: Call, reply: Reply) -> Handler:
    call.reply(reply, reply.status)
    return ANSWERED
