"""Options and variables: the parser of a command's arguments, its help, and common options."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from router.cli.printing import NAME, note
from router.config.settings import (
    REMOVED_OPTIONS,
    SETTINGS,
    VARIABLE_PREFIX,
    Settings,
    parse_file,
    settings_from,
)
from router.contract.schedule import parse_duration, parse_time
from router.model.errors import RouterError, SettingInvalid, why_not
from router.net.tls import USUAL, BadCertificate, Tls, certificates_in
from router.store.url import Database


class Exit(IntEnum):
    """Exit codes of commands."""

    GOOD = 0
    BAD = 1
    USAGE = 2
    NOT_STARTED = 3
    #: A shell's code for a program that Ctrl-C ended.
    INTERRUPTED = 130
    #: A shell's code for a program whose output nobody reads any more.
    UNREAD = 141


#: The argument that stands for standard input.
STDIN = "-"

_WIDTH = 88

#: The variables that name a running router and the file of a token for it.
URL_VARIABLE, TOKEN_VARIABLE = f"{VARIABLE_PREFIX}URL", f"{VARIABLE_PREFIX}TOKEN_FILE"

#: An ops port, as an example.
OPS_URL = "http://127.0.0.1:8081"


@dataclass(frozen=True, slots=True)
class Help:
    """The text of `COMMAND --help` besides the options."""

    #: One paragraph: the command's effect, and the meaning of its words.
    about: str
    #: Whole command lines, one per line, with a comment where one helps.
    examples: str
    #: The meanings of exit codes, if the command has them; 2 is the same for every command.
    good: str
    bad: str = ""
    not_started: str = ""
    interrupted: str = ""
    #: VERB to its effect, if the command has verbs.
    verbs: Mapping[str, str] = field(default_factory=dict)

    def apply(self, parser: Parser) -> None:
        codes = {
            Exit.GOOD: self.good,
            Exit.BAD: self.bad,
            Exit.USAGE: "an option, an argument or a variable is wrong",
            Exit.NOT_STARTED: self.not_started,
            Exit.INTERRUPTED: self.interrupted,
        }
        parser.verbs = {verb: " ".join(does.split()) for verb, does in self.verbs.items()}
        about = [textwrap.fill(" ".join(self.about.split()), _WIDTH)]
        about += [
            textwrap.fill(f"  {verb:<9}{does}", _WIDTH, subsequent_indent=" " * 11)
            for verb, does in parser.verbs.items()
        ]
        parser.description = "\n".join(about)
        examples = [f"  {example.strip()}" for example in self.examples.strip().splitlines()]
        exits = [f"  {code:<3} {meaning}" for code, meaning in codes.items() if meaning]
        parser.epilog = "\n".join(["examples:", *examples, "", "exit codes:", *exits])


class Options(argparse._ActionsContainer):
    """The forms of options that commands have."""

    def option(
        self,
        name: str,
        metavar: str,
        about: str,
        parse: Callable[[str], Any] = str,
        *,
        many: bool = False,
        **more: Any,
    ) -> None:
        """Add an option with a value; `parse` raises ValueError. If `many`, it may be repeated."""
        if many:
            about, more = f"{about}; may be repeated", {**more, "action": "append"}
        self.add_argument(name, metavar=metavar, help=about, type=value(parse), **more)

    def switch(self, name: str, about: str) -> None:
        self.add_argument(name, action="store_true", help=about)

    def timeout(self, what: str, default: str = "10s") -> None:
        about = f"how long {what} may take (default {default})"
        self.option("--timeout", "TIME", about, parse_wait, default=default)

    def format(self, about: str = "of the result") -> None:
        self.add_argument("--format", choices=("text", "json"), default="text", help=about)

    def settings(self, *names: str, **own: str) -> None:
        """Add the options of these settings, or of all. `own` has the help of settings that mean
        something else to this command than to `serve`."""
        for name in (*names, *own) or SETTINGS:
            setting = SETTINGS[name]
            default = "none" if setting.default is None else setting.default
            switch: dict[str, Any] = {"nargs": "?", "const": "on"} if setting.is_switch else {}
            self.add_argument(
                setting.option,
                **switch,
                metavar=setting.metavar,
                help=f"{own.get(name, setting.about)} (default {default}; {setting.variable})",
            )

    def times(self) -> None:
        self.option("--since", "TIME", "3h ago, or 2026-11-26T13:00:00Z", parse_moment)
        self.option("--until", "TIME", "and before that", parse_moment)

    def archive(self) -> None:
        self.settings(archive="the router's archive")

    def ca(self) -> None:
        """Add `--ca`, whose value is a Tls."""
        about = "for an https URL: the only trusted CA certificates, in PEM (default the system's)"
        self.option("--ca", "FILE", about, parse_ca, default=USUAL)


class Group(Options, argparse._ArgumentGroup):
    """A part of the help with a title."""


class Parser(Options, argparse.ArgumentParser):
    """One command's arguments. Complains through SettingInvalid; never guesses an abbreviation."""

    verbs: Mapping[str, str] = {}
    #: The arguments that only some verbs have, by the name they are read under; the help of the
    #: others leaves them out, and there they are refused.
    only: Mapping[str, Sequence[str]] = {}
    #: Options that an earlier version had, and what replaces each.
    removed: Mapping[str, str] = {}

    def __init__(self, command: str) -> None:
        super().__init__(
            prog=f"{NAME} {command}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def group(self, title: str) -> Group:
        group = Group(self, title)
        self._action_groups.append(group)
        return group

    def store(self) -> None:
        self.removed = {gone: REMOVED_OPTIONS[gone] for gone in ("--store-password-file",)}
        self.settings(store="the store of a router that does not run")

    def remote(self) -> None:
        """Add the options that name a running router."""
        group = self.group("a running router")
        url = "the ops port of the router to ask, like http://router:8081 (default the one of this "
        url += f"machine; variable {URL_VARIABLE})"
        group.option("--url", "URL", url, lambda text: parse_url(text, OPS_URL))
        token = f"has the token for it (variable {TOKEN_VARIABLE})"
        group.option("--token-file", "FILE", token, parse_file)
        group.ca()

    def router(self) -> None:
        """Add the options of a command that asks a running router or works on a store, and its
        format."""
        self.store()
        self.settings("config")
        self.remote()
        self.format()

    def add_verb(self, only: Mapping[str, Sequence[str]]) -> None:
        """Add VERB, and the names of the arguments that only some verbs have."""
        self.only = only
        self.add_argument(
            "verb",
            nargs="?",
            choices=tuple(self.verbs),
            default="list",
            metavar="VERB",
            help=f"{', '.join(self.verbs)} (default list)",
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Read options and other arguments in any order."""
        if {"-h", "--help"}.intersection(arguments):
            self._reduce_help(next((word for word in arguments if word in self.verbs), ""))
        # Before the parser takes the value of a removed option for an argument.
        for word in (argument.partition("=")[0] for argument in arguments):
            if word in self.removed:
                self.error(f"{word} is not an option any more: {self.removed[word]}")
        args, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            word = unknown[0].partition("=")[0]
            options = (option for option in self._option_string_actions if len(option) > 2)
            self.error(f"{word!r} is not an option or argument{nearest_of(word, options)}")
        self._refuse_others(args)
        return args

    def _refuse_others(self, args: argparse.Namespace) -> None:
        """Raises SettingInvalid for an argument that the verb does not have."""
        for action in self._actions:
            verbs = self.only.get(action.dest)
            if verbs and args.verb not in verbs and getattr(args, action.dest) != action.default:
                raise SettingInvalid(f"{action.option_strings[0]} is for {', '.join(verbs)} only")

    def _reduce_help(self, verb: str) -> None:
        """Make the help one of this verb, if there is any."""
        if not verb:
            return
        program, self.prog = self.prog, f"{self.prog} {verb}"
        self.description = textwrap.fill(self.verbs[verb], _WIDTH)
        others = tuple(f"{program} {other}" for other in self.verbs if other != verb)
        lines = (self.epilog or "").splitlines()
        self.epilog = "\n".join(line for line in lines if not line.strip().startswith(others))
        for action in self._actions:
            if action.dest == "verb" or verb not in self.only.get(action.dest, (verb,)):
                action.help = argparse.SUPPRESS

    def error(self, message: str) -> NoReturn:
        problem = message.removeprefix("argument ")
        stop = "" if problem.endswith("?") else "."
        raise SettingInvalid(f"{problem}{stop} See {self.prog} --help")


def value(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn `parse`, which raises ValueError or RouterError, into an option's type for argparse."""

    def parse_option(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, RouterError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def matching(
    pattern: str, expected: str, convert: Callable[[str], Any] = str
) -> Callable[[str], Any]:
    """Return a parser for texts of a pattern. It raises ValueError with what is expected."""

    def parse(text: str) -> Any:
        if re.fullmatch(pattern, text, re.DOTALL) is None:
            raise ValueError(f"{text!r} is not {expected}")
        return convert(text)

    return parse


def parse_wait(text: str) -> float:
    """Return a duration in seconds, which is not zero."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"{text!r} is not long enough")
    return seconds


def read_settings(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return every setting, as `settings_from` does, and note variables that look mistyped."""
    _note_typos(environ)
    note_password(args, environ)
    return settings_from(environ, vars(args))


def read_setting(args: argparse.Namespace, name: str) -> Any:
    return SETTINGS[name].value(os.environ, vars(args))


def search_command(args: argparse.Namespace, store: Path | Database | None = None) -> list[str]:
    """Return the command of a search with the settings of this command line, but for `store`."""
    given = {setting.option: getattr(args, name, None) for name, setting in SETTINGS.items()}
    if isinstance(store, Path):
        given[SETTINGS["store"].option] = str(store)
    options = [f"{option}={text}" for option, text in given.items() if text is not None]
    return [sys.executable, "-m", "router", "serve", *options, "--as-search"]


def note_password(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Warn of a store's password in the command line, which everybody on the machine can read."""
    store = SETTINGS["store"].value(environ, vars(args))
    in_command_line = getattr(args, "store", None) is not None
    if in_command_line and isinstance(store, Database) and store.has_password:
        variable = SETTINGS["store"].variable
        note(
            "everybody on this machine can read the password in the command line; use "
            f"passfile=FILE in the URL, PGPASSWORD, or {variable}"
        )


def _note_typos(environ: Mapping[str, str]) -> None:
    settings = (setting.variable for setting in SETTINGS.values())
    known = {URL_VARIABLE, TOKEN_VARIABLE, *settings}
    for variable in sorted(environ):
        if variable.startswith(VARIABLE_PREFIX) and variable not in known:
            # The prefix is not a likeness.
            names = (name.removeprefix(VARIABLE_PREFIX) for name in known)
            near = nearest_of(variable.removeprefix(VARIABLE_PREFIX), names)
            if near:
                near = near.replace("mean ", f"mean {VARIABLE_PREFIX}")
                note(f"{variable} is not a setting and is ignored{near}")


def stdin() -> IO[bytes]:
    """Return the stream of standard input. Raises SettingInvalid if it is closed."""
    if sys.stdin is None:
        raise SettingInvalid("'-' can't be read: stdin is closed")
    return sys.stdin.buffer


def read_file(file: str, option: str = "") -> bytes:
    """Read a file, or standard input. Raises SettingInvalid, with the name of the option."""
    try:
        return stdin().read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        lead = f"{option}: " if option else ""
        raise SettingInvalid(f"{lead}{file!r} can't be read: {error.strerror}") from None


def said_yes(question: str) -> bool | None:
    """Ask at the terminal; None if there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def heed_ctrl_c() -> None:
    """Make Ctrl-C a KeyboardInterrupt, which also cancels tasks on a loop. A command that has
    something to finish calls this after its imports."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def nearest_of(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean …?` if a known word is near, otherwise nothing."""
    # Dashes are not a likeness.
    by_name = {name.lstrip("-"): name for name in known}
    near = get_close_matches(word.lstrip("-"), list(by_name), n=1, cutoff=0.7)
    return f", did you mean {by_name[near[0]]}?" if near else ""


def require_target(name: str, known: Collection[str], where: str) -> None:
    """Raises SettingInvalid for a target that `where` does not have."""
    if name not in known:
        raise SettingInvalid(f"--target: {where} has no target {name!r}{nearest_of(name, known)}")


def parse_url(text: str, like: str = "http://127.0.0.1:8080/callback") -> str:
    """Return an absolute http or https URL without credentials. Raises ValueError, with the
    example `like`."""
    try:
        url = urlsplit(text)
        host = (url.hostname or "").encode("idna")
        usable = url.scheme in ("http", "https") and host != b"" and url.port != 0
    except ValueError:
        usable = False
    if not (usable and text.isascii() and text.isprintable() and " " not in text):
        # The text is not repeated if a password may be in it.
        shown = "this" if "@" in text else repr(text)
        raise ValueError(f"{shown} is not a URL (like {like})")
    if "@" in url.netloc:
        raise ValueError("a URL with credentials can't be used")
    return text


def parse_ca(text: str) -> Tls:
    path = parse_file(text)
    try:
        ca = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{text!r} can't be read: {why_not(path, error)}") from None
    if not certificates_in(ca):
        raise ValueError(f"{text!r} has no certificate in PEM in it")
    try:
        return Tls.of(ca)
    except BadCertificate as error:
        raise ValueError(f"{text!r}: {error}") from None


class Moment(float):
    """A Unix time with its words on the command line."""

    words: str


def parse_moment(text: str) -> Moment:
    """Read `3h`, which is so long ago, or a time in ISO 8601, in UTC if it has no zone. Raises
    ValueError."""
    try:
        moment = Moment(parse_time(text, time.time()))
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time ago (like 90s, 3h, 2d) nor one like 2026-11-26T13:00:00Z"
        ) from None
    moment.words = text
    return moment


def check_times(args: argparse.Namespace) -> None:
    """Raises SettingInvalid if nothing can be between the two."""
    since, until = args.since, args.until
    if since is not None and until is not None and since >= until:
        raise SettingInvalid(f"--since {since.words} is not before --until {until.words}")
