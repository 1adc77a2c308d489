"""`serve`: the router itself, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

from router.cli.options import GOOD, NOT_STARTED, Help, add_settings, read_settings

SUMMARY = "run the router"

HELP = Help(
    about="""Listens for EBaaS's callbacks, forwards each to the targets that routes.yaml names for
    its key, and replies 000 when every required one has acknowledged it. Writes one log line per
    event to stdout. An edit of routes.yaml is taken within seconds, or at once on SIGHUP, if it is
    right as a whole; a wrong one changes nothing and is complained of. SIGTERM or Ctrl-C stops it:
    what is in flight is finished first; a second one hurries.""",
    examples=(
        "ebaas-router serve",
        "ebaas-router serve --config /etc/ebaas-router/routes.yaml --host 0.0.0.0",
        "EBAAS_ROUTER_LOG_FORMAT=json ebaas-router serve --port 9000",
    ),
    exit_codes={
        GOOD: "stopped when told to",
        NOT_STARTED: "could not start: a broken routes.yaml or schema, a taken port",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    settings = read_settings(args)

    from router import server
    from router.app import App
    from router.errors import ConfigInvalid
    from router.log import Log, take_library_lines
    from router.reload import Source

    log = Log(format=settings.log_format)
    take_library_lines(log)
    source = Source(settings.config, os.environ, settings.secrets_dir)
    look = source.look()
    if look.problems:
        raise ConfigInvalid(look.problems)
    loaded = source.load(look.content)
    app = App(settings, loaded, log, watched=(source, look))
    serving = server.Server(
        app.asgi,
        server.listen(settings.host, settings.port),
        lifespan=True,
        drain_timeout=settings.drain_timeout,
    )

    async def announce() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reload.ask)
        for problem in loaded.warnings:
            log.warning("config", problem=str(problem))
        log.info(
            "serving",
            url=serving.url + settings.path,
            routes=len(loaded.table.routes),
            targets=len(loaded.table.targets),
            config=loaded.hash,
        )

    server.run(serving, then=announce)
    log.info("stopped")
    return GOOD
