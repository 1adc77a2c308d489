"""A router whose target answers once it may, and what a stop leaves of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.command import PATIENCE
from tests.support.serving import Serving, Target, serving, target

#: A routes.yaml by which a request waits for its target for as long as a test does.
PATIENT: dict[str, Any] = {"defaults": {"timeout": "60s"}, "ebaas": {"reply_within": "60s"}}


class Gate:
    """A target whose answers wait until it is opened."""

    def __init__(self, endpoint: Target) -> None:
        self.target = endpoint
        self._open = threading.Event()
        #: How many requests have come.
        self.come = 0
        endpoint.code = self._code

    def _code(self, *_: str) -> str:
        self.come += 1
        self._open.wait(PATIENCE)
        return "000"

    def open(self) -> None:
        self._open.set()


@contextmanager
def gated(folder: Path, *options: str) -> Iterator[tuple[Serving, Gate]]:
    """A router whose only target answers nothing yet."""
    with target() as endpoint:
        gate = Gate(endpoint)
        try:
            with serving(folder, {"gate": endpoint}, options=options, **PATIENT) as router:
                yield router, gate
        finally:
            gate.open()


def is_closed(router: Serving) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as attempt:
        attempt.settimeout(PATIENCE)
        return attempt.connect_ex(("127.0.0.1", router.port)) != 0


def troubles(router: Serving) -> list[str]:
    """What nobody should have to read."""
    return [*router.stderr, *(line for line in router.stdout if "library" in line)]
