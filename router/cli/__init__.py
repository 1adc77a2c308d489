"""The command line: finds the command, runs it, and turns what went wrong into one line.

A command is a module below this package with `HELP`, `configure(parser)` and `run(args) -> int`,
which raises RouterError where there is one line to say instead. It imports at its top only what its
help needs; what does the work is imported by `run`, so that `--help` and `health` are quick.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

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
from router.model.errors import RouterError, SettingInvalid, why_not

#: Each command's module, below this package, and its line in the list.
COMMANDS = {
    "serve": ("serve", "run the router"),
    "demo": ("trying.demo", "the router, stand-in targets and one sample event: see it work"),
    "check": ("routes.check", "check a routes.yaml: every fault at once, each with its place"),
    "explain": (
        "routes.explain",
        "say which routes an event matches, why the others don't, and its plan",
    ),
    "test": (
        "routes.test",
        "run the cases of routes.test.yaml, and say which routes none has tried",
    ),
    "diff": (
        "routes.diff",
        "say whose plan changes between two routes.yaml, by cases or by real traffic",
    ),
    "init": ("routes.init", "write a first routes.yaml, its tests and the editors' schemas"),
    "send": (
        "trying.send",
        "play EBaaS: send an event, once, by its retry schedule, or many times",
    ),
    "receive": ("trying.receive", "play a business endpoint: answer to order, print what comes"),
    "listen": (
        "trying.listen",
        "show a running router's events as they come, and copy them to your machine",
    ),
    "probe": ("trying.probe", "check whether an endpoint keeps the contract, by real events"),
    "deliveries": (
        "deliveries.deliveries",
        "list, show, replay, discard or restore what could not be delivered at once",
    ),
    "pause": ("deliveries.pause", "hold a target back for a while, with a reason and an end"),
    "resume": ("deliveries.resume", "end a pause of a target before its time"),
    "trace": ("history.trace", "tell what became of an event, by any id of it"),
    "archive": (
        "history.archive",
        "list or export what was handled lately, or deliver it to a target again",
    ),
    "resend": ("trying.resend", "POST a copy of one event that was handled to a URL of your own"),
    "health": ("health", "ask a running router whether it is ready"),
    "status": ("status", "show how a running router, its targets and its nodes do"),
}

_OVERVIEW = """\
usage: {name} COMMAND [OPTION...]

Takes every EBaaS event at one endpoint, forwards it to the business endpoints that
routes.yaml names, and replies 000 when every required one has acknowledged it.

commands:
{commands}

`{name} COMMAND --help` explains a command, with examples; `{name} --version`
prints the version, and `{name} --completion bash` (or zsh, fish) a script by which
the shell completes all this."""


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
        if isinstance(error, PermissionError) and isinstance(error.filename, str):
            note(f"what is needed can't be read: {why_not(Path(error.filename), error)}")
            return NOT_STARTED
        note(error.strerror or "the system refused")
        abandon_stdout()
        return BAD
    except Exception as error:  # noqa: BLE001 - no traceback, which may show a secret
        from router.telemetry.log.foreign import place_of

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
    if name == "--completion":
        from router.cli.completion import completion

        say_lines(completion(rest))
        return GOOD
    if name not in COMMANDS:
        near = nearest_of(name, COMMANDS) or "."
        raise SettingInvalid(f"{name!r} is not a command{near} See {NAME} --help")
    parser = Parser(name)
    found = configured(name, parser)
    try:
        args = parser.read(rest)
    except SystemExit:
        # argparse's own end, after --help; what is wrong with the arguments is raised by Parser.
        return GOOD
    code: int = found.run(args)
    return code


def configured(name: str, parser: Parser) -> ModuleType:
    """One of COMMANDS, by its name; the parser knows its arguments and its help."""
    found = importlib.import_module(f"router.cli.{COMMANDS[name][0]}")
    found.HELP.teach(parser)
    found.configure(parser)
    return found


def _show_overview() -> int:
    commands = "\n".join(f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items())
    print(_OVERVIEW.format(name=NAME, commands=commands))
    return GOOD


def _show_version() -> int:
    from router.cli.version import format_version

    say_lines(format_version())
    return GOOD
