"""What one caller of a listener may use up, and all of them together; and what they do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds. The defaults are safe for any caller that means well."""

    #: The request line; a longer one gets 414.
    line: int = 8 * 1024
    #: The request line and all headers; more gets 431. As much may be said around the chunks of a
    #: body, and once more the body's own size.
    head: int = 16 * 1024
    #: Headers; more get 431.
    headers: int = 100
    #: Bodies that have come in part, all together. Beyond it a request that has brought more than
    #: `head` gets 503; smaller ones, and bodies that come in one piece, never do.
    unfinished: int = 64 * 1024 * 1024
    #: Connections; on one more only what begins like this is answered, anything else gets 503.
    connections: int = 4096
    exempt: tuple[bytes, ...] = (b"GET /livez ", b"GET /readyz ")
    #: Connections beyond those, which are told so; any further one is told at once.
    reserve: int = 256
    #: Until a fresh connection's first byte; then it closes.
    first_byte: float = 10.0
    #: From the first byte of a request to its last; then it gets 408.
    receive: float = 10.0
    #: Between a reply and the next request; longer than what is in front of the router waits.
    keep_alive: float = 75.0
    #: Until the peer has taken its reply; then the connection is reset.
    reply: float = 10.0
    #: For what is still on its way in after the last reply, so that the peer sees that reply and no
    #: reset. In a full house no peer may keep us waiting for longer either.
    linger: float = 1.0

    @property
    def tick(self) -> float:
        """How often to sweep: a deadline is met at most that much late."""
        return min(1.0, min(self.first_byte, self.receive, self.reply, self.linger) / 4)


@dataclass(slots=True)
class Tally:
    """What the connections of one server have in common."""

    #: All of them.
    connections: set[Any] = field(default_factory=set)
    #: What applications do for their requests, after the replies too.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    #: How many requests applications have answered.
    answered: int = 0
    #: The header line that says when a reply was made.
    date: bytes = b""
    #: What was answered here, by its code, and resets of peers that don't read, as `unread`.
    refused: Counter[str] = field(default_factory=Counter)
    #: Bytes that have come of requests that are not whole.
    unfinished: int = 0
    #: The server is being stopped: every reply is the last of its connection.
    draining: bool = False
    #: Nobody new is let in any more: a connection on which nothing happens for `linger` ends.
    closed: bool = False
