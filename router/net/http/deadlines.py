"""What takes too long, on all connections of one server: looked for now and then, all at once."""

from __future__ import annotations

import math
import select

from router.net.http.lifetime import TIMED_OUT, UNAVAILABLE, Lifetime
from router.net.http.limits import Limits, Tally


def sweep(tally: Tally, limits: Limits, now: float) -> None:
    """End what has taken too long, or too long for a full house."""
    every = list(tally.connections)
    full = len(every) >= limits.connections
    for connection in every:
        _check(connection, tally, limits, now, full)


def _check(connection: Lifetime, tally: Tally, limits: Limits, now: float, full: bool) -> None:
    transport = connection.transport
    if transport.get_write_buffer_size() == 0:
        connection.caught_up = now
    elif now - connection.caught_up > limits.reply:
        tally.refused["unread"] += 1
        transport.abort()
    if transport.is_closing():
        return
    patience = _patience(connection, limits, tally.closed)
    if full and patience < math.inf:
        patience = limits.linger
    if now - connection.since <= patience:
        return
    if connection.is_leaving:
        transport.abort()
    elif connection.is_receiving or (connection.is_extra and full):
        connection.refuse(UNAVAILABLE if full else TIMED_OUT)
    elif not _has_unread(connection):
        transport.close()


def _patience(connection: Lifetime, limits: Limits, closed: bool) -> float:
    if connection.is_leaving:
        return limits.linger
    if connection.is_receiving:
        return limits.receive
    if connection.is_answering:
        return math.inf
    if closed:
        return limits.linger
    return limits.keep_alive if connection.has_served else limits.first_byte


def _has_unread(connection: Lifetime) -> bool:
    """Something has come that nobody has looked at yet, be it the connection's end."""
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))
