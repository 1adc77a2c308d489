"""`serve` and `demo`: the router itself, alone or with stand-ins for its targets."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.cli.options import Exit, Help, Parser, read_settings, search_command
from router.cli.printing import counted, say
from router.config.settings import REMOVED_OPTIONS, SETTINGS, Settings, settings_from
from router.model.errors import StartFailed
from router.net.listening import take_inherited

if TYPE_CHECKING:
    import socket

    from router.app import App
    from router.cli.send import Response
    from router.config.loading import Config
    from router.net.http.connection import Limits
    from router.net.tls import ListenerTls
    from router.process.running import Service
    from router.process.server import Server
    from router.routing.target import Target

SERVE = Help(
    about="""Listens for EBaaS's callbacks, forwards each to the targets that routes.yaml names for
    its key, and replies 000 when every required one has acknowledged it. Writes one log line per
    event to stdout. It reloads an edited routes.yaml within seconds, or at once on SIGHUP; a
    faulty file is reported and keeps its last good text, also at a start. SIGTERM or Ctrl-C stops
    it after the requests in flight; a second one hurries. With --reuse-port several nodes on one
    host share the port. A listening socket that its parent hands over (LISTEN_FDS, as systemd does)
    replaces --host and --port.""",
    examples="""
        ebaas-router serve
        ebaas-router serve --config /etc/ebaas-router/routes.yaml --host 0.0.0.0
        EBAAS_ROUTER_LOG_FORMAT=json ebaas-router serve --port 9000""",
    good="stopped by a signal",
    not_started=(
        "could not start: a broken routes.yaml without a last good text, a broken schema, a taken "
        "port, an unusable certificate"
    ),
)

#: The options that matter most, and come first in the help.
_FIRST = ("config", "host", "port", "path", "store", "secrets_dir", "tls_cert", "tls_key",
          "ops_tokens", "log_format")  # fmt: skip

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
        from router.ops.searching import run_search

        # Without the notes of read_settings: its parent has made them.
        run_search(settings_from(os.environ, vars(args)))
        return Exit.GOOD
    _end_on_early_signals()
    inherited = take_inherited(os.environ)
    settings = read_settings(args)
    if inherited is not None:
        host, port = inherited.getsockname()[:2]
        settings = replace(settings, host=host, port=port)
    return _serve(settings, inherited, search_command(args))


def _end_on_early_signals() -> None:
    """End at once on a signal that comes before the loop handles them: there is nothing to finish.
    The first process of a container has no default that would end it, and an exception would break
    off an import or C code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(Exit.GOOD))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _serve(settings: Settings, inherited: socket.socket | None, search: list[str]) -> int:
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
    ops, ops_url = ops_services(settings, search, app.insight, log, key)
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
    app: App,
    settings: Settings,
    inherited: socket.socket | None,
    limits: Limits,
    tls: ListenerTls | None,
) -> Server:
    """Listen for callbacks. Raises StartFailed."""
    from router.net.listening import listen
    from router.process.server import Server

    listener = inherited or listen(settings.host, settings.port, reuse_port=settings.reuse_port)
    server = Server(
        app.entry,
        listener,
        lifespan=app.lifespan,
        limits=limits,
        tls=tls.context if tls else None,
        inherited=inherited is not None,
        drain_delay=settings.drain_delay,
        on_drain=app.drain,
        on_hurry=app.sender.close,
    )
    app.metrics.readings.append(lambda: server.measure(app.metrics))
    return server


def _limits(settings: Settings, config: Config, warnings: list[str]) -> Limits:
    """Return what callers may use up. If the system allows too little, add a warning. Raises
    StartFailed."""
    from router.net.http.connection import Limits
    from router.net.listening import Callers, files_allowed, share_out

    # Balancers and other callers keep connections open between requests.
    limits = Limits(connections=4 * settings.max_requests)
    callers = share_out(
        files_allowed(),
        Callers(limits.connections, limits.reserve),
        targets=sum(target.max_in_flight for target in config.table.targets.values()),
        store=_STORE_FILES,
    )
    if callers.note:
        warnings.append(callers.note)
    return replace(limits, connections=callers.connections, reserve=callers.reserve)


# `demo`.

DEMO = Help(
    about="""Runs the router with stand-in business endpoints on the addresses of its targets, sends
    it the sample event of the platform's page, shows what happens, and keeps serving until Ctrl-C.
    All targets must be on this machine; nothing else is called. Its store is a temporary file.""",
    examples="""
        ebaas-router demo
        ebaas-router demo --port 9000
        ebaas-router send --key a.gs.cert.3     # in another terminal""",
    good="ended by Ctrl-C",
    not_started="could not start: a taken port, a target on another machine",
)

#: The sample of the platform's page, and two other events: the body tells events apart.
SAMPLE = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)
SECOND, THIRD = SAMPLE.replace(b"id2", b"id3"), SAMPLE.replace(b"id2", b"id4")

#: How often a target fails the third event: about two minutes with the default waits.
_FAILURES = 5

#: The most requests for the second event, and the longest wait between two, in seconds.
_REQUESTS, _LONGEST_WAIT = 5, 1.0

#: The shipped routes.yaml of an installed package; in a checkout the default path is the file.
_SHIPPED = Path(__file__).parents[1] / "shipped" / "routes.yaml"

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def configure_demo(parser: Parser) -> None:
    parser.settings("config", "host", "port", "path", "secrets_dir")
    parser.settings("ops_host", "ops_port", "ops_tokens")


def run_demo(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="ebaas-router-demo-") as folder:
        _demonstrate(args, replace(read_settings(args), store=Path(folder) / "demo.db"))
    return Exit.GOOD


def _demonstrate(args: argparse.Namespace, settings: Settings) -> None:
    from router.app import App
    from router.net.listening import listen
    from router.process import running
    from router.process.server import Server, ops_services
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    name, config = _load(args, settings)
    log, story = Log(), _Story(config)
    log.takes = story.take
    take_library_lines(log)
    app = App(settings, config, log)
    server = Server(app.entry, listen(settings.host, settings.port), lifespan=app.lifespan)
    search = search_command(args, store=settings.store)
    ops, ops_url = ops_services(settings, search, app.insight, log, app.identity.ops_key)
    used_by = f"its target's url in {name}"
    targets = [
        Server(stand_in, listen(*address, used_by))
        for address, stand_in in sorted(story.stand_ins.items())
    ]

    async def show() -> None:
        shown = f"{server.url}{settings.path}"
        say(f"EBaaS callback router on {shown}")
        if ops_url:
            say(f"its page: {ops_url}/")
        say(f"{name}: {counted(len(config.table.routes), 'route')}")
        for target in config.table.targets.values():
            say(f"stand-in for {target.name} on {target.url}")
        await story.show(server.url + settings.path.reveal())
        log.takes = None
        say("", "Send another:", f"  curl -sS {shown} -d {shlex.quote(SAMPLE.decode())}")
        say("Serving until Ctrl-C.")

    running.run(*ops, *targets, server, then=show)


def _load(args: argparse.Namespace, settings: Settings) -> tuple[str, Config]:
    """Return the name of the routes.yaml and its content, with every caller admitted."""
    from router.config import loading
    from router.config.files import read

    path = settings.config if settings.config.exists() or args.config else _SHIPPED
    files, name = read(path), str(path)
    if path is _SHIPPED:
        name = path.name
        files = (replace(files[0], name=name),)
    config, _ = loading.load_files(files, os.environ, settings.secrets_dir)
    return name, replace(config, ebaas=replace(config.ebaas, token=(), allow_from=()))


def _address(target: Target) -> tuple[str, int]:
    """Return the address of a target. Raises StartFailed if it is not on this machine."""
    url = urlsplit(target.url)
    if url.scheme != "http" or url.hostname not in _LOOPBACK:
        raise StartFailed(
            f"target {target.name!r} is not on this machine, and the demo calls nothing else:"
            " use the shipped routes.yaml, or give it a http://127.0.0.1 URL"
        )
    return url.hostname, url.port or 80


class _Story:
    """Plays EBaaS with three events: a good one, one that is retried, one that stays queued."""

    def __init__(self, config: Config) -> None:
        """Raises StartFailed."""
        from router.cli.receive import StandIn

        self._config = config
        #: The stand-ins for targets, by address.
        self.stand_ins = {_address(target): StandIn() for target in config.table.targets.values()}
        self._lines: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._url = ""

    def take(self, kind: str, fields: Mapping[str, Any]) -> bool:
        """Take the log lines of events; the log prints all others."""
        if kind == "event":
            self._lines.put_nowait(fields)
        return kind == "event"

    async def show(self, url: str) -> None:
        self._url = url
        say("", "The demo plays EBaaS, and sends the sample event of the platform's page.")
        reply, line = await self._send(SAMPLE)
        say(f"An event came: {line['event_key']} ({line['bytes']} bytes)")
        for number, route in enumerate(line["routes"]):
            say(f"  {'' if number else 'matched by':<14} {route}")
        _print(line, reply)
        roles = {delivery["as"]: name for name, delivery in line["targets"].items()}
        if target := roles.get("required"):
            await self._show_retry(target)
        if target := roles.get("optional"):
            self._fail(target, THIRD, _FAILURES)
            await self._send(THIRD)
            say(
                "", f"A third event fails at {target} for about two minutes: the router retries it."
            )

    async def _show_retry(self, target: str) -> None:
        """Show that the retry of an event calls only the target that failed."""
        self._fail(target, SECOND, 1)
        say("", f"Next, an event that {target} fails at first. EBaaS retries until it gets 000:")
        for _ in range(_REQUESTS):
            reply, line = await self._send(SECOND)
            say(f"  request {line['request']} of {line['of']}")
            _print(line, reply)
            if reply.success:
                return
            await asyncio.sleep(min(self._config.ebaas.schedule.waits[0], _LONGEST_WAIT))

    def _fail(self, target: str, body: bytes, times: int) -> None:
        self.stand_ins[_address(self._config.table.targets[target])].fail(body, times)

    async def _send(self, body: bytes) -> tuple[Response, Mapping[str, Any]]:
        """Send an event. Return the reply, and the event's log line; drop the lines of others."""
        from router.cli.send import Request, post

        headers = {b"content-type": b"application/json"}
        reply = await post(Request(self._url, headers, body, timeout=30.0))
        if not reply.request_id:
            raise StartFailed(f"the router did not answer its sample event: {reply.reason}")
        while (line := await self._lines.get())["request_id"] != reply.request_id:
            pass
        return reply, line


def _print(line: Mapping[str, Any], reply: Response) -> None:
    """Print the deliveries in an event's log line, and the reply to EBaaS."""
    for name, delivery in line["targets"].items():
        if "skipped" in delivery:
            result = f"not called again: {delivery['skipped']}"
        else:
            answer = f"{delivery['reason']} (HTTP {delivery.get('status', '-')})"
            result = f"{answer:<25} {delivery['ms']:>6.1f} ms"
        say(f"  {name:<14} {delivery['as']:<10} {result}")
    say(f"  {'reply':<14} {reply}")
