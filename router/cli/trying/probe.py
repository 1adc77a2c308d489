"""`probe`: checks whether an endpoint keeps the contract, by sending it events."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from router.cli.columns import width
from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    add_format,
    add_settings,
    add_timeout,
    heed_ctrl_c,
    nearest_of,
    parse_url,
    read_setting,
    require_target,
    said_yes,
    value,
)
from router.cli.printing import NAME, note, say, say_as
from router.cli.remote import add_ca, trust
from router.cli.trying.request import add_header, parse_header, read_headers, read_secrets
from router.config.loading import load
from router.config.schema import is_own
from router.config.settings import parse_count
from router.contract.schedule import PLATFORM, Schedule
from router.model.errors import SettingInvalid
from router.model.secret import Secret
from router.routing.target import Target

if TYPE_CHECKING:
    from router.cli.trying.checks import Breach, Check, Client

HELP = Help(
    about="""Sends an endpoint what the router may send it, and what it must refuse, and prints a
    line for each check; for a breach also its effect and its fix. These are real POSTs: the
    endpoint may process each event that it acknowledges. So the command asks before it sends; --yes
    is for scripts. The ids in `changes` begin with probe-. With --target everything but the checks
    comes from routes.yaml.""",
    examples=(
        "ebaas-router probe http://127.0.0.1:9002/callback",
        "ebaas-router probe https://ledger.internal/callback --secret '${LEDGER_SECRET}'",
        "ebaas-router probe --target ledger --config config/routes.yaml",
        "ebaas-router probe http://127.0.0.1:9002/callback --only answers --only timing",
        "ebaas-router probe http://127.0.0.1:9002/callback --yes --format json",
    ),
    exit_codes={
        GOOD: "no breach",
        BAD: "a breach, or the answer no to the question",
        NOT_STARTED: "could not start: routes.yaml is not valid or can't be read",
        INTERRUPTED: "Ctrl-C ended it",
    },
)

#: The key of the platform page's sample.
_KEY = "a.gs.cert.1"

#: The options that routes.yaml replaces, with their defaults.
_OF_A_URL: Mapping[str, Any] = {
    "header": [], "ca": None, "timeout": 5.0, "acknowledge": "code", "secret": [],
}  # fmt: skip


def parse_key(text: str) -> str:
    four = text.split(".")
    if len(four) != 4 or not all(four) or not text.isprintable():
        raise ValueError(f"{text!r} is not a key (like {_KEY})")
    return text


def parse_target_header(text: str) -> tuple[str, str]:
    """A header that a target may have in routes.yaml."""
    name, content = parse_header(text)
    if is_own(name):
        raise ValueError(f"{name} is set by the router alone")
    return name, content


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", metavar="URL", help="the endpoint to check")
    parser.add_argument("--target", metavar="NAME", help="a target of routes.yaml instead of URL")
    add_settings(parser, "config", "secrets_dir")
    _add_of_url(parser.add_argument_group("with URL"))
    _add_checks(parser.add_argument_group("the checks"))
    parser.add_argument("--yes", action="store_true", help="send without asking")
    parser.add_argument(
        "--lang", choices=("en", "zh"), help="the language of text (default that of the locale)"
    )
    add_format(parser, about="of the results; json is a line for each check (default text)")


def _add_of_url(group: argparse._ArgumentGroup) -> None:
    about = "sign with it; may be ${NAME} or ${file:NAME}, as in routes.yaml; may be repeated"
    group.add_argument("--secret", action="append", metavar="SECRET", default=[], help=about)
    add_header(group, parse_target_header)
    add_timeout(group, "one answer", "5s")
    group.add_argument(
        "--acknowledge",
        choices=("code", "status"),
        default="code",
        help="what acknowledges: a 2xx with code 000, or any 2xx (default code)",
    )
    add_ca(group)


def _add_checks(group: argparse._ArgumentGroup) -> None:
    for name, about in (("only", "make only this check"), ("skip", "leave this check out")):
        about += "; may be repeated"
        group.add_argument(f"--{name}", action="append", default=[], metavar="CHECK", help=about)
    group.add_argument(
        "--key",
        type=value(parse_key),
        default=_KEY,
        help=f"of the events: four fields joined by dots (default {_KEY})",
    )
    for name, about in (("requests", "time so many"), ("at-once", "send so many at once")):
        about += " (default 20)"
        group.add_argument(
            f"--{name}", type=value(parse_count), default=20, metavar="N", help=about
        )


def run(args: argparse.Namespace) -> int:
    from router.cli.trying.checks import Client, Samples, checks

    target, again, schedule = _target_of(args)
    samples = Samples(args.key)
    chosen = _chosen(checks(samples, args.requests, args.at_once), args)
    heed_ctrl_c()
    if not _confirm(target, chosen, args):
        return BAD
    language = "en" if args.format == "json" else _language(args)
    report = _Report(again, schedule, args.format, language)
    try:
        asyncio.run(_run(chosen, partial(Client, target, samples, language), report))
    except KeyboardInterrupt:
        return INTERRUPTED
    report.end()
    return BAD if report.counts["breach"] else GOOD


def _language(args: argparse.Namespace) -> str:
    """The language of `--lang`, otherwise that of the locale."""
    variables = map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, variables), "")
    return str(args.lang or ("zh" if locale.startswith("zh") else "en"))


def _target_of(args: argparse.Namespace) -> tuple[Target, str, Schedule]:
    """The target to check, and who sends it an event again that it has not acknowledged.

    Raises SettingInvalid for wrong arguments, and ConfigInvalid for a wrong routes.yaml."""
    if (args.url is None) == (args.target is None):
        raise SettingInvalid("URL or --target NAME has to be given, and not both")
    if args.target is None:
        return _by_url(args), "again", PLATFORM
    for name, absent in _OF_A_URL.items():
        if getattr(args, name) != absent:
            raise SettingInvalid(f"--{name}: can't be given with --target: routes.yaml has it")
    config = load(read_setting(args, "config"), os.environ, read_setting(args, "secrets_dir"))
    require_target(args.target, config.table.targets, "routes.yaml")
    target = config.table.targets[args.target]
    if config.table.role_of(target.name) == "required":
        return target, "ebaas", config.ebaas.schedule
    return target, "queue", target.queue or config.queue


def _by_url(args: argparse.Namespace) -> Target:
    try:
        url = parse_url(args.url)
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    headers = read_headers(args).items()
    return Target(
        NAME,
        url,
        timeout=args.timeout,
        acknowledge=args.acknowledge,
        headers=tuple((name.decode(), Secret(text.decode("latin-1"))) for name, text in headers),
        secret=read_secrets("--secret", args.secret, read_setting(args, "secrets_dir")),
        tls=trust(args),
        public_url=url,
    )


def _chosen(every: Sequence[Check], args: argparse.Namespace) -> Sequence[Check]:
    names = [check.name for check in every]
    for option in ("only", "skip"):
        for name in getattr(args, option):
            if name not in names:
                known = nearest_of(name, names) or f"; there are {', '.join(names)}"
                raise SettingInvalid(f"--{option}: {name!r} is not a check{known}")
    only = args.only or names
    chosen = [check for check in every if check.name in only and check.name not in args.skip]
    if not chosen:
        raise SettingInvalid("--skip leaves no check")
    return chosen


def _confirm(target: Target, chosen: Sequence[Check], args: argparse.Namespace) -> bool:
    """Say what will be sent, and ask. Raises SettingInvalid if there is no terminal to ask at."""
    from router.cli.trying.checks import WORDS, in_language

    words = partial(in_language, _language(args))
    requests = sum(check.requests for check in chosen)
    numbers = {"checks": len(chosen), "requests": requests}
    note(words(WORDS["plan"], url=target.public_url, key=args.key, **numbers))
    answer = args.yes or said_yes(words(WORDS["question"]))
    if answer is None:
        raise SettingInvalid(words(WORDS["no terminal"]))
    if not answer:
        note(words(WORDS["not sent"]))
    return bool(answer)


async def _run(chosen: Sequence[Check], new_client: Callable[[], Client], report: _Report) -> None:
    """Make each check with a client of its own. If a basic one finds that no event would be
    acknowledged, the others are skipped."""
    from router.cli.trying.checks import Breach, Skipped

    for number, check in enumerate(chosen, 1):
        started, breach = time.perf_counter(), None
        async with contextlib.aclosing(new_client()) as client:
            try:
                grade, text = "good", await check.run(client)
            except Skipped as error:
                grade, text = "skipped", str(error)
            except Breach as error:
                grade, text, breach = "breach", str(error), error
        report.add(check.name, grade, text, time.perf_counter() - started, breach)
        if breach and breach.reason and check.is_basic:
            report.counts["skipped"] += len(chosen) - number
            return


class _Report:
    """Prints a line for each check as soon as it is made."""

    def __init__(self, again: str, schedule: Schedule, format: str, language: str) -> None:
        from router.cli.trying.checks import WORDS, in_language

        self._words = {key: partial(in_language, language, text) for key, text in WORDS.items()}
        self._again = again
        self._schedule = schedule
        self._format = format
        self.counts: Counter[str] = Counter()

    def add(
        self, check: str, grade: str, text: str, seconds: float, breach: Breach | None = None
    ) -> None:
        self.counts[grade] += 1
        effect, fix = self._effect(breach), breach.fix if breach else None
        result: dict[str, Any] = {"check": check, "grade": grade, "said": text}
        result |= {"reason": breach.reason if breach else None, "router": effect, "mend": fix}
        lines = [_padded(self._words[grade](), 8) + _padded(check, 17) + text]
        for key, more in (("effect", effect), ("fix", fix)):
            if more:
                lines.append(" " * 8 + _padded(f"  {self._words[key]()}", 17) + more)
        say_as(self._format, [{**result, "seconds": round(seconds, 3)}], lines)

    def end(self) -> None:
        if self._format == "text":
            numbers = {grade: self.counts[grade] for grade in ("good", "breach", "skipped")}
            say(self._words["total"](checks=self.counts.total(), **numbers))

    def _effect(self, breach: Breach | None) -> str | None:
        """The reason of the router's attempt, and who sends the event again."""
        if breach is None or breach.reason is None:
            return None
        retries, hours = self._schedule.retries, f"{self._schedule.total() / 3600:.1f}"
        again = self._words[self._again](retries=retries, hours=hours)
        return self._words["reason"](reason=breach.reason, again=again)


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))
