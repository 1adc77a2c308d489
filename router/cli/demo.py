"""`demo`: the router, stand-ins for its targets, one sample event, and what happened to it."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.cli.options import GOOD, NOT_STARTED, Help, add_settings, read_settings
from router.cli.printing import say
from router.errors import StartFailed
from router.log import Level, Log

if TYPE_CHECKING:
    from router.config import Config
    from router.server import Server

SUMMARY = "the router, stand-in targets and one sample event: see it work"

HELP = Help(
    about="""Runs the router with stand-in business endpoints on the addresses of its targets, sends
    it the sample event of the platform's page, tells what happened, and keeps serving until Ctrl-C.
    It stands in for targets on this machine only, and calls nothing else.""",
    examples=(
        "ebaas-router demo",
        "ebaas-router demo --port 9000",
        "ebaas-router send --status 3     # in another terminal",
    ),
    exit_codes={
        GOOD: "ended by Ctrl-C",
        NOT_STARTED: "could not start: a taken port, a target that is elsewhere",
    },
)

#: The request sample of the platform's page.
SAMPLE = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)

#: In an installed package the shipped routes.yaml is here; in a checkout it is the default itself.
_SHIPPED = Path(__file__).parent.parent / "shipped" / "routes.yaml"

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: How long the story may take, in seconds; stand-ins answer in milliseconds.
_PATIENCE = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_settings(parser, "config", "host", "port", "path")


def run(args: argparse.Namespace) -> int:
    from router import config, server
    from router.app import App
    from router.log import take_library_lines

    settings = read_settings(args)
    path = settings.config if settings.config.exists() or args.config else _SHIPPED
    loaded = config.load(path, os.environ, settings.secrets_dir)
    log = StoryLog()
    take_library_lines(log)
    stand_ins = _stand_ins(loaded)
    app = App(settings, loaded, log)
    serving = server.Server(app.asgi, server.listen(settings.host, settings.port), lifespan=True)
    url = serving.url + settings.path

    async def tell() -> None:
        say(f"EBaaS callback router on {url}")
        say(f"{path.name}: {len(loaded.table.routes)} routes")
        for target in loaded.table.targets.values():
            say(f"stand-in for {target.name} on {target.url}")
        reply = await _send(url)
        async with asyncio.timeout(_PATIENCE):
            _tell_story(await log.first(), reply)
        say("")
        say("Send another:")
        say(f"  curl -sS {url} -d {shlex.quote(SAMPLE.decode())}")
        say("Serving until Ctrl-C.")

    server.run(*stand_ins, serving, then=tell)
    return GOOD


class StoryLog(Log):
    """Keeps the first event's line for the story; later lines are printed as usual."""

    def __init__(self) -> None:
        super().__init__()
        self._first: Mapping[str, Any] | None = None
        self._came = asyncio.Event()

    def write(self, level: Level, happening: str, fields: Mapping[str, Any]) -> None:
        if happening == "event" and self._first is None:
            self._first = fields
            self._came.set()
        else:
            super().write(level, happening, fields)

    async def first(self) -> Mapping[str, Any]:
        """The first event's fields, once it is over."""
        await self._came.wait()
        assert self._first is not None
        return self._first


def _stand_ins(loaded: Config) -> list[Server]:
    """One for each address that targets have. Raises StartFailed for one that is elsewhere."""
    from router.server import Server, listen
    from router.standin import StandIn

    addresses: set[tuple[str, int]] = set()
    for target in loaded.table.targets.values():
        url = urlsplit(target.url)
        if url.scheme != "http" or url.hostname not in _LOOPBACK:
            raise StartFailed(
                f"target {target.name!r} is not on this machine, and the demo calls nothing else:"
                " use the shipped routes.yaml, or give it a http://127.0.0.1 URL"
            )
        addresses.add((url.hostname, url.port or 80))
    return [Server(StandIn(), listen(host, port)) for host, port in sorted(addresses)]


async def _send(url: str) -> str:
    """Play EBaaS once; the reply's body as text."""
    from router.transport import Answer
    from router.transport.httpx_engine import HttpxPool

    pool = HttpxPool(url, 1)
    try:
        result = await pool.post(((b"content-type", b"application/json"),), SAMPLE, _PATIENCE)
    finally:
        await pool.close()
    if not isinstance(result, Answer):
        raise StartFailed(f"the router did not answer its sample event: {result.reason}")
    return result.body.decode("utf-8", "replace")


def _tell_story(line: Mapping[str, Any], reply: str) -> None:
    say("")
    say(f"An event came: {line['event_key']} ({line['bytes']} bytes)")
    for number, route in enumerate(line["routes"]):
        say(f"  {'matched by' if number == 0 else '':<14} {route}")
    for name, delivery in line["targets"].items():
        answer = f"{delivery['reason']} (HTTP {delivery.get('status', '-')})"
        say(f"  {name:<14} {delivery['as']:<10} {answer:<25} {delivery['ms']:>6.1f} ms")
    say(f"  {'reply':<14} {reply}  {line['ms']:.1f} ms")
