"""Options and variables: how every command reads its arguments, and how its help teaches."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from router.cli.printing import NAME, note
from router.config.settings import (
    SETTINGS,
    VARIABLE_PREFIX,
    Settings,
    settings_from,
)
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.store.url import Database

GOOD = 0
BAD = 1
USAGE = 2
NOT_STARTED = 3
#: What shells report for a program that Ctrl-C ended.
INTERRUPTED = 130
#: What shells report for a program whose reader went away.
UNREAD = 141

#: The argument that stands for standard input.
STDIN = "-"

_WIDTH = 88

#: What the value of an argument is, by the word that stands for it: a path may be any bytes.
PATHS = {
    **dict.fromkeys(("FILE", "PATH", "STORE", "OLD", "NEW"), "file"),
    **dict.fromkeys(("DIR", "FOLDER"), "directory"),
}

#: The variables of commands that ask a router from afar, without their prefix.
AFAR = ("URL", "TOKEN_FILE")


@dataclass(frozen=True, slots=True)
class Help:
    """What `COMMAND --help` says besides the options."""

    #: One paragraph: what the command does and what its words mean.
    about: str
    #: Whole command lines, with a comment where one helps.
    examples: Sequence[str]
    #: Exit code to its meaning; 2 is the same for every command and added here.
    exit_codes: Mapping[int, str]
    #: What each VERB does, where the command has any.
    verbs: Mapping[str, str] = field(default_factory=dict)

    def teach(self, parser: Parser) -> None:
        codes = {**self.exit_codes, USAGE: "an option, an argument or a variable is wrong"}
        parser.verbs = {verb: " ".join(does.split()) for verb, does in self.verbs.items()}
        parser.description = "\n".join(
            (
                textwrap.fill(" ".join(self.about.split()), _WIDTH),
                *(
                    textwrap.fill(f"  {verb:<9}{does}", _WIDTH, subsequent_indent=" " * 11)
                    for verb, does in parser.verbs.items()
                ),
            )
        )
        parser.epilog = "\n".join(
            (
                "examples:",
                *(f"  {example}" for example in self.examples),
                "",
                "exit codes:",
                *(f"  {code:<3} {meaning}" for code, meaning in sorted(codes.items())),
            )
        )


class Parser(argparse.ArgumentParser):
    """One command's arguments. Complains through SettingInvalid; never guesses an abbreviation."""

    verbs: Mapping[str, str] = {}
    #: The arguments that only some verbs have, by the name they are read under; the help of the
    #: others leaves them out, and there they are refused.
    only: Mapping[str, Sequence[str]] = {}
    #: What is to be used in the stead of one of those, where that may not be plain.
    instead: Mapping[str, str] = {}
    #: Options that an earlier version had, and what replaces each.
    removed: Mapping[str, str] = {}
    #: Whether arguments that are no UTF-8 are taken as the bytes that they are.
    takes_bytes = False

    def __init__(self, command: str) -> None:
        super().__init__(
            prog=f"{NAME} {command}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Options and other arguments in any order."""
        if {"-h", "--help"}.intersection(arguments):
            self._teach_alone(next((word for word in arguments if word in self.verbs), ""))
        args, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            word = unknown[0].partition("=")[0]
            if word in self.removed:
                self.error(f"{word} is not an option any more: {self.removed[word]}")
            options = (option for option in self._option_string_actions if len(option) > 2)
            self.error(f"{word!r} is not an option or argument{nearest_of(word, options)}")
        self._refuse_others(args)
        return args

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """The value of one argument; all but paths have to be text."""
        is_path = kind_of(action) is not None
        if not (is_path or self.takes_bytes) and text.encode("utf-8", "replace").decode() != text:
            raise argparse.ArgumentError(action, "is not UTF-8")
        return super()._get_value(action, text)

    def _refuse_others(self, args: argparse.Namespace) -> None:
        """Raises SettingInvalid for an argument that the verb does not have."""
        for action in self._actions:
            verbs = self.only.get(action.dest)
            given = getattr(args, action.dest, None)
            if verbs is None or args.verb in verbs or given is None or given is False:
                continue
            name = action.option_strings[0] if action.option_strings else action.metavar
            instead = self.instead.get(action.dest)
            other = f"; {instead}" if instead else ""
            raise SettingInvalid(f"{name} is for {', '.join(verbs)} only{other}")

    def _teach_alone(self, verb: str) -> None:
        """Let the help be about this verb; with none it is about all."""
        if not verb:
            return
        program, self.prog = self.prog, f"{self.prog} {verb}"
        self.description = textwrap.fill(self.verbs[verb], _WIDTH)
        others = [f"{program} {each}" for each in self.verbs if each != verb]
        lines = (self.epilog or "").splitlines()
        self.epilog = "\n".join(
            each for each in lines if not each.strip().startswith(tuple(others))
        )
        for action in self._actions:
            if action.dest == "verb" or verb not in self.only.get(action.dest, (verb,)):
                action.help = argparse.SUPPRESS

    def error(self, message: str) -> NoReturn:
        problem = message.removeprefix("argument ")
        stop = "" if problem.endswith("?") else "."
        raise SettingInvalid(f"{problem}{stop} See {self.prog} --help")


def kind_of(action: argparse.Action) -> str | None:
    """Which of PATHS its values are; None where they are none."""
    words = str(action.metavar).split("|")
    return next((PATHS[word] for word in words if word in PATHS), None)


def value(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse`, which raises ValueError, as argparse wants the type of an option."""

    def parse_option(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def parse_wait(text: str) -> float:
    """Seconds that somebody may take."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"{text!r} is no time at all")
    return seconds


def add_timeout(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str, default: str = "10s"
) -> None:
    """`--timeout`: how long `what` may take."""
    parser.add_argument(
        "--timeout",
        type=value(parse_wait),
        default=default,
        metavar="TIME",
        help=f"how long {what} may take (default {default})",
    )


def add_format(parser: argparse.ArgumentParser, *others: str, about: str = "of the result") -> None:
    """Of text and JSON, and what else the command has."""
    parser.add_argument("--format", choices=("text", "json", *others), default="text", help=about)


def add_settings(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, *names: str, **own: str
) -> None:
    """Options for the settings named, or for all; read them by `read_setting(s)`. `own` says what
    one of them is to this command, where that is not what it is to `serve`."""
    for name in (*names, *own) or SETTINGS:
        setting = SETTINGS[name]
        default = "none" if setting.default is None else setting.default
        about = own.get(name, setting.about)
        switch: dict[str, Any] = {"nargs": "?", "const": "on"} if setting.is_switch else {}
        parser.add_argument(
            setting.option,
            **switch,
            metavar=setting.metavar,
            help=f"{about} (default {default}; {setting.variable})",
        )


def read_settings(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return every setting, as `settings_from` does, and note variables that look mistyped."""
    _note_typos(environ)
    note_password(args, environ)
    return settings_from(environ, vars(args))


def read_setting(
    args: argparse.Namespace, name: str, environ: Mapping[str, str] = os.environ
) -> Any:
    return SETTINGS[name].value(environ, vars(args))


def serve_command(args: argparse.Namespace, store: Path | Database | None = None) -> list[str]:
    """What starts another process by this command line's settings; what it is to do comes behind.
    `store` is a file that is none of them."""
    given = {setting.option: getattr(args, name, None) for name, setting in SETTINGS.items()}
    if isinstance(store, Path):
        given[SETTINGS["store"].option] = str(store)
    options = [f"{option}={text}" for option, text in given.items() if text is not None]
    return [sys.executable, "-m", "router", "serve", *options]


def note_password(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Warn of a store's password in the command line, which everybody on the machine can read."""
    store = read_setting(args, "store", environ)
    in_command_line = getattr(args, "store", None) is not None
    if in_command_line and isinstance(store, Database) and store.has_password:
        variable = SETTINGS["store"].variable
        note(
            "everybody on this machine can read the password in the command line; use "
            f"passfile=FILE in the URL, PGPASSWORD, or {variable}"
        )


def _note_typos(environ: Mapping[str, str]) -> None:
    settings = (setting.variable for setting in SETTINGS.values())
    known = {*AFAR, *(variable.removeprefix(VARIABLE_PREFIX) for variable in settings)}
    for variable in sorted(environ):
        name = variable.removeprefix(VARIABLE_PREFIX)
        if name == variable or name in known:
            continue
        if near := _nearest(name, known):
            note(
                f"{variable} is not a setting and is ignored, did you mean {VARIABLE_PREFIX}{near}?"
            )


def stdin() -> IO[bytes]:
    """What STDIN stands for; SettingInvalid where it is closed."""
    if sys.stdin is None:
        raise SettingInvalid("'-' can't be read: stdin is closed")
    return sys.stdin.buffer


def said_yes(question: str) -> bool | None:
    """What somebody at a terminal says; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def heed_ctrl_c() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt, and cancels what runs on a loop: for commands that
    have something to finish, once what they need is imported."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def nearest_of(word: str, known: Iterable[str]) -> str:
    """`, did you mean …?` where one of `known` is near, else nothing."""
    # Dashes are no likeness.
    by_name = {each.lstrip("-"): each for each in known}
    near = _nearest(word.lstrip("-"), by_name)
    return f", did you mean {by_name[near]}?" if near else ""


def require_target(name: str, known: Collection[str], where: str) -> None:
    """Raises SettingInvalid for a target that `where` does not have."""
    if name not in known:
        raise SettingInvalid(f"--target: {where} has no target {name!r}{nearest_of(name, known)}")


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return near[0] if near else None


def parse_url(text: str, like: str = "http://127.0.0.1:8080/callback") -> str:
    """An absolute http or https URL without credentials, or ValueError; `like` is an example."""
    if not _is_url(text):
        # What may be a password is not repeated.
        shown = "this" if "@" in text else repr(text)
        raise ValueError(f"{shown} is not a URL (like {like})")
    if "@" in urlsplit(text).netloc:
        raise ValueError("a URL with credentials can't be used")
    return text


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        host = (url.hostname or "").encode("idna")
        usable = url.scheme in ("http", "https") and host != b"" and url.port != 0
    except ValueError:
        return False
    return usable and text.isascii() and text.isprintable() and " " not in text
