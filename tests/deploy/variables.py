"""The variables of a deployment's files, read like the router reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.config.settings import SETTINGS, Settings
from router.net.http.connection import Limits


def settings_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return settings by name, of the variables that are not empty. PGPASSWORD is libpq's; any
    other variable that is not a setting raises KeyError."""
    known = {setting.variable: setting for setting in SETTINGS.values()}
    named = {name: (known[name], text) for name, text in environ.items() if name != "PGPASSWORD"}
    return {
        setting.name: setting.read(name, text) for name, (setting, text) in named.items() if text
    }


def longest_stop(settings: Mapping[str, Any]) -> float:
    """Return the seconds of the delay, 15 s for callbacks in flight, and of the last replies."""
    delay: float = settings.get("drain_delay", Settings().drain_delay)
    return delay + 15.0 + Limits().reply
