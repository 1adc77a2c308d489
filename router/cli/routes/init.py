"""`init`: a first routes.yaml, its tests and the editors' schemas, for a folder of one's own."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from router.cli.options import BAD, GOOD, NOT_STARTED, Help, add_settings, read_setting
from router.cli.printing import NAME, note, say
from router.model.errors import ConfigInvalid, SettingInvalid, StartFailed, why_not

HELP = Help(
    about="""Writes four files into FOLDER, which is made where it is missing: routes.yaml, in which
    every event goes to every target; routes.test.yaml, which says where events have to go; and the
    schemas by which editors complete and check both. It asks nothing, and replaces no file. What
    it writes is good by `check --strict` and `test`. The shipped config/routes.yaml shows each key
    that there is besides. With --schemas it writes this version's schemas alone, in place of those
    that are there: of routes.yaml, whole and in a folder of parts, and of its tests; of callbacks;
    and an OpenAPI document of the callback port, whose `webhooks` are what a receiver answers.""",
    examples=(
        "ebaas-router init",
        "ebaas-router init --target ledger=https://ledger.example.com/ebaas/callback",
        "ebaas-router init --schemas    # after an upgrade",
        "ebaas-router init teams/gs --target ledger='${LEDGER_URL}' --target audit=http://10.2.0.7/",
    ),
    exit_codes={
        GOOD: "written",
        BAD: "a file is there already",
        NOT_STARTED: "the folder can't be written",
    },
)

#: Where events go unless told otherwise: `ebaas-router receive` listens there.
_DEFAULT = "receiver=http://127.0.0.1:9001/callback"

#: What is checked in place of a URL that has no value yet.
_STAND_IN = "https://target.example.com/"

#: The editors' schemas, which are written beside the files.
_SCHEMAS = ("routes.schema.json", "routes.test.schema.json")

#: What else there is for editors, for receivers and for other programs.
_OTHERS = (
    "routes.common.schema.json",
    "routes.team.schema.json",
    "callback.schema.json",
    "openapi.yaml",
)

_ROUTES = """\
# yaml-language-server: $schema=routes.schema.json
#
# Where each event goes. `ebaas-router check` says whether this file is right, `explain KEY` what it
# does with an event, `test` whether that is what routes.test.yaml wants. A running router takes an
# edit by itself; a wrong one changes nothing.

version: 1

# What EBaaS is told of an event that no route matches: reject (a failure, so that it comes again)
# or accept (000).
unmatched: reject

# ebaas:
#   token: ${file:ebaas-token}      # who may call: it has to send `authorization: Bearer TOKEN`

# Where events can go. The name is what routes, logs and metrics call a target.
targets:
%(targets)s
# What goes where. Every route that matches counts, and their order means nothing. EBaaS gets its
# 000 once all required targets have acknowledged; optional ones are sent to again later.
# In a pattern * is any run of characters: a.gs.* matches a.gs.cert.1.
routes:
  - name: everything
    match: "*"
    %(required)s
    # optional: []
"""

_TESTS = """\
# yaml-language-server: $schema=routes.test.schema.json
#
# What routes.yaml has to do, event by event: `ebaas-router test` runs these cases, and says which
# routes no case has tried.

version: 1

cases:
  - name: every event goes to every target
    key: a.gs.cert.1
    %(required)s
"""


class NewTarget(NamedTuple):
    """One that was named on the command line."""

    name: str
    url: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", default="config", metavar="FOLDER", help="default config"
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="NAME=URL",
        help=f"a target and where it is; may be repeated (default {_DEFAULT})",
    )
    parser.add_argument("--schemas", action="store_true", help="write all schemas, and only them")
    add_settings(parser, "secrets_dir")


def run(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    if args.schemas:
        if args.target:
            raise SettingInvalid("--target is for a routes.yaml, and not for --schemas")
        files = _schemas((*_SCHEMAS, *_OTHERS))
        _write(folder, files, "w")
        say(f"written: {', '.join(str(folder / name) for name in files)}")
        return GOOD
    targets = [_target(text) for text in args.target or [_DEFAULT]]
    files = {**_files(targets), **_schemas(_SCHEMAS)}
    _check(targets, read_setting(args, "secrets_dir"))
    try:
        _write(folder, files, "x")
    except FileExistsError as error:
        note(f"{error.filename} is there already; nothing was written")
        return BAD
    _tell(folder, files)
    return GOOD


def _write(folder: Path, files: Mapping[str, str], mode: Literal["w", "x"]) -> None:
    """Raises StartFailed; in mode `x`, FileExistsError before anything is written."""
    try:
        for name in files if mode == "x" else ():
            if (folder / name).exists():
                raise FileExistsError(None, None, str(folder / name))
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open(mode, encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as error:
        if error.filename == str(folder):
            raise StartFailed(f"{folder} can't be written: {why_not(folder, error)}") from None
        raise
    except OSError as error:
        raise StartFailed(f"{folder} can't be written: {why_not(folder, error)}") from None


def _target(text: str) -> NewTarget:
    name, equals, url = text.partition("=")
    if not (name and equals and url):
        raise SettingInvalid(f"--target: {text!r} is not NAME=URL")
    return NewTarget(name, url)


def _files(targets: Sequence[NewTarget]) -> Mapping[str, str]:
    """The two that people edit, by their names."""
    from router.config.document import write

    said = write({each.name: {"url": each.url} for each in targets})
    names = [write({"name": each.name}).removeprefix("name: ").strip() for each in targets]
    required = f"required: [{', '.join(names)}]"
    return {
        "routes.yaml": _ROUTES % {"targets": textwrap.indent(said, "  "), "required": required},
        "routes.test.yaml": _TESTS % {"required": required},
    }


def _schemas(names: Iterable[str]) -> Mapping[str, str]:
    """They stand beside the files that name them, so that any editor finds them."""
    from router.contract.schema import shipped_schema

    return {name: shipped_schema(name).read_text("utf-8") for name in names}


def _check(targets: Sequence[NewTarget], secrets_dir: Path | None) -> None:
    """Raises SettingInvalid for what the router would not take, and notes what it warns of, and
    what has no value yet."""
    from router.config.loading import parse

    named = [each.name for each in targets]
    if twice := [name for name in named if named.count(name) > 1]:
        raise SettingInvalid(f"--target: {twice[0]!r} is given twice")
    unset = _unset(targets, secrets_dir)
    known = [NewTarget(each.name, _STAND_IN) if each in unset else each for each in targets]
    routes = _files(known)["routes.yaml"]
    try:
        warnings = parse(routes.encode(), "routes.yaml", os.environ, secrets_dir).warnings
    except ConfigInvalid as error:
        wrong = [f"--target: {each.path}: {each.message}" for each in error.problems]
        raise SettingInvalid("\n".join(wrong)) from None
    for each in warnings:
        note(f"warning: {each.path}: {each.message}")
    for target, why in unset.items():
        note(f"targets.{target.name}.url: {why}; the router needs it")


def _unset(targets: Iterable[NewTarget], secrets_dir: Path | None) -> dict[NewTarget, str]:
    """Those whose URL has no value here, as a variable may, and why."""
    from router.config.variables import Unresolved, Unset, Variables

    variables, found = Variables(os.environ, secrets_dir), dict[NewTarget, str]()
    for each in targets:
        try:
            variables.resolve(each.url)
        except Unset as error:
            found[each] = str(error)
        except Unresolved:
            continue  # the parser says where
    return found


def _tell(folder: Path, files: Iterable[str]) -> None:
    say(f"written: {', '.join(str(folder / name) for name in files)}")
    say("")
    say(f"  {NAME} check {folder / 'routes.yaml'}    # whether it is right; after each edit")
    say(f"  {NAME} serve --config {folder / 'routes.yaml'}")
