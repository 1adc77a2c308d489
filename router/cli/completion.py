"""`--completion SHELL`: the script by which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, cast

from router.cli.options import Parser
from router.cli.printing import NAME
from router.model.errors import SettingInvalid

_SHELLS = ("bash", "zsh", "fish")

#: The metavars of options that take a path.
_FILES, _FOLDERS = {"FILE", "PATH", "STORE"}, {"DIR", "FOLDER"}


def completion(arguments: Sequence[str]) -> list[str]:
    """Return the lines of a shell's script. Raises SettingInvalid for another shell."""
    import shtab

    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise SettingInvalid(f"--completion: for which shell? One of {', '.join(_SHELLS)}")
    whole = _whole(files=shtab.FILE, folders=shtab.DIRECTORY)
    return shtab.complete(whole, arguments[0]).splitlines()


def _whole(*, files: Any, folders: Any) -> argparse.ArgumentParser:
    """Make one parser of all commands, each configured by its own module."""
    from router.cli import COMMANDS, configured

    whole = argparse.ArgumentParser(NAME)
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(parser_class=cast("type[Parser]", _parser))
    for name, (_, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line)
        configured(name, parser)
        for action in parser._actions:
            words = {*str(action.metavar).split("|")}
            if (words & (_FILES | _FOLDERS)) and not action.choices:
                completes = files if words & _FILES else folders
                action.complete = completes  # type: ignore[attr-defined]
    return whole


def _parser(prog: str, **_: Any) -> Parser:
    return Parser(prog.rpartition(" ")[2])
