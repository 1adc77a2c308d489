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

from router.cli.options import (
    Exit,
    Help,
    Parser,
    heed_ctrl_c,
    nearest_of,
    parse_url,
    read_setting,
    require_target,
    said_yes,
    value,
)
from router.cli.printing import NAME, note, padded, say, say_as
from router.cli.send import (
    SAMPLE_KEY,
    add_header,
    parse_header,
    parse_key,
    read_headers,
    read_secrets,
)
from router.config.loading import load
from router.config.schema import is_own
from router.contract.schedule import PLATFORM, Schedule
from router.model.errors import SettingInvalid
from router.model.secret import Secret
from router.net.tls import USUAL
from router.routing.target import Target

if TYPE_CHECKING:
    from router.cli.probe_checks import Breach, Check, Client, Words

PROBE = Help(
    about="""Sends an endpoint events as the router may send them, and requests that it must refuse,
    and prints a line for each check; for a breach also its effect and its fix. These are real
    POSTs: the endpoint may process each event that it acknowledges. So the command asks before it
    sends; --yes is for scripts. The ids in `changes` begin with probe-. With --target everything
    but the checks comes from routes.yaml.""",
    examples="""
        ebaas-router probe http://127.0.0.1:9002/callback
        ebaas-router probe https://ledger.internal/callback --secret '${LEDGER_SECRET}'
        ebaas-router probe --target ledger --config config/routes.yaml""",
    good="no breach",
    bad="a breach, or the answer no to the question",
    not_started="could not start: routes.yaml is not valid or can't be read",
    interrupted="Ctrl-C ended it",
)

LANGUAGES = ("en", "zh")

#: The options that routes.yaml replaces, with their defaults.
_OF_A_URL: Mapping[str, Any] = {
    "header": [],
    "ca": USUAL,
    "timeout": 5.0,
    "acknowledge": "code",
    "secret": [],
}


def parse_target_header(text: str) -> tuple[str, str]:
    """Parse a header that a target may have in routes.yaml."""
    name, content = parse_header(text)
    if is_own(name):
        raise ValueError(f"{name} is set by the router alone")
    return name, content


def configure_probe(parser: Parser) -> None:
    url = value(parse_url)
    parser.add_argument("url", nargs="?", type=url, metavar="URL", help="the endpoint to check")
    parser.option("--target", "NAME", "a target of routes.yaml instead of URL")
    parser.settings("config", "secrets_dir")
    by_url = parser.group("with URL")
    about = "sign with it; may be ${NAME} or ${file:NAME}, as in routes.yaml"
    by_url.option("--secret", "SECRET", about, many=True, default=[])
    add_header(by_url, parse_target_header)
    by_url.timeout("one answer", "5s")
    by_url.add_argument(
        "--acknowledge",
        choices=("code", "status"),
        default="code",
        help="what acknowledges: a 2xx with code 000, or any 2xx (default code)",
    )
    by_url.ca()
    group = parser.group("the checks")
    group.option("--only", "CHECK", "make only this check", many=True, default=[])
    key = f"of the events: four fields joined by dots (default {SAMPLE_KEY})"
    group.option("--key", "KEY", key, parse_key, default=SAMPLE_KEY)
    parser.switch("--yes", "send without asking")
    parser.add_argument(
        "--lang", choices=LANGUAGES, help="the language of text (default that of the locale)"
    )
    parser.format(about="of the results; json is a line for each check (default text)")


def run_probe(args: argparse.Namespace) -> int:
    from router.cli.probe_checks import Client, Samples, Words, checks

    target, again, schedule = _target_of(args)
    samples = Samples(args.key)
    chosen = _chosen(checks(samples), args)
    heed_ctrl_c()
    variables = map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, variables), "")
    language = args.lang or ("zh" if locale.startswith("zh") else "en")
    if not _confirm(target, chosen, args, Words(language)):
        return Exit.BAD
    words = Words("en" if args.format == "json" else language)
    report = _Report(words, again, schedule, args.format)
    try:
        asyncio.run(_run(chosen, partial(Client, target, samples, words), report))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    if args.format == "text":
        numbers = {grade: report.counts[grade] for grade in ("good", "breach", "skipped")}
        say(words("total", checks=report.counts.total(), **numbers))
    return Exit.BAD if report.counts["breach"] else Exit.GOOD


def _target_of(args: argparse.Namespace) -> tuple[Target, str, Schedule]:
    """Return the target to check, and who retries its events by which schedule. Raises
    SettingInvalid for wrong arguments, and ConfigInvalid for a wrong routes.yaml."""
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
    headers = read_headers(args).items()
    return Target(
        NAME,
        args.url,
        timeout=args.timeout,
        acknowledge=args.acknowledge,
        headers=tuple((name.decode(), Secret(text.decode("latin-1"))) for name, text in headers),
        secret=read_secrets("--secret", args.secret, read_setting(args, "secrets_dir")),
        tls=args.ca,
        public_url=args.url,
    )


def _chosen(every: Sequence[Check], args: argparse.Namespace) -> Sequence[Check]:
    names = [check.name for check in every]
    for name in args.only:
        if name not in names:
            known = nearest_of(name, names) or f"; there are {', '.join(names)}"
            raise SettingInvalid(f"--only: {name!r} is not a check{known}")
    return [check for check in every if check.name in (args.only or names)]


def _confirm(
    target: Target, chosen: Sequence[Check], args: argparse.Namespace, words: Words
) -> bool:
    """Note what will be sent, and ask. Raises SettingInvalid without a terminal."""
    requests = sum(check.requests for check in chosen)
    numbers = {"checks": len(chosen), "requests": requests}
    note(words("plan", url=target.public_url, key=args.key, **numbers))
    answer = args.yes or said_yes(words("question"))
    if answer is None:
        raise SettingInvalid(words("no terminal"))
    if not answer:
        note(words("not sent"))
    return bool(answer)


async def _run(chosen: Sequence[Check], new_client: Callable[[], Client], report: _Report) -> None:
    """Make each check with a client of its own. If a basic one finds that no event would be
    acknowledged, the others are skipped."""
    from router.cli.probe_checks import Breach, Skipped

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

    def __init__(self, words: Words, again: str, schedule: Schedule, format: str) -> None:
        self._words = words
        retries, hours = schedule.retries, f"{schedule.total() / 3600:.1f}"
        self._again = words(again, retries=retries, hours=hours)
        self._format = format
        self.counts: Counter[str] = Counter()

    def add(self, check: str, grade: str, text: str, seconds: float, breach: Breach | None) -> None:
        self.counts[grade] += 1
        effect = reason = fix = None
        if breach is not None:
            reason, fix = breach.reason, breach.fix
        if reason is not None:
            effect = self._words("reason", reason=reason, again=self._again)
        result: dict[str, Any] = {"check": check, "grade": grade, "said": text, "reason": reason}
        result |= {"router": effect, "mend": fix, "seconds": round(seconds, 3)}
        lines = [padded(self._words(grade), 8) + padded(check, 17) + text]
        for key, more in (("effect", effect), ("fix", fix)):
            if more:
                lines.append(" " * 8 + padded(f"  {self._words(key)}", 17) + more)
        say_as(self._format, [result], lines)
