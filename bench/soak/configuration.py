"""The edits of routes.yaml in a soak: valid and invalid ones, with targets that come and go."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from bench.soak.targets import TIMEOUT

#: Short schedules. A retry of EBaaS never comes too late.
SOON = {"retries": 100, "waits": ["1s"], "grace": "60s"}


class Configuration:
    """The file that a router watches."""

    def __init__(self, path: Path, targets: str) -> None:
        """`targets` is the base URL of all targets."""
        self.path = path
        self._targets = targets
        self.write()

    def write(self, *, guest: bool = False, spare: int = 0, in_flight: int = 64) -> None:
        """Write a valid configuration, with or without a guest, and with additional routes."""
        targets: dict[str, Any] = {
            "well": {"url": f"{self._targets}/well", "max_in_flight": in_flight},
            "slow": {"url": f"{self._targets}/slow"},
            "mostly": {"url": f"{self._targets}/mostly"},
            "flapping": {"url": f"{self._targets}/flapping", "timeout": f"{TIMEOUT}s"},
        }
        routes: list[dict[str, Any]] = [
            {"name": "plain", "match": "a.gs.plain.*", "required": ["well"]},
            {"name": "both", "match": "a.gs.both.*", "required": ["well", "slow"]},
            {"name": "flaps", "match": "a.gs.flaps.*", "required": ["well", "flapping"]},
            {
                "name": "queues",
                "match": "a.gs.queues.*",
                "required": ["well"],
                "optional": ["mostly", "flapping"],
            },
        ]
        if guest:
            targets["guest"] = {"url": f"{self._targets}/well"}
            routes.append({"name": "guest", "match": "a.gs.guest.*", "required": ["guest"]})
        for number in range(spare):
            match = f"b.spare{number}.*"
            routes.append({"name": f"spare {number}", "match": match, "required": ["well"]})
        defaults = {"timeout": "9s"}  # a local target is late on a busy machine
        queue = {"retries": 100, "waits": ["1s"]}
        ebaas = {**SOON, "reply_within": "10s"}
        self._put(
            {
                "version": 1,
                "ebaas": ebaas,
                "queue": queue,
                "defaults": defaults,
                "targets": targets,
                "routes": routes,
            }
        )

    def spoil(self) -> None:
        """Write an invalid configuration, which changes nothing but the alarm."""
        self._put({"version": 1, "targets": {"well": {"ulr": 1}}, "routes": [{"match": 2}]})

    def _put(self, content: Any) -> None:
        """Replace the file by a new one, like an editor."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.replace(self.path)


def hang_up(pid: int) -> None:
    """Reload by SIGHUP."""
    os.kill(pid, signal.SIGHUP)
