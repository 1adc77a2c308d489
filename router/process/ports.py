"""The ops port as services, by the settings."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from router.config.settings import Settings
from router.net.listening import listen
from router.net.networks import is_loopback
from router.ops.guard import refuse
from router.ops.insight import Insight
from router.ops.port import api_parts, limits_of, ops_app
from router.ops.tokens import OpsTokens
from router.process.limits import caller_limits
from router.process.running import Service
from router.process.server import Server
from router.process.watch import Watch
from router.telemetry.log import Log

#: Seconds that a stop leaves what is in flight at the ops port.
_DRAIN = 2

_OPEN = (
    "--ops-host: whoever reaches it can read /metrics and /status, and so the names of targets, "
    "and the console is closed: see --ops-tokens"
)


def ops_services(
    settings: Settings,
    search: Sequence[str],
    insight: Insight,
    log: Log,
    inherited: socket.socket | None = None,
) -> tuple[list[Service], str]:
    """The ops port's server and what looks after its tokens, and its URL; none where there is to be
    none. `search` is the command of a search, `inherited` a socket that was handed over. Raises
    RouterError."""
    if settings.ops_port == 0:
        return [], ""
    tokens = OpsTokens(settings.ops_tokens, os.environ, settings.secrets_dir)
    listener = inherited or listen(settings.ops_host, settings.ops_port, "--ops-port")
    local = is_loopback(settings.ops_host)
    for problem in (*([] if tokens or local else [_OPEN]), *tokens.holders.warnings):
        log.warning("config", problem=problem)
    parts = api_parts(settings, insight, tokens, search, log)
    server = Server(
        ops_app(parts, log, local=local),
        listener,
        limits=limits_of(caller_limits(settings)),
        refusal=refuse,
        inherited=inherited is not None,
        drain_timeout=_DRAIN,
        on_drain=parts.streams.end,
    )
    services: list[Service] = [server]
    if tokens:
        services.append(Watch("--ops-tokens", tokens.holders, tokens.read, parts.take, log))
    return services, server.url
