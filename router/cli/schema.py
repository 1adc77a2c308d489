"""`schema`: prints what is machine-readable of the contract and of the files that people edit."""

from __future__ import annotations

import argparse

from router.cli.options import GOOD, Help
from router.cli.printing import say_lines

_FILES = {
    "callback": "callback.schema.json",
    "routes": "routes.schema.json",
    "common": "routes.common.schema.json",
    "team": "routes.team.schema.json",
    "tests": "routes.test.schema.json",
    "openapi": "openapi.yaml",
}

HELP = Help(
    about="""Prints one of this version's schemas: `callback`, a JSON Schema of what EBaaS sends and
    receivers get; `routes` and `tests`, by which editors complete and check routes.yaml and
    routes.test.yaml; `common` and `team` for a folder's routes.yaml and what is in its routes.d;
    `openapi`, an OpenAPI 3.1 document of the callback port, whose `webhooks` are
    what a receiver has to answer. Each has an `$id` or a version.""",
    examples=(
        "ebaas-router schema routes > routes.schema.json",
        "ebaas-router schema openapi > ebaas-router.openapi.yaml",
    ),
    exit_codes={GOOD: "printed"},
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", choices=tuple(_FILES), metavar="SCHEMA", help=", ".join(_FILES))


def run(args: argparse.Namespace) -> int:
    from router.contract.schema import shipped_schema

    say_lines(shipped_schema(_FILES[args.schema]).read_text("utf-8").splitlines())
    return GOOD
