"""`serve`: the router itself, until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from router.cli.options import Exit, Help, Parser, read_settings, serve_command
from router.config.settings import REMOVED_OPTIONS, SETTINGS, Settings, settings_from
from router.net.listening import take_inherited

if TYPE_CHECKING:
    from router.app import App
    from router.config.loading import Config
    from router.net.http.lifetime import Limits
    from router.net.listening import Inherited
    from router.net.tls import ListenerTls
    from router.process.running import Service
    from router.process.server import Server

SERVE = Help(
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
        Exit.GOOD: "stopped by a signal",
        Exit.NOT_STARTED: "could not start: a broken routes.yaml or schema, a taken port, an "
        "unusable certificate",
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


def configure_serve(parser: Parser) -> None:
    parser.removed = REMOVED_OPTIONS
    parser.settings(*_FIRST)
    rest = parser.group("further options")
    rest.settings(*(name for name in SETTINGS if name not in _FIRST))
    # For a search of the console, which `serve` starts as a process of its own.
    parser.add_argument("--as-search", action="store_true", help=argparse.SUPPRESS)


def run_serve(args: argparse.Namespace) -> int:
    if args.as_search:
        from router.ops.searching import search

        # Without the notes of read_settings: its parent has made them.
        search(settings_from(os.environ, vars(args)))
        return Exit.GOOD
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
            signal.signal(number, lambda *_: os._exit(Exit.GOOD))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _serve(settings: Settings, inherited: Inherited, search: list[str]) -> int:
    """Serve until a signal. `search` is the command of a search. Raises RouterError."""
    from router.app import App
    from router.net.tls import listener_tls, listener_warnings, pair_of
    from router.process import running
    from router.process.server import Notifier, ops_services
    from router.store.opening import kind_of
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    log = Log(format=settings.log_format)
    take_library_lines(log)
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
        renew = lambda new: server.renew(new.context)  # noqa: E731
        watches.append(running.Watch("--tls-cert", tls, read, renew, log))
    key = app.identity.ops_key
    ops, ops_url = ops_services(settings, search, app.insight, log, key, inherited.ops)
    app.identity.ops_url = ops_url
    notifier = Notifier(os.environ)

    def reload() -> None:
        notifier.reloading()
        app.reload.ask()

    async def announce() -> None:
        app.reload.on_look = notifier.reloaded
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        for problem in warnings:
            log.warning("config", problem=problem)
        kind, where = kind_of(settings.store)
        facts = {"routes": len(config.table.routes), "targets": len(config.table.targets)}
        ops_at = {"ops": ops_url} if ops_url else {}
        log.info("serving", url=url, **facts, config=config.hash, store=where or kind, **ops_at)
        notifier.ready(url)

    running.run(*ops, *watches, server, notifier, then=announce)
    log.info("stopped")
    return Exit.GOOD


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
