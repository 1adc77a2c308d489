"""`demo`: the router with stand-ins for its targets, and a few events that show how it works."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.cli.options import Exit, Help, Parser, read_settings, serve_command
from router.cli.printing import counted, say
from router.cli.receive import StandIn
from router.cli.send import Request, Response, post
from router.model.errors import StartFailed
from router.telemetry.log import Log

if TYPE_CHECKING:
    from router.config.loading import Config
    from router.config.settings import Settings
    from router.routing.target import Target

DEMO = Help(
    about="""Runs the router with stand-in business endpoints on the addresses of its targets, sends
    it the sample event of the platform's page, shows what happens, and keeps serving until Ctrl-C.
    All targets must be on this machine; nothing else is called. Its store is a temporary file.""",
    examples=(
        "ebaas-router demo",
        "ebaas-router demo --port 9000",
        "ebaas-router send --status 3     # in another terminal",
    ),
    exit_codes={
        Exit.GOOD: "ended by Ctrl-C",
        Exit.NOT_STARTED: "could not start: a taken port, a target on another machine",
    },
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
        _run(args, replace(read_settings(args), store=Path(folder) / "demo.db"))
    return Exit.GOOD


def _run(args: argparse.Namespace, settings: Settings) -> None:
    from router.app import App
    from router.net.listening import listen
    from router.process import running
    from router.process.server import Server, ops_services
    from router.telemetry.log.foreign import take_library_lines

    name, config = _load(args, settings)
    log, story = Log(), _Story(config)
    log.takes = story.take
    take_library_lines(log)
    app = App(settings, config, log)
    server = Server(app.entry, listen(settings.host, settings.port), lifespan=app.lifespan)
    search = [*serve_command(args, store=settings.store), "--as-search"]
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
        files = (files[0]._replace(name=name),)
    config = loading.parse_files(files, os.environ, settings.secrets_dir)
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
