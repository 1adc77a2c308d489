"""`init`: writes a first routes.yaml, its tests and the editors' schemas."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from router.cli.options import Exit, Help, Parser
from router.cli.printing import NAME, note, say
from router.model.errors import SettingInvalid, StartFailed, may, why_not

INIT = Help(
    about="""Writes four files into FOLDER: routes.yaml, in which every event goes to one target;
    routes.test.yaml, the expected targets of events; and the schemas by which editors complete
    and check both. It asks nothing, and replaces no file. The shipped config/routes.yaml shows
    every key. With --schemas it writes this version's schemas alone, in place of those that are
    there: of routes.yaml, whole and in a folder of parts, and of its tests; of callbacks; and an
    OpenAPI document of the callback port, whose `webhooks` are what a receiver answers.""",
    examples="""
        ebaas-router init
        ebaas-router init --schemas    # after an upgrade
        ebaas-router init teams/gs --target ledger='${LEDGER_URL}'""",
    good="written",
    bad="a file is there already",
    not_started="the folder can't be written",
)

#: The default target: `ebaas-router receive` listens there.
_DEFAULT = "receiver=http://127.0.0.1:9001/callback"

#: The editors' schemas, written beside the files.
_SCHEMAS = ("routes.schema.json", "routes.test.schema.json")

#: More for editors, receivers and other programs.
_OTHERS = (
    "routes.common.schema.json",
    "routes.team.schema.json",
    "callback.schema.json",
    "openapi.yaml",
)

_ROUTES = """\
# yaml-language-server: $schema=routes.schema.json
#
# The targets of each event. `ebaas-router check` validates this file, `explain KEY` shows the plan
# for an event, and `test` runs the cases of routes.test.yaml. A running router reloads an edit by
# itself; a faulty edit changes nothing.

version: 1

# The reply for an event that no route matches: reject (a failure, so that EBaaS sends it again)
# or accept (000).
unmatched: reject

# ebaas:
#   token: ${file:ebaas-token}      # who may call: it has to send `authorization: Bearer TOKEN`

# Where events can go. Routes, logs and metrics use the name of a target.
targets:
%(targets)s
# An event goes to the targets of every route that matches it; the order of routes has no meaning.
# EBaaS gets its 000 once all required targets have acknowledged the event; the router itself
# retries optional ones. In a pattern * is any run of characters: a.gs.* matches a.gs.cert.1.
routes:
  - name: everything
    match: "*"
    %(required)s
    # optional: []
"""

_TESTS = """\
# yaml-language-server: $schema=routes.test.schema.json
#
# The expected targets of events. `ebaas-router test` runs these cases, and lists the routes that no
# case matches.

version: 1

cases:
  - name: every event goes to the target
    key: a.gs.cert.1
    %(required)s
"""


def configure_init(parser: Parser) -> None:
    parser.add_argument(
        "folder", nargs="?", default="config", metavar="FOLDER", help="default config"
    )
    about = f"the first target and where it is (default {_DEFAULT})"
    parser.option("--target", "NAME=URL", about, default=_DEFAULT)
    parser.switch("--schemas", "write all schemas, and only them")


def run_init(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    if args.schemas:
        _write(folder, _schemas((*_SCHEMAS, *_OTHERS)), "w")
        return Exit.GOOD
    name, _, url = args.target.partition("=")
    if not (name and url):
        raise SettingInvalid(f"--target: {args.target!r} is not NAME=URL")
    files = {**_files(name, url), **_schemas(_SCHEMAS)}
    for path in (folder / name for name in files):
        if may(path, os.F_OK):
            note(f"{path} is there already; nothing was written")
            return Exit.BAD
    _write(folder, files, "x")
    say("", f"  {NAME} check {folder / 'routes.yaml'}    # after each edit")
    say(f"  {NAME} serve --config {folder / 'routes.yaml'}")
    return Exit.GOOD


def _write(folder: Path, files: Mapping[str, str], mode: Literal["w", "x"]) -> None:
    """Raises StartFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open(mode, encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise StartFailed(f"{folder} can't be written: {why_not(folder, error)}") from None
    say(f"written: {', '.join(str(folder / name) for name in files)}")


def _files(name: str, url: str) -> Mapping[str, str]:
    """Return the two files that people edit, by their names."""
    from router.config.document import write

    targets = textwrap.indent(write({name: {"url": url}}), "  ")
    required = f"required: [{write({'name': name}).removeprefix('name: ').strip()}]"
    return {
        "routes.yaml": _ROUTES % {"targets": targets, "required": required},
        "routes.test.yaml": _TESTS % {"required": required},
    }


def _schemas(names: Iterable[str]) -> Mapping[str, str]:
    """Return schemas, which are written beside the files that name them, for any editor."""
    from router.contract.schema import shipped_schema

    return {name: shipped_schema(name).read_text("utf-8") for name in names}
