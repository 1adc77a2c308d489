"""Copies of events, which nobody is to take for the real ones."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import quote

from router.cli.trying.caller import Ebaas, Response
from router.cli.trying.request import Request
from router.contract.replies import is_sane
from router.model.event import new_id
from router.net.client_tls import Tls
from router.transport.engine import Pool

#: What a copy's `webhook-id` begins with: whoever dedupes by it never loses the real event.
COPY_PREFIX = b"copy_"

#: Names the command that has made the copy.
COPY_HEADER = b"x-ebaas-copy"

Header = tuple[bytes, bytes]


class Copy(NamedTuple):
    """What is sent."""

    headers: tuple[Header, ...]
    body: bytes


def copy_of(by: str, event_id: str, event_key: str, body: str) -> Copy:
    """An event's body, byte for byte, marked by the command that sends it. What a router would not
    have said of it makes no header, and nothing fail."""
    known = _plain(event_id)
    headers = (
        (b"content-type", b"application/json"),
        (b"accept", b"application/json"),
        (b"webhook-id", COPY_PREFIX + (known if is_sane(known) else new_id().encode())),
        (b"x-ebaas-event-key", quote(_plain(event_key), safe="").encode()),
        (b"x-request-id", new_id().encode()),
        (COPY_HEADER, by.encode()),
    )
    return Copy(headers, _plain(body))


def _plain(text: str) -> bytes:
    """A surrogate that stands alone is no text."""
    return text.encode("utf-8", "replace")


class Copier:
    """Sends copies to one URL, one after the other, over connections that stay; they belong to the
    loop of `runner`."""

    def __init__(self, url: str, tls: Tls, runner: asyncio.Runner) -> None:
        self._url = url
        self._runner = runner
        self._pool = runner.run(_pool(url, tls))

    def send(self, copy: Copy, timeout: float) -> Response:
        request = Request(self._url, copy.headers, copy.body, timeout)
        return self._runner.run(Ebaas(self._pool, request).call())

    def close(self) -> None:
        self._runner.run(self._pool.close())


async def _pool(url: str, tls: Tls) -> Pool:
    from router.transport.native import NativePool

    return NativePool(url, tls)
