"""`serve`: the router itself, until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from router.cli.options import (
    GOOD,
    NOT_STARTED,
    Help,
    Parser,
    add_settings,
    read_settings,
    serve_command,
)
from router.config.settings import REMOVED_OPTIONS, SETTINGS, Settings, settings_from
from router.net.listening import take_inherited

if TYPE_CHECKING:
    from router.app import App
    from router.config.loading import Config
    from router.net.http.lifetime import Limits
    from router.net.listening import Inherited
    from router.net.tls import ListenerTls
    from router.process.running import Service
    from router.process.server import Notifier, Server
    from router.telemetry.log import Log

HELP = Help(
    about="""Listens for EBaaS's callbacks, forwards each to the targets that routes.yaml names for
    its key, and replies 000 when every required one has acknowledged it. Writes one log line per
    event to stdout. An edit of routes.yaml is taken within seconds, or at once on SIGHUP, if it is
    right as a whole; a wrong one changes nothing and is complained of. SIGTERM or Ctrl-C stops it:
    what is in flight is finished first; a second one hurries. With --reuse-port several nodes on
    one host share the port. A listening socket that its parent hands over (LISTEN_FDS, as systemd
    does) is taken for --host and --port, one that is named ops for --ops-host and --ops-port.""",
    examples=(
        "ebaas-router serve",
        "ebaas-router serve --config /etc/ebaas-router/routes.yaml --host 0.0.0.0",
        "EBAAS_ROUTER_LOG_FORMAT=json ebaas-router serve --port 9000",
    ),
    exit_codes={
        GOOD: "stopped by a signal",
        NOT_STARTED: "could not start: a broken routes.yaml or schema, a taken port, a certificate "
        "that can't be used",
    },
)

#: The options that matter most, and come first in the help.
_FIRST = (
    *("config", "host", "port", "path", "store", "secrets_dir", "tls_cert", "tls_key"),
    *("ops_tokens", "log_format"),
)

#: Open files of a store: a file with its log and the log's index for each connection; a database
#: takes fewer.
_STORE_FILES = 16


def configure(parser: Parser) -> None:
    parser.removed = REMOVED_OPTIONS
    add_settings(parser, *_FIRST)
    rest = parser.add_argument_group("further options")
    add_settings(rest, *(name for name in SETTINGS if name not in _FIRST))
    # For a search of the console, which `serve` starts as a process of its own.
    parser.add_argument("--as-search", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.as_search:
        from router.ops.searching import run_search

        # Without the notes of read_settings: its parent has made them.
        run_search(settings_from(os.environ, vars(args)))
        return GOOD
    _end_on_early_signals()
    inherited = take_inherited(os.environ)
    settings = _at(read_settings(args), inherited)
    return _serve(settings, inherited, [*serve_command(args), "--as-search"])


def _at(settings: Settings, inherited: Inherited) -> Settings:
    """Return the settings with the addresses of inherited sockets in place of their own."""
    for prefix, listener in (("", inherited.callbacks), ("ops_", inherited.ops)):
        if listener is not None:
            host, port = listener.getsockname()[:2]
            settings = replace(settings, **{f"{prefix}host": host, f"{prefix}port": port})
    return settings


def _end_on_early_signals() -> None:
    """End at once on a signal that comes before the loop handles them: there is nothing to finish.
    The first process of a container has no default that would end it, and an exception would break
    off an import or C code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(GOOD))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _serve(settings: Settings, inherited: Inherited, search: list[str]) -> int:
    """Serve until a signal. `search` is the command of a search. Raises RouterError."""
    from router.app import App
    from router.net.tls import listener_tls, listener_warnings, pair_of
    from router.process import running
    from router.process.server import Notifier, ops_services

    log = _log(settings)
    app = App.loaded(settings, log)
    config = app.reload.config_state.config
    pair = pair_of(settings.tls_cert, settings.tls_key)
    tls = listener_tls(pair) if pair else None
    warnings = [*app.warnings(config), *(listener_warnings(pair, time.time()) if pair else ())]
    server = _server(app, settings, inherited, _limits(settings, config, warnings), tls)
    url = app.identity.address = f"{server.url}{settings.path}"
    watches: list[Service] = []
    if pair and tls:
        read = partial(listener_tls, pair)
        watches.append(running.Watch("--tls-cert", tls, read, partial(_renew, server), log))
    key = app.identity.ops_key
    ops, ops_url = ops_services(settings, search, app.insight, log, key, inherited.ops)
    app.identity.ops_url = ops_url
    notifier = Notifier(os.environ)

    async def announce() -> None:
        app.reload.on_look = notifier.reloaded
        _reload_on_hang_up(app.reload.ask, notifier)
        for problem in warnings:
            log.warning("config", problem=problem)
        log.info("serving", url=url, **_facts(settings, config, ops_url))
        notifier.ready(url)

    running.run(*ops, *watches, server, notifier, then=announce)
    log.info("stopped")
    return GOOD


def _server(
    app: App, settings: Settings, inherited: Inherited, limits: Limits, tls: ListenerTls | None
) -> Server:
    """Listen for callbacks. Raises StartFailed."""
    from router.net.listening import listen
    from router.process.server import Server

    listener = inherited.callbacks or listen(
        settings.host, settings.port, reuse_port=settings.reuse_port
    )
    server = Server(
        app.entry,
        listener,
        lifespan=app.lifespan,
        limits=limits,
        tls=tls.context if tls else None,
        inherited=listener is inherited.callbacks,
        drain_delay=settings.drain_delay,
        drain_timeout=settings.drain_timeout,
        on_drain=app.drain,
        on_hurry=app.hurry,
    )
    app.metrics.readings.append(lambda: server.measure(app.metrics))
    return server


def _renew(server: Server, tls: ListenerTls) -> None:
    server.renew(tls.context)


def _log(settings: Settings) -> Log:
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    log = Log(format=settings.log_format)
    take_library_lines(log)
    return log


def _limits(settings: Settings, config: Config, warnings: list[str]) -> Limits:
    """Return what callers may use up. If the system allows too little, add a warning. Raises
    StartFailed."""
    from router.net.listening import Callers, files_allowed, memory_limit, memory_note, share_out
    from router.process.running import caller_limits
    from router.web.callbacks import MAX_BODY

    limits = caller_limits(settings)
    callers = share_out(
        files_allowed(),
        Callers(limits.connections, limits.reserve),
        targets=sum(target.max_in_flight for target in config.table.targets.values()),
        store=_STORE_FILES,
    )
    memory = memory_note(memory_limit(), settings.max_requests, MAX_BODY)
    warnings += filter(None, [callers.note, memory])
    return replace(limits, connections=callers.connections, reserve=callers.reserve)


def _facts(settings: Settings, config: Config, ops_url: str) -> dict[str, Any]:
    """Return the fields of the line `serving`; the store is as /status has it."""
    from router.store.opening import kind_of

    kind, where = kind_of(settings.store)
    return {
        "routes": len(config.table.routes),
        "targets": len(config.table.targets),
        "config": config.hash,
        "store": where or kind,
        **({"ops": ops_url} if ops_url else {}),
    }


def _reload_on_hang_up(reload: Callable[[], None], notifier: Notifier) -> None:
    def handle() -> None:
        notifier.reloading()
        reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle)
