"""Checks of connections: TLS, and whether one can be used again, and ends in order."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import replace

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import Finding, breach, good, skipped, unacknowledged
from router.transport import Failure
from router.transport.native import TargetConnection

#: How long a certificate has to be good for yet, in days.
_LEAST_DAYS = 14

#: How often a connection is looked at, in seconds.
_LOOK = 0.005


async def tls(client: Client) -> Finding:
    if not client.target.url.lower().startswith("https:"):
        return skipped("the URL is http")
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(client.judged(connection), "no connection by TLS")
    if not connection.certificate:
        return good("connected; the certificate is not looked at, by `verify: false`")
    end = ssl.cert_time_to_seconds(connection.certificate["notAfter"])
    days = (end - time.time()) / 86400
    if days >= _LEAST_DAYS:
        return good(f"the certificate is good for {days:.0f} days")
    then = "it connects until then; afterwards every event fails as `tls`, and comes again"
    return breach(f"the certificate ends in {days:.1f} days", then, "renew it, and have that done")


async def keep_alive(client: Client) -> Finding:
    """An event, and after a rest a refusal and one more event, by one connection as long as the
    answers let it live."""
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(client.judged(connection), "no connection")
    _, attempt, lives = await client.ask(connection, client.samples.event())
    if not attempt.acknowledged:
        return unacknowledged(attempt, "the first event is not acknowledged")
    if not lives:
        return good("each request has a connection of its own")
    if await _ended(connection, client.effort.idle):
        then = "an event that meets the end fails as `reset`, and comes again"
        mend = "say `connection: close`, or keep idle connections for more than 4 s"
        return breach(f"idle connections end within {client.effort.idle:g} s unsaid", then, mend)
    if not (await client.ask(connection, client.samples.raw(b'{"event_source"'))).lives:
        return good("a refusal ends the connection")
    attempt = (await client.ask(connection, client.samples.event())).attempt
    if not attempt.acknowledged:
        what = "after a refusal the connection's next event is not acknowledged"
        mend = "read a request's whole body before you refuse it, or say `connection: close`"
        return replace(unacknowledged(attempt, what), mend=mend)
    return good("a connection takes one request after the other, a refused one too")


async def closing(client: Client) -> Finding:
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(client.judged(connection), "no connection")
    sample = replace(client.samples.event(), lines=b"connection: close\r\n")
    attempt = (await client.ask(connection, sample)).attempt
    if not attempt.acknowledged:
        return unacknowledged(attempt, "with `connection: close` an event is not acknowledged")
    if await _ended(connection, min(1.0, client.target.timeout)):
        return good("the connection ends when it is asked to")
    then = "it does not ask for that; a proxy on the way may, and is kept waiting"
    mend = "end the connection after the answer to a request that says `connection: close`"
    return breach("a request's `connection: close` does not end it", then, mend)


async def _ended(connection: TargetConnection, seconds: float) -> bool:
    """Whether it ends within so many seconds, or has already."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while connection.is_idle and clock() < until:  # noqa: ASYNC110 - its end tells nobody else
        await asyncio.sleep(_LOOK)
    return not connection.is_idle
