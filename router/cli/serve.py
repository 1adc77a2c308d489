"""`serve`: the router itself, until it is told to stop."""

from __future__ import annotations

import argparse
import os

from router.cli.options import GOOD, NOT_STARTED, Help, add_settings, read_settings

SUMMARY = "run the router"

HELP = Help(
    about="""Listens for EBaaS's callbacks, forwards each to the targets that routes.yaml names for
    its key, and replies 000 when every required one has acknowledged it. Writes one log line per
    event to stdout. SIGTERM or Ctrl-C stops it: what is in flight is finished first; a second one
    hurries.""",
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
    from router import config, server
    from router.app import make_app
    from router.log import Log, take_library_lines

    settings = read_settings(args)
    log = Log(format=settings.log_format)
    take_library_lines(log)
    loaded = config.load(settings.config, os.environ, settings.secrets_dir)
    app = make_app(settings, loaded, log)
    serving = server.Server(
        app,
        server.listen(settings.host, settings.port),
        lifespan=True,
        drain_timeout=settings.drain_timeout,
    )

    async def announce() -> None:
        for problem in loaded.warnings:
            log.warning("config", problem=str(problem))
        log.info(
            "serving",
            url=serving.url + settings.path,
            routes=len(loaded.table.routes),
            targets=len(loaded.table.targets),
            config=loaded.hash[:12],
        )

    server.run(serving, then=announce)
    log.info("stopped")
    return GOOD
