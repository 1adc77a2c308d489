"""What one target has for itself."""

from __future__ import annotations

from router.places import Places
from router.routes import Target
from router.transport import Engine, Pool, lines_of

#: The longest that an attempt waits in line for a place, in seconds. Short, because whoever waits
#: holds a request in flight.
LINE_WAIT = 1.0


class Lane:
    """A target's connections, its places and its line; `share` bounds the two together.

    It keeps what it can of the lane that the target had before a reload.
    """

    def __init__(self, target: Target, engine: Engine, share: int, before: Lane | None) -> None:
        self.target = target
        self.limit = min(target.max_in_flight, share)
        if before is None or before.limit != self.limit:
            self.places = Places(self.limit, line=min(self.limit, share - self.limit))
        else:
            self.places = before.places
        same = before is not None and before.target.url == target.url
        self.pool: Pool = before.pool if before is not None and same else engine(target.url)
        #: The header lines that are the same for all its attempts.
        self.lines = lines_of(
            (
                (b"x-ebaas-target", target.name.encode("ascii")),
                *(
                    (name.encode("ascii"), value.reveal().encode("latin-1"))
                    for name, value in target.headers
                ),
            )
        )
        #: Attempts that have it in hand, in line or in flight: its pool stays open for them.
        self.in_use = 0
        #: Whether the last sweep found it idle, and nobody has used it since.
        self.was_idle = False

    def enter(self) -> None:
        self.in_use += 1
        self.was_idle = False

    def leave(self, _: object = None) -> None:
        self.in_use -= 1
