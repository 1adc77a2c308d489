"""Scripts by which a shell completes commands, options and files: `--completion SHELL`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, cast

from router.cli.options import Parser, kind_of
from router.cli.printing import NAME
from router.model.errors import SettingInvalid

_SHELLS = ("bash", "zsh", "fish")


def completion(arguments: Sequence[str]) -> list[str]:
    """Return the lines of a shell's script. Raises SettingInvalid for another shell."""
    import shtab

    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise SettingInvalid(f"--completion: for which shell? One of {', '.join(_SHELLS)}")
    whole = _whole({"file": shtab.FILE, "directory": shtab.DIRECTORY})
    return shtab.complete(whole, arguments[0]).splitlines()


def _whole(paths: dict[str, Any]) -> argparse.ArgumentParser:
    """Return one parser with all commands."""
    from router.cli import COMMANDS, configured

    whole = argparse.ArgumentParser(NAME)
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(parser_class=cast("type[Parser]", _parser))
    for name, (_, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line)
        configured(name, parser)
        for action in parser._actions:
            kind = kind_of(action)
            if kind and not action.choices:
                action.complete = paths[kind]  # type: ignore[attr-defined]
    return whole


def _parser(prog: str, **_: Any) -> Parser:
    return Parser(prog.rpartition(" ")[2])
