"""Many targets at one port, and events that are spread over them."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from bench.processes import Scene

#: How many targets each event has.
EACH = 3


class Spread(Scene):
    """As many kinds of events as targets; these have one port, and a path each."""

    @property
    def urls(self) -> list[str]:
        (port,) = self.target_ports
        return [f"http://127.0.0.1:{port}/{number}" for number in range(self.routes)]

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        urls = self.urls * 2
        return [(f"a.gs.k{n}.*", urls[n : n + EACH]) for n in range(self.routes)]


def free_ports(number: int) -> list[int]:
    """Each another one."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [listener.getsockname()[1] for listener in listeners]
