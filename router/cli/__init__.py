"""The command line: finds the command, runs it, and turns what went wrong into one line.

A command is a module below this package with `SUMMARY`, `configure(parser)` and `run(args) -> int`.
It imports at its top only what its help needs; what does the work is imported by `run`, so that
`--help` and `health` are quick.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    UNREAD,
    USAGE,
    Parser,
    nearest_of,
)
from router.cli.printing import NAME, abandon_stdout, flush, note, prepare_streams, say_lines
from router.model import RouterError, SettingInvalid

#: Each command's module, below this package.
COMMANDS = {
    "serve": "serve",
    "demo": "trying.demo",
    "check": "routes.check",
    "explain": "routes.explain",
    "test": "routes.test",
    "diff": "routes.diff",
    "config": "routes.config",
    "init": "routes.init",
    "send": "trying.send",
    "receive": "trying.receive",
    "listen": "trying.listen",
    "probe": "trying.probe.probe",
    "deliveries": "deliveries.deliveries",
    "pause": "deliveries.pause",
    "resume": "deliveries.resume",
    "trace": "history.trace",
    "archive": "history.archive",
    "resend": "trying.resend",
    "nodes": "deliveries.nodes",
    "health": "health",
    "status": "status",
    "schema": "schema",
    "completion": "completion",
}

_OVERVIEW = """\
usage: {name} COMMAND [OPTION...]

Takes every EBaaS event at one endpoint, forwards it to the business endpoints that
routes.yaml names, and replies 000 when every required one has acknowledged it.

commands:
{commands}

`{name} COMMAND --help` explains a command, with examples; `{name} --version`
prints the version."""


class Command(Protocol):
    """What a command's module has."""

    #: One line for the list of commands.
    SUMMARY: str

    def configure(self, parser: Parser) -> None:
        """Declare the arguments and the help."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit code. Raises RouterError where there is one line to say instead."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; `argv` is without the program's name. Returns the exit code."""
    prepare_streams()
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        flush()
        return code
    except RouterError as error:
        for line in str(error).splitlines():
            note(line)
        return USAGE if isinstance(error, SettingInvalid) else NOT_STARTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return UNREAD
    except OSError as error:
        note(error.strerror or "the system refused")
        abandon_stdout()
        return BAD
    except Exception as error:  # noqa: BLE001 - no traceback, which may show a secret
        from router.telemetry import place_of

        note(f"a fault of the router: {place_of(error)}")
        return BAD
    except BaseException as error:
        from asyncio import CancelledError

        # Ctrl-C in the moment in which a runner of Python 3.11 begins.
        if not isinstance(error, CancelledError):
            raise
        return INTERRUPTED


def _dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("--help", "-h", "help"):
        return _show_overview()
    if name == "--version":
        return _show_version()
    if name not in COMMANDS:
        near = nearest_of(name, COMMANDS) or "."
        raise SettingInvalid(f"{name!r} is not a command{near} See {NAME} --help")
    found = command(name)
    parser = Parser(name)
    found.configure(parser)
    try:
        args = parser.read(rest)
    except SystemExit:
        # argparse's own end, after --help; what is wrong with the arguments is raised by Parser.
        return GOOD
    return found.run(args)


def command(name: str) -> Command:
    """One of COMMANDS, by its name."""
    return cast(Command, importlib.import_module(f"router.cli.{COMMANDS[name]}"))


def _show_overview() -> int:
    commands = "\n".join(f"  {name:<10} {command(name).SUMMARY}" for name in COMMANDS)
    print(_OVERVIEW.format(name=NAME, commands=commands))
    return GOOD


def _show_version() -> int:
    from router.cli.version import version_told

    say_lines(version_told())
    return GOOD
