"""Scripts by which a shell completes commands, options and files: `--completion SHELL`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, cast

from router.cli.options import Parser
from router.cli.printing import NAME
from router.model.errors import SettingInvalid

_SHELLS = ("bash", "zsh", "fish")

#: The metavars of arguments that are paths.
_FILES, _FOLDERS = {"FILE", "PATH", "STORE", "OLD", "NEW"}, {"DIR", "FOLDER"}


def completion(arguments: Sequence[str]) -> list[str]:
    """Return the lines of a shell's script. Raises SettingInvalid for another shell."""
    import shtab

    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise SettingInvalid(f"--completion: for which shell? One of {', '.join(_SHELLS)}")
    paths = {**dict.fromkeys(_FILES, shtab.FILE), **dict.fromkeys(_FOLDERS, shtab.DIRECTORY)}
    return shtab.complete(_whole(paths), arguments[0]).splitlines()


def _whole(paths: dict[str, Any]) -> argparse.ArgumentParser:
    """Return one parser with all commands; `paths` says how to complete a metavar."""
    from router.cli import COMMANDS, configured

    whole = argparse.ArgumentParser(NAME)
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(parser_class=cast("type[Parser]", _parser))
    for name, (_, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line)
        configured(name, parser)
        for action in parser._actions:
            words = paths.keys() & str(action.metavar).split("|")
            if words and not action.choices:
                action.complete = paths[words.pop()]  # type: ignore[attr-defined]
    return whole


def _parser(prog: str, **_: Any) -> Parser:
    return Parser(prog.rpartition(" ")[2])
