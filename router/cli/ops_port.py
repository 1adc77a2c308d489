"""The ops port as `serve` opens it, and what callers of either port may use up."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from router.config import Settings
from router.net.http.limits import Limits

if TYPE_CHECKING:
    from router.ops.port import Gather
    from router.process.server import Server
    from router.telemetry import Log

#: Seconds that a stop leaves what is in flight at the ops port.
_OPS_DRAIN = 2

_OPEN_OPS = (
    "--ops-host: whoever reaches it can read /metrics and /status, and so the names of targets: "
    "see --ops-token-file"
)


def limits(settings: Settings) -> Limits:
    """What callers of the callback port may use up."""
    return Limits(
        head=settings.max_head,
        headers=settings.max_headers,
        connections=settings.max_connections,
        first_byte=settings.receive_timeout,
        receive=settings.receive_timeout,
        keep_alive=settings.keep_alive,
    )


def ops_servers(
    settings: Settings, inherited: socket.socket | None, gather: Gather, log: Log
) -> list[Server]:
    """The server of the ops port, where there is to be one. Raises StartFailed."""
    from router.model import is_exposed
    from router.net import SHORT, is_loopback, listen
    from router.ops.guard import refuse, tokens_of
    from router.ops.port import limits_of, ops_app
    from router.process.server import Server

    if settings.ops_port == 0:
        return []
    tokens = tokens_of(settings.ops_token_file)
    listener = inherited or listen(settings.ops_host, settings.ops_port, "--ops-port")
    if not tokens and not is_loopback(settings.ops_host):
        log.warning("config", problem=_OPEN_OPS)
    if settings.ops_token_file is not None and is_exposed(settings.ops_token_file):
        path = settings.ops_token_file
        problem = f"--ops-token-file: everybody on this machine can read {path}: chmod 600"
        log.warning("config", problem=problem)
    if tokens.can_be_guessed:
        problem = f"--ops-token-file: a token is shorter than {SHORT} characters: it can be guessed"
        log.warning("config", problem=problem)
    app, bounds = ops_app(gather, tokens, log), limits_of(limits(settings))
    return [
        Server(
            app,
            listener,
            limits=bounds,
            refusal=refuse,
            inherited=inherited is not None,
            drain_timeout=_OPS_DRAIN,
        )
    ]
