"""`serve`: the router itself, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from router.cli.options import (
    GOOD,
    NOT_STARTED,
    Help,
    add_settings,
    read_setting,
    read_settings,
    serve_command,
)
from router.config.settings import SETTINGS, Settings
from router.model.errors import SettingInvalid
from router.net.listening import take_inherited

if TYPE_CHECKING:
    from router.net.listening import Callers, Inherited
    from router.process.running import Service
    from router.process.server import Notifier, Server
    from router.routing.target import Target
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
        "ebaas-router serve --drain-delay 5s --drain-timeout 20s",
    ),
    exit_codes={
        GOOD: "stopped when told to",
        NOT_STARTED: "could not start: a broken routes.yaml or schema, a taken port, a certificate "
        "that can't be used",
    },
)


#: Who listens at all addresses.
_EVERY = {"0.0.0.0", "::"}

#: Open files of a store: a file with its log and the log's index for each connection; a database
#: takes fewer.
_STORE_FILES = 16


def configure(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    # For a search of the console, from whoever owns the ops port.
    parser.add_argument("--as-search", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.as_search:
        from router.ops.searching import search

        # Without the notes of read_settings: its parent has made them.
        search(Settings(**{name: read_setting(args, name) for name in SETTINGS}))
        return GOOD
    _heed_early_signals()
    settings = read_settings(args)
    handed = take_inherited(os.environ)
    settings = _at(settings, handed)
    if handed.ops is None:
        _mind_ports(settings)
    return _serve(settings, handed, serve_command(args))


def _at(settings: Settings, handed: Inherited) -> Settings:
    """With the addresses of the sockets that were handed over: those asked for are not used."""
    for prefix, listener in (("", handed.callbacks), ("ops_", handed.ops)):
        if listener is not None:
            host, port = listener.getsockname()[:2]
            settings = replace(settings, **{f"{prefix}host": host, f"{prefix}port": port})
    return settings


def _mind_ports(settings: Settings) -> None:
    """Raises SettingInvalid where both are one: whoever listens first would be told of as another
    program that has taken it."""
    one = settings.host == settings.ops_host or _EVERY & {settings.host, settings.ops_host}
    if one and settings.port == settings.ops_port != 0:
        raise SettingInvalid(
            f"--ops-port: {settings.ops_port} is that of --port, and has to differ"
        )


def _heed_early_signals() -> None:
    """Until the loop heeds them. As a container's first process nothing would end this one. At
    once: there is nothing to finish yet, and no import or C code is to be broken off half-way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(GOOD))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class _Router:
    """The router of this process, ready to be served."""

    def __init__(self, settings: Settings) -> None:
        """Raises RouterError."""
        from router.app import App
        from router.net.tls import listener_tls, listener_warnings, pair_of

        self.log = _log(settings)
        self._settings = settings
        self.app = App.loaded(settings, self.log)
        loaded = self.app.reload.standing.config
        pair = self._pair = pair_of(settings.tls_cert, settings.tls_key)
        self._tls = listener_tls(pair) if pair else None
        self.warnings = self.app.warnings(loaded)
        self.warnings += listener_warnings(pair, time.time()) if pair else ()
        self._callers = self._share_out(loaded.table.targets.values())
        self.facts = {
            "routes": len(loaded.table.routes),
            "targets": len(loaded.table.targets),
            "config": loaded.hash,
        }

    def _share_out(self, targets: Iterable[Target]) -> Callers:
        """What callers may have of what the system allows. Raises StartFailed."""
        from router.net.http.lifetime import Limits
        from router.net.listening import (
            Callers,
            files_allowed,
            memory_limit,
            memory_note,
            share_out,
        )

        settings = self._settings
        callers = share_out(
            files_allowed(),
            Callers(settings.max_connections, Limits().reserve),
            targets=sum(target.max_in_flight for target in targets),
            store=_STORE_FILES,
        )
        memory = memory_note(memory_limit(), settings.max_requests, settings.max_body)
        self.warnings += [note for note in (callers.note, memory) if note]
        return callers

    def server(self, listener: socket.socket, *, inherited: bool) -> Server:
        from router.process.running import caller_limits
        from router.process.server import Server

        settings, metrics = self._settings, self.app.metrics
        server = Server(
            self.app.entry,
            listener,
            lifespan=self.app.lifespan,
            limits=replace(
                caller_limits(settings),
                connections=self._callers.connections,
                reserve=self._callers.reserve,
            ),
            tls=self._tls.context if self._tls else None,
            inherited=inherited,
            drain_delay=settings.drain_delay,
            drain_timeout=settings.drain_timeout,
            on_drain=self.app.drain,
            on_hurry=self.app.hurry,
        )
        self.app.identity.address = f"{server.url}{settings.path}"
        metrics.readings.append(lambda: server.measure(metrics))
        return server

    def watches(self, server: Server) -> list[Service]:
        """What takes a new certificate, where there is one."""
        from router.net.tls import listener_tls
        from router.process.running import Watch

        pair, tls = self._pair, self._tls
        if pair is None or tls is None:
            return []
        read = partial(listener_tls, pair)
        return [Watch("--tls-cert", tls, read, lambda new: server.renew(new.context), self.log)]


def _serve(settings: Settings, handed: Inherited, command: list[str]) -> int:
    from router.net.listening import listen
    from router.process import running
    from router.process.server import Notifier, ops_services

    router, notifier = _Router(settings), Notifier(os.environ)
    listener = handed.callbacks or listen(
        settings.host, settings.port, reuse_port=settings.reuse_port
    )
    serving = router.server(listener, inherited=listener is handed.callbacks)
    search = [*command, "--as-search"]
    key = router.app.identity.ops_key
    ops, ops_url = ops_services(settings, search, router.app.insight, router.log, key, handed.ops)
    router.app.identity.ops_url = ops_url

    async def announce() -> None:
        router.app.reload.on_look = notifier.reloaded
        _on_hang_up(router.app.reload.ask, notifier)
        url, more = f"{serving.url}{settings.path}", _around(settings, ops_url)
        _announce(router.log, url, router.facts, router.warnings, **more)
        notifier.ready(url)

    running.run(*ops, *router.watches(serving), serving, notifier, then=announce)
    router.log.info("stopped")
    return GOOD


def _log(settings: Settings) -> Log:
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    log = Log(format=settings.log_format, verbose=settings.verbose)
    take_library_lines(log)
    return log


def _around(settings: Settings, ops: str) -> dict[str, Any]:
    """Which store it is, as /status has it; and where the ops port is, if there is one."""
    from router.store.opening import kind_of

    kind, where = kind_of(settings.store)
    return {"store": where or kind, **({"ops": ops} if ops else {})}


def _on_hang_up(reload: Callable[[], None], notifier: Notifier) -> None:
    def heed() -> None:
        notifier.reloading()
        reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heed)


def _announce(log: Log, url: str, facts: dict[str, Any], warnings: list[str], **more: Any) -> None:
    for problem in warnings:
        log.warning("config", problem=problem)
    log.info("serving", url=url, **facts, **more)
