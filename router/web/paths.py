"""The callback port's paths, and what is said where none of them fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from router.journal import Journal
from router.web.call import ANSWERED, Call, Handler, refused
from router.web.replies import NOT_FOUND, WRONG_METHOD, Reply


class Resource(NamedTuple):
    """What is at a path."""

    methods: tuple[bytes, ...]
    #: Is called once a request's head has come, as `Application.begin` is.
    begin: Callable[[Call], Handler]


class Paths:
    """All of them, each by its whole name: `/callback/` is another path than `/callback`."""

    def __init__(self, resources: Mapping[str, Resource], journal: Journal) -> None:
        self._resources = resources
        self._journal = journal

    def begin(self, call: Call) -> Handler:
        resource = self._resources.get(call.head.path)
        if resource is None:
            return self._refuse(call, NOT_FOUND, "no such path")
        if call.head.method not in resource.methods:
            allow = b"allow: %b\r\n" % b", ".join(resource.methods)
            return self._refuse(call, WRONG_METHOD, "no such method there", allow)
        return resource.begin(call)

    def _refuse(self, call: Call, reply: Reply, why: str, more: bytes = b"") -> Handler:
        # Neither path nor method is repeated: a path may hold a secret.
        call.reply(reply, reply.status, more)
        self._journal.refused(call.told, refused(reply, why))
        return ANSWERED
