"""What callers may use up, by the settings."""

from __future__ import annotations

from router.config.settings import Settings
from router.net.http.limits import Limits


def caller_limits(settings: Settings) -> Limits:
    """What callers of the callback port may use up."""
    return Limits(
        connections=settings.max_connections,
        first_byte=settings.receive_timeout,
        receive=settings.receive_timeout,
        keep_alive=settings.keep_alive,
    )
