"""The command line: finds the command, runs it, and turns an error into one line.

The command `pause` is `PAUSE`, its help, `configure_pause(parser)` and `run_pause(args) -> int`,
which raises RouterError for an error that is one line. At its top a module imports only what the
help needs. The rest is imported when the command runs, so that `--help` and `health` are quick.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from router.cli.options import Exit, Parser, nearest_of
from router.cli.printing import NAME, abandon_stdout, note, prepare_streams, say
from router.model.errors import RouterError, SettingInvalid, why_not

#: The module of each command, and its line in the list.
COMMANDS = {
    "serve": ("serve", "run the router"),
    "demo": ("serve", "run the router with stand-in targets and send it sample events"),
    "check": ("check", "check a routes.yaml: every fault at once, each with its line"),
    "explain": ("explain", "show which routes an event matches, why others don't, its plan"),
    "test": ("check", "run the cases of routes.test.yaml, and list routes that none tries"),
    "diff": ("explain", "show which plans change between two routes.yaml"),
    "init": ("init", "write a first routes.yaml, its tests and the editors' schemas"),
    "send": ("send", "play EBaaS: send an event, once or by its retry schedule"),
    "receive": (
        "receive",
        "act as a business endpoint: print each event, answer as its options say",
    ),
    "listen": ("listen", "show a router's events as they come, and copy them to a URL"),
    "probe": ("probe", "check by real events whether an endpoint keeps the contract"),
    "deliveries": ("deliveries", "list, replay, retry, discard or restore unsettled deliveries"),
    "pause": ("deliveries", "stop calls to a target for a while, with a reason and an end"),
    "resume": ("deliveries", "end a pause of a target before its time"),
    "trace": ("trace", "show what became of an event, by any id of it"),
    "archive": ("archive", "list or export past events, or deliver them to a target again"),
    "resend": ("listen", "POST a copy of one past event to a URL of your own"),
    "health": ("status", "ask a running router whether it is ready"),
    "status": ("status", "show the health of a running router, its targets and its nodes"),
}

_OVERVIEW = """\
usage: {name} COMMAND [OPTION...]

Takes every EBaaS event at one endpoint, forwards it to the business endpoints that
routes.yaml names, and replies 000 when every required one has acknowledged it.

commands:
{commands}

`{name} COMMAND --help` explains a command, with examples; `{name} --version`
prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; `argv` is without the program's name. Returns the exit code."""
    prepare_streams()
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a broken pipe or a full disk is met here, not at the end
        return code
    except RouterError as error:
        for line in str(error).splitlines():
            note(line)
        return Exit.USAGE if isinstance(error, SettingInvalid) else Exit.NOT_STARTED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return Exit.UNREAD
    except OSError as error:
        if isinstance(error, PermissionError) and isinstance(error.filename, str):
            note(why_not(Path(error.filename), error))
            return Exit.NOT_STARTED
        note(error.strerror or "the system refused")
        abandon_stdout()
        return Exit.BAD
    except UnicodeEncodeError:
        note("an argument is not UTF-8")
        return Exit.USAGE
    except Exception as error:  # noqa: BLE001 - no traceback, which may show a secret
        from router.telemetry.log.foreign import place_of

        note(f"a fault of the router: {place_of(error)}")
        return Exit.BAD
    except BaseException as error:
        from asyncio import CancelledError

        # Ctrl-C while a runner of Python 3.11 starts.
        if not isinstance(error, CancelledError):
            raise
        return Exit.INTERRUPTED


def _dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("--help", "-h", "help"):
        commands = "\n".join(f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items())
        print(_OVERVIEW.format(name=NAME, commands=commands))
        return Exit.GOOD
    if name == "--version":
        say(*_version())
        return Exit.GOOD
    if name not in COMMANDS:
        near = nearest_of(name, COMMANDS) or "."
        raise SettingInvalid(f"{name!r} is not a command{near} See {NAME} --help")
    parser = Parser(name)
    run = configured(name, parser)
    try:
        args = parser.read(rest)
    except SystemExit:
        # argparse ends so after --help. For wrong arguments Parser raises SettingInvalid.
        return Exit.GOOD
    return run(args)


def configured(name: str, parser: Parser) -> Callable[[argparse.Namespace], int]:
    """Give the parser a command's arguments and help. Return the function that runs it."""
    module: Any = importlib.import_module(f"router.cli.{COMMANDS[name][0]}")
    getattr(module, name.upper()).apply(parser)
    getattr(module, f"configure_{name}")(parser)
    run: Callable[[argparse.Namespace], int] = getattr(module, f"run_{name}")
    return run


def _version() -> Iterator[str]:
    """Describe the installation for a report of a fault. The first line has the router's version
    alone."""
    import platform
    import sqlite3
    from importlib.util import find_spec

    from router import __version__
    from router.model.build import COMPILED

    yield f"{NAME} {__version__}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    build = "compiled" if COMPILED else "pure Python"
    yield f"{python}, {build}, {platform.platform()}"
    psycopg = "with" if find_spec("psycopg") else "without"
    yield f"SQLite {sqlite3.sqlite_version}, {psycopg} psycopg"
