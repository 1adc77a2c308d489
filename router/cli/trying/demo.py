"""`demo`: the router, stand-ins for its targets, one sample event, and what happened to it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.cli.columns import counted
from router.cli.options import (
    GOOD,
    NOT_STARTED,
    Help,
    add_settings,
    read_settings,
    serve_command,
)
from router.cli.printing import say
from router.config.settings import SETTINGS
from router.model.errors import SettingInvalid, StartFailed
from router.model.event import SUCCESS
from router.store.url import Database
from router.telemetry.log import Log

if TYPE_CHECKING:
    from router.cli.trying.standin import StandIn
    from router.config.loading import Config
    from router.config.settings import Settings
    from router.routing.target import Target

HELP = Help(
    about="""Runs the router with stand-in business endpoints on the addresses of its targets, sends
    it the sample event of the platform's page, tells what happened, and keeps serving until Ctrl-C.
    It stands in for targets on this machine only, and calls nothing else. Its store is a file of
    its own that goes with it, unless --store names one, or a database is set.""",
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

#: Other events: what tells them apart is the body.
SECOND, THIRD = SAMPLE.replace(b"id2", b"id3"), SAMPLE.replace(b"id2", b"id4")

#: How often a target fails the third one: by the usual waits some hundred seconds long.
_FAILURES = 5

#: In an installed package the shipped routes.yaml is here; in a checkout it is the default itself.
_SHIPPED = Path(__file__).parents[2] / "shipped" / "routes.yaml"

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: How long the story may take, in seconds; stand-ins answer in milliseconds. And how long EBaaS may
#: wait in it before it sends again.
_PATIENCE, _LONGEST = 30.0, 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_settings(
        parser,
        *("config", "host", "port", "path", "store_password_file", "secrets_dir"),
        *("ops_host", "ops_port", "ops_tokens"),
    )
    parser.add_argument(
        "--store",
        metavar="STORE",
        help="a store that outlives the demo: a file, or postgresql://USER@HOST/NAME (default a "
        f"file of its own that goes with it, or {SETTINGS['store'].variable} where that names a "
        "database)",
    )


def run(args: argparse.Namespace) -> int:
    settings = read_settings(args)
    if args.store and settings.store is None:
        raise SettingInvalid("the demo's story is one of memory: it needs a store")
    if args.store or isinstance(settings.store, Database):
        _run(args, settings)
        return GOOD
    with tempfile.TemporaryDirectory(prefix="ebaas-router-demo-") as folder:
        # A file of its own, so that each demo tells the same story.
        _run(args, replace(settings, store=Path(folder) / "demo.db"))
    return GOOD


def _run(args: argparse.Namespace, settings: Settings) -> None:
    from router.app import App
    from router.config import loading
    from router.config.files import read
    from router.net.listening import listen
    from router.process import running
    from router.process.server import Server, ops_services
    from router.telemetry.log.foreign import take_library_lines

    path = settings.config if settings.config.exists() or args.config else _SHIPPED
    name = path.name if path is _SHIPPED else str(path)
    files = read(path)
    if path is _SHIPPED:
        files = (files[0]._replace(name=name),)
    loaded = loading.parse_files(files, os.environ, settings.secrets_dir)
    # Whoever plays with it is on this machine.
    loaded = replace(loaded, ebaas=replace(loaded.ebaas, token=(), allow_from=()))
    log, story = Log(), EventLines()
    log.takes = story.take
    take_library_lines(log)
    stand_ins = _stand_ins(loaded)
    app = App(settings, loaded, log)
    serving = Server(app.entry, listen(settings.host, settings.port), lifespan=app.lifespan)
    ops, ops_url = ops_services(
        settings,
        [*serve_command(args, store=settings.store), "--as-search"],
        app.insight,
        log,
        app.identity.ops_key,
    )
    url = serving.url + settings.path.reveal()
    shown = f"{serving.url}{settings.path}"
    option = f"its target's url in {name}"
    served = [
        Server(stand_in, listen(*address, option))
        for address, stand_in in sorted(stand_ins.items())
    ]

    async def tell_story() -> None:
        line, wait = await _tell_first(url, story), loaded.ebaas.schedule.waits[0]
        if (failing := _last_required(line)) and wait > _LONGEST:
            say("")
            say(f"A retry is not shown: by `ebaas: waits` it would come after {wait:g} s.")
        elif failing:
            stand_ins[_address(loaded.table.targets[failing])].fail(SECOND, 1)
            await _tell_retry(url, story, failing, wait)
        if waiting := _optional(line):
            stand_in = stand_ins[_address(loaded.table.targets[waiting])]
            await _leave_waiting(url, story, waiting, stand_in)

    async def tell() -> None:
        say(f"EBaaS callback router on {shown}")
        if ops_url:
            say(f"its page to watch it by: {ops_url}/")
        say(f"{name}: {counted(len(loaded.table.routes), 'route')}")
        for target in loaded.table.targets.values():
            say(f"stand-in for {target.name} on {target.url}")
        say("")
        say("The demo plays EBaaS, and sends the sample event of the platform's page.")
        try:
            async with asyncio.timeout(_PATIENCE):
                await tell_story()
        except TimeoutError:
            say(f"  that goes on for more than {_PATIENCE:g} s; its end is left out")
        log.takes = None
        say("")
        say("Send another:")
        say(f"  curl -sS {shown} -d {shlex.quote(SAMPLE.decode())}")
        say("Serving until Ctrl-C.")

    running.run(*ops, *served, serving, then=tell)


class EventLines:
    """Takes the events' lines from the log until it is over; other lines are printed."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    def take(self, happening: str, fields: Mapping[str, Any]) -> bool:
        if happening != "event":
            return False
        self._events.put_nowait(fields)
        return True

    async def event(self, reply: str) -> Mapping[str, Any]:
        """The fields of the event that got this reply, once it is over; others' are passed over."""
        request_id = json.loads(reply)["request_id"]
        while (fields := await self._events.get())["request_id"] != request_id:
            pass
        return fields


def _stand_ins(loaded: Config) -> dict[tuple[str, int], StandIn]:
    """One for each address that targets have. Raises StartFailed for one that is elsewhere."""
    from router.cli.trying.standin import StandIn

    stand_ins: dict[tuple[str, int], StandIn] = {}
    for target in loaded.table.targets.values():
        url = urlsplit(target.url)
        if url.scheme != "http" or url.hostname not in _LOOPBACK:
            raise StartFailed(
                f"target {target.name!r} is not on this machine, and the demo calls nothing else:"
                " use the shipped routes.yaml, or give it a http://127.0.0.1 URL"
            )
        stand_ins.setdefault(_address(target), StandIn())
    return stand_ins


def _address(target: Target) -> tuple[str, int]:
    url = urlsplit(target.url)
    return url.hostname or "", url.port or 80


async def _send(url: str, body: bytes) -> str:
    """Play EBaaS once; the reply's body as text."""
    from router.transport.engine import Answer, as_it_came, lines_of
    from router.transport.native import NativePool

    pool = NativePool(url)
    try:
        lines = lines_of([(b"content-type", b"application/json")])
        result = await pool.post(lines, body, _PATIENCE, as_it_came)
    finally:
        await pool.close()
    if not isinstance(result, Answer):
        raise StartFailed(f"the router did not answer its sample event: {result.reason}")
    return result.body.decode("utf-8", "replace")


async def _tell_first(url: str, story: EventLines) -> Mapping[str, Any]:
    """The sample event and what became of it; its fields."""
    reply = await _send(url, SAMPLE)
    line = await story.event(reply)
    say(f"An event came: {line['event_key']} ({line['bytes']} bytes)")
    for number, route in enumerate(line["routes"]):
        say(f"  {'matched by' if number == 0 else '':<14} {route}")
    for name, delivery in line["targets"].items():
        say(f"  {name:<14} {delivery['as']:<10} {_answer(delivery):<25} {delivery['ms']:>6.1f} ms")
    say(f"  {'reply':<14} {reply}  {line['ms']:.1f} ms")
    return line


def _optional(line: Mapping[str, Any]) -> str | None:
    return next((name for name, each in line["targets"].items() if each["as"] == "optional"), None)


async def _leave_waiting(url: str, story: EventLines, target: str, stand_in: StandIn) -> None:
    """A third event, which a target that nobody waits for fails for a while: something to see."""
    stand_in.fail(THIRD, _FAILURES)
    await story.event(await _send(url, THIRD))
    say("")
    say(f"A third one, which {target} fails for some two minutes: the router retries it meanwhile.")


def _last_required(line: Mapping[str, Any]) -> str | None:
    targets = line["targets"].items()
    return next((name for name, each in reversed(targets) if each["as"] == "required"), None)


async def _tell_retry(url: str, story: EventLines, failing: str, wait: float) -> None:
    """A second event, which one target fails at first: whom its retry reaches."""
    say("")
    say(f"Another one, and {failing} fails at first. EBaaS sends again what gets no {SUCCESS}:")
    while True:
        line = await story.event(await _send(url, SECOND))
        say(f"  request {line['request']} of {line['of']}")
        for name, delivery in line["targets"].items():
            say(f"    {name:<14} {_answer(delivery)}")
        say(f"    {'reply':<14} {line['code']}")
        if line["code"] == SUCCESS:
            return
        await asyncio.sleep(wait)


def _answer(delivery: Mapping[str, Any]) -> str:
    if "skipped" in delivery:
        return f"not called again: {delivery['skipped']}"
    return f"{delivery['reason']} (HTTP {delivery.get('status', '-')})"
