"""`completion`: what a shell needs to complete commands, options and files."""

from __future__ import annotations

import argparse
from typing import Any, cast

from router.cli.options import GOOD, Help, Parser, kind_of
from router.cli.printing import NAME, say_lines

_SHELLS = ("bash", "zsh", "fish")

HELP = Help(
    about="""Prints a script by which a shell completes commands, options, their values and files.
    It starts nothing while you type. Print it anew after an upgrade.""",
    examples=(
        "ebaas-router completion bash > ~/.local/share/bash-completion/completions/ebaas-router",
        "ebaas-router completion zsh > ~/.zfunc/_ebaas-router    # with ~/.zfunc in fpath",
        "ebaas-router completion fish > ~/.config/fish/completions/ebaas-router.fish",
    ),
    exit_codes={GOOD: "printed"},
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))


def run(args: argparse.Namespace) -> int:
    import shtab

    whole = _whole({"file": shtab.FILE, "directory": shtab.DIRECTORY})
    say_lines(shtab.complete(whole, args.shell).splitlines())
    return GOOD


def _whole(paths: dict[str, Any]) -> argparse.ArgumentParser:
    """One parser of all commands, each as it configures its own."""
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
