"""Checks of connections: TLS, and whether one can be used again, and ends in order."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import replace

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import Finding, breach, good, skipped, unacknowledged
from router.transport.engine import Failure
from router.transport.native import TargetConnection

#: How long a certificate has to be good for yet, in days.
_LEAST_DAYS = 14

#: How often a connection is looked at, in seconds.
_LOOK = 0.005


async def tls(client: Client) -> Finding:
    words = client.words
    if not client.target.url.lower().startswith("https:"):
        return skipped(words("tls.http"))
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("tls"))
    if not connection.certificate:
        return good(words("tls.unseen"))
    end = ssl.cert_time_to_seconds(connection.certificate["notAfter"])
    days = (end - time.time()) / 86400
    if days >= _LEAST_DAYS:
        return good(words("tls.good", days=f"{days:.0f}"))
    said = words("tls.ends", days=f"{days:.1f}")
    return breach(said, words("tls.ends.then"), words("tls.ends.mend"))


async def keep_alive(client: Client) -> Finding:
    """An event, and after a rest a refusal and one more event, by one connection as long as the
    answers let it live."""
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    _, attempt, lives = await client.ask(connection, client.samples.event())
    if not attempt.acknowledged:
        return unacknowledged(words, attempt, words("keep-alive"))
    if not lives:
        return good(words("keep-alive.none"))
    if await _ended(connection, client.effort.idle):
        said = words("keep-alive.ends", idle=f"{client.effort.idle:g}")
        return breach(said, words("keep-alive.ends.then"), words("keep-alive.ends.mend"))
    if not (await client.ask(connection, client.samples.raw(b'{"event_source"'))).lives:
        return good(words("keep-alive.refusal"))
    attempt = (await client.ask(connection, client.samples.event())).attempt
    if not attempt.acknowledged:
        found = unacknowledged(words, attempt, words("keep-alive.left over"))
        return replace(found, mend=words("keep-alive.left over.mend"))
    return good(words("keep-alive.good"))


async def closing(client: Client) -> Finding:
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    sample = replace(client.samples.event(), lines=b"connection: close\r\n")
    attempt = (await client.ask(connection, sample)).attempt
    if not attempt.acknowledged:
        return unacknowledged(words, attempt, words("closing"))
    if await _ended(connection, min(1.0, client.target.timeout)):
        return good(words("closing.good"))
    said = words("closing.stays")
    return breach(said, words("closing.stays.then"), words("closing.stays.mend"))


async def _ended(connection: TargetConnection, seconds: float) -> bool:
    """Whether it ends within so many seconds, or has already."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while connection.is_idle and clock() < until:  # noqa: ASYNC110 - its end tells nobody else
        await asyncio.sleep(_LOOK)
    return not connection.is_idle
