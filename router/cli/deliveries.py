"""Deliveries: `deliveries`, `pause`, `resume`, and an operator's actions on many deliveries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from router.cli.options import Exit, Help, Options, Parser, heed_ctrl_c, nearest_of, said_yes
from router.cli.printing import (
    NAME,
    Progress,
    columns,
    counted,
    note,
    say,
    say_as,
    seconds,
    since,
    when,
)
from router.cli.remote import Remote, RemoteProblem, opened, part
from router.config.document import shown
from router.config.settings import parse_count
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.routing.index import Glob
from router.store.admin import (
    FILTERS,
    Filters,
    Later,
    Sort,
    Step,
    Verb,
    check_states,
    filter_texts,
)
from router.store.protocol import State
from router.store.views import EntryView, GroupView, PauseView

DELIVERIES = Help(
    about="""Shows what a router has not delivered yet, and acts on it; `trace` shows one event. It
    asks the router that runs on this machine, or the one at --url; if none runs, or with --store,
    it works on the store. A delivery is one event to one target: 'awaiting' EBaaS's retry, 'queued'
    for the router's own retry, or 'dead' after the last retry. 'acknowledged' and 'superseded' ones
    are kept for a while.""",
    verbs={
        "list": """Counts unsettled deliveries by target, state and reason, with the receiver's last
        answer, and shows the last actions. With a filter it lists the deliveries too, the newest
        first; with --state also settled ones. The age is the time since the event's first
        request.""",
        "replay": """Puts dead letters back into the queue; a running router sends them within its
        limits. Who did it and when is kept, as for the other actions.""",
        "retry": """Lets a running router send now what is 'awaiting' or 'queued', the oldest first.
        A failed attempt ends that for its target; the deliveries keep their schedules.""",
        "discard": "Settles deliveries without sending them: dead letters, or those of --state.",
        "restore": "Takes a discard back while the delivery is kept: it is a dead letter again.",
    },
    examples="""
        ebaas-router deliveries list --target ledger --state dead --reason timeout
        ebaas-router deliveries replay --target ledger --match 'a.gs.*' --dry-run
        ebaas-router deliveries discard --acknowledged-later only --match '*' --yes""",
    good="done, or there was nothing to do",
    bad="the answer was no, or it stopped half-way",
    not_started="the store or the router is missing or can't be used",
    interrupted="Ctrl-C ended it; what is done stays done",
)

#: How many deliveries are listed as text by default.
_LIMIT = 50

#: The most deliveries of one page.
_PAGE = 500

#: How many groups of deliveries are shown as text.
_GROUPS = 20

#: How many of the last actions are listed with the counts.
_LAST_ACTIONS = 5

#: The options that only some verbs have.
_ONLY = {
    "limit": ("list",),
    "sort": ("list",),
    **dict.fromkeys(("dry_run", "yes", "who"), tuple(Verb)),
}


def configure_deliveries(parser: Parser) -> None:
    parser.add_verb(_ONLY)
    which = parser.group("which deliveries")
    which.option("--target", "NAME", "of this target", many=True)
    states = "in this state (default the unsettled ones; to replay or discard: dead; to retry: "
    states += "awaiting and queued)"
    choices = [str(state) for state in State]
    which.option("--state", "STATE", states, many=True, choices=choices)
    reason = "whose last attempt ended with this reason (like timeout, code)"
    which.option("--reason", "REASON", reason, many=True)
    add_match(which)
    which.option("--event", "ID", "of this event", many=True)
    for name, what in (("older", "longer ago"), ("newer", "less long ago")):
        about = f"of events that came {what} than this (like 90s, 2h)"
        which.option(f"--{name}-than", "TIME", about, parse_duration)
    about = "deliveries whose body the target later acknowledged in another event "
    about += "(default exclude for replay, else include)"
    later = [str(choice) for choice in Later]
    which.add_argument("--acknowledged-later", choices=later, help=about)
    limit = f"list: how many (default {_LIMIT}, as JSON all)"
    which.option("--limit", "N", limit, parse_count)
    orders = [str(sort) for sort in Sort]
    which.option("--sort", "ORDER", "list: newest (default), oldest, or target", choices=orders)
    add_acting(parser.group("acting"))
    parser.router()


def run_deliveries(args: argparse.Namespace) -> int:
    filters = _filters(args)
    heed_ctrl_c()
    with opened(args) as router:
        require_targets(router, args.target or ())
        run = _list if args.verb == "list" else _act
        return run(router, filters, args)


def _filters(args: argparse.Namespace) -> Filters:
    """Return the filters of the options. Raises SettingInvalid if an action has no filter, or a
    state that the verb does not change."""
    filters = {name: getattr(args, name) for name in FILTERS}
    if args.verb in [*Verb]:
        try:
            check_states(Verb(args.verb), [*map(State, args.state or ())])
        except ValueError as error:
            raise SettingInvalid(f"--state: {error}") from None
        if all(given is None for given in filters.values()):
            raise SettingInvalid(f"{args.verb} which deliveries? Say it, or --match '*' for all")
    return filters


def _list(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """Print the groups; then the selected deliveries, or, without a selection, the pauses and the
    last actions."""
    is_listing = any(given is not None for given in filters.values())
    limit = args.limit or (sys.maxsize if args.format == "json" else _LIMIT)
    query = [*filter_texts(filters), *([("sort", args.sort)] if args.sort else [])]
    page = _page(router, query, limit if is_listing else 1)
    counts = page["counts"]
    say_as(args.format, [*counts, *page.get("groups", ())], _format_groups(page, router.now()))
    if not is_listing:
        _say_actions(router, args)
        return Exit.GOOD
    left = limit
    while rows := page["deliveries"]:
        say_as(args.format, rows, chain([""], _format_entries(rows, router.now())))
        left -= len(rows)
        if not left or page["next"] is None:
            break
        page = _page(router, query, left, page["next"])
    if (number := sum(count["deliveries"] for count in counts)) > limit and args.format == "text":
        say(f"{number - limit:,} more: --limit")
    return Exit.GOOD


def _say_actions(router: Remote, args: argparse.Namespace) -> None:
    """Print the pauses, and the last actions of people."""
    now = router.now()
    if pauses := router.get("/pauses")["pauses"]:
        say_as(args.format, pauses, ["", *(_format_pause(pause, now) for pause in pauses)])
    if actions := router.get("/deliveries/actions")["actions"][:_LAST_ACTIONS]:
        rows = [
            (
                action["at"],
                DONE[action["verb"]],
                counted(action["deliveries"], "delivery"),
                shown(action["who"]),
                action["what"],
            )
            for action in actions
        ]
        say_as(args.format, actions, ["", "last actions:", *columns(rows, indent=2)])


def _page(
    router: Remote, query: Sequence[tuple[str, str]], limit: int, after: str | None = None
) -> Any:
    more = [("limit", str(min(limit, _PAGE))), *([("after", after)] if after else [])]
    return router.get("/deliveries", [*query, *more])


def _act(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """Act on the selected deliveries."""
    path, verb = f"/deliveries/{args.verb}", Verb(args.verb)
    preview = router.post(path, {**_body(filters), "dry_run": True})
    action, counts, left_out = preview["action"], preview["counts"], preview["left_out"]
    work = Work(verb, sum(count["deliveries"] for count in counts), args)
    if args.format == "text" and work.number:
        say(*_format_groups(preview, router.now()))
    elif args.format == "text":
        default = _STATES.get(verb, ["dead"])
        states = default if verb is Verb.RESTORE else filters["state"] or default
        say(f"no {' or '.join(states)} delivery matches {action['what']}")
    if verb in (Verb.REPLAY, Verb.RETRY):
        note_removed(router, {count["target"] for count in counts})
    for name, why in preview.get("held", {}).items():
        note(_HELD.get(why, "{name}: {why}").format(name=name, why=why))
    if not work.do(_steps(router, path, preview["token"])):
        return Exit.BAD
    result = {**action, "left_out": left_out, "counts": counts}
    work.report(result, _left_alone(work, left_out), "for what is left")
    return Exit.BAD if work.trouble else Exit.GOOD


def _body(filters: Filters) -> dict[str, Any]:
    """Return the filters as JSON: a list for each that may be repeated."""
    body: dict[str, Any] = {}
    for name, text in filter_texts(filters):
        if isinstance(filters[name], list):
            body.setdefault(name, []).append(text)
        else:
            body[name] = text
    return body


def _steps(router: Remote, path: str, token: str) -> Iterator[Step]:
    """Act step by step. At the end, `left` counts deliveries that changed after the preview."""
    more = True
    while more:
        done = router.post(path, {"token": token})
        more = done["more"]
        yield Step(done["changed"] + (0 if more else done["left"]), done["changed"])


def _left_alone(work: Work, left_out: int) -> Iterator[str]:
    if work.verb is Verb.RETRY and work.changed:
        yield "the router sends them now, the oldest first, until one fails: see `status`"
    if left_out:
        yield f"{left_out:,} left out, whose body was acknowledged later in another event:"
        yield "  --acknowledged-later include takes them too"
    if changed_elsewhere := work.taken - work.changed:
        yield f"{changed_elsewhere:,} had changed meanwhile and stayed as they were"


# Deliveries and counts as text, made of their JSON.


def _format_pause(pause: PauseView, now: float) -> str:
    left, who = when(pause["until"], int(now)), shown(pause["who"])
    return (
        f"{pause['target']} is paused until {pause['until']} ({left}) by {who}: {pause['because']}"
    )


def _format_groups(answer: Mapping[str, Any], now: float) -> Iterator[str]:
    # A router of 0.3.0 has only counts.
    groups: Sequence[GroupView] = answer.get("groups") or answer["counts"]
    if not groups:
        return iter(["no deliveries"])
    header = ("target", "state", "reason", f"{'deliveries':>10}", "oldest", "newest", "it said")
    rows = [
        (
            group["target"],
            group["state"],
            group.get("reason", ""),
            f"{group['deliveries']:>10,}",
            since(group["oldest_at"], now),
            since(group["newest_at"], now) if "newest_at" in group else "",
            "; ".join(_facts(group)),
        )
        for group in groups[:_GROUPS]
    ]
    others = groups[_GROUPS:]
    number = counted(sum(group["deliveries"] for group in others), "delivery")
    more = [f"{number} in {counted(len(others), 'smaller group')}: --target shows them"]
    return chain(columns([header, *rows]), more if others else ())


def _facts(group: GroupView) -> Iterator[str]:
    if later := group["acknowledged_later"]:
        yield f"{later:,} acknowledged later"
    if "example" in group and (words := group["example"]["said"]):
        yield words


def _format_entries(entries: Iterable[EntryView], now: float) -> Iterator[str]:
    rows = [("age", "target", "state", "reason", "retries", "event", "key", "it said")]
    rows += [
        (
            since(entry["first_at"], now),
            entry["target"],
            entry["state"],
            entry["reason"],
            f"{entry['retries']:>7}",
            entry["event_id"],
            "; ".join([shown(entry["event_key"]), *notes_on(entry, now)]),
            entry.get("said", ""),
        )
        for entry in entries
    ]
    return columns(rows)


def when_retried(at: str, now: float, in_flight: bool | None) -> str:
    """Format the time of a retry. An attempt in flight ends before it, or its process has died."""
    if in_flight and seconds(at) > now:
        return f"attempt in flight, again {when(at, now)} if nothing is heard of it"
    return when(at, now)


def notes_on(entry: EntryView, now: float) -> Iterator[str]:
    later, by, action = entry["acknowledged_later_at"], entry["later_event"], entry["action"]
    if entry["due_at"] is not None:
        at = when_retried(entry["due_at"], now, entry.get("in_flight"))
        yield f"due {at}" if at.startswith(("in ", "now")) else at
    if later is not None:
        yield f"acknowledged later{f', as event {by}' if by else ''}, {later}"
    elif by:
        yield f"superseded by event {by}"
    if action is not None:
        yield f"{DONE[action['verb']]} by {shown(action['who'])}, {action['at']}"


# An action: the targets it names, the question, its steps and its report.

#: Up to so many deliveries are changed without a question.
_UNASKED = 10

DONE = {
    Verb.REPLAY: "replayed",
    Verb.DISCARD: "discarded",
    Verb.RESTORE: "restored",
    Verb.RETRY: "retried",
}

#: The states that a verb changes by default, if not dead letters.
_STATES = {Verb.RESTORE: ["discarded"], Verb.RETRY: ["awaiting", "queued"]}

_HELD = {
    "paused": "nothing is sent to {name} for now: it is paused",
    "breaker_open": "nothing is sent to {name} for now: its breaker is open",
    "failing": "{name} is failing now: the deliveries may fail again",
}


def add_match(parser: Options) -> None:
    about = "of events whose key matches, as in routes.yaml"
    parser.option("--match", "PATTERN", about, Glob, many=True)


def add_acting(parser: Options) -> None:
    """Add the options of an action on many deliveries."""
    parser.switch("--dry-run", "count only; change nothing")
    parser.switch("--yes", "don't ask, however many they are")
    add_who(parser)


def add_who(parser: Options) -> None:
    parser.add_argument("--as", dest="who", metavar="NAME", help="who acts (default you@this host)")


def require_targets(router: Remote, targets: Collection[str]) -> None:
    """Raises SettingInvalid for a target that neither routes.yaml nor the store nor the archive
    has."""
    named = router.targets() if targets else None
    missing = {*targets} - (named or set())
    known = (named or set()) | (_with_a_past(router) if missing else set())
    for name in sorted(missing - known):
        unread = f", and {router.routes} can't be read (--config)" if named is None else ""
        where = "the store or the archive" if unread else router.routes
        raise SettingInvalid(f"no target {name!r} in {where}{unread}{nearest_of(name, known)}")


def _with_a_past(router: Remote) -> set[str]:
    """Return the targets that the store has deliveries for, or the archive events."""
    known = set[str]()
    with suppress(RemoteProblem):
        query = [("limit", "1"), *(("state", str(state)) for state in State)]
        known |= {count["target"] for count in router.get("/deliveries", query)["counts"]}
    with suppress(RemoteProblem):
        known |= router.get("/archive")["targets"].keys()
    return known


def note_removed(router: Remote, targets: Collection[str]) -> None:
    """Note the targets that are not in routes.yaml any more, if it can be read."""
    named = router.targets()
    for name in sorted({*targets} - named) if named is not None else ():
        note(f"{router.routes} has no target {name!r}: nothing is sent to it")


@dataclass(slots=True)
class Work:
    """An action and its progress. Not frozen: the numbers grow."""

    verb: Verb
    #: The number of selected deliveries.
    number: int
    args: argparse.Namespace
    #: What the numbers count, and how many of them are changed without a question.
    noun: str = "delivery"
    unasked: int = _UNASKED
    taken: int = 0
    changed: int = 0
    #: The reason for a stop before the end; `""` if there was none.
    trouble: str = ""

    def __str__(self) -> str:
        return f"{counted(self.changed, self.noun)} {DONE[self.verb]}"

    def do(self, steps: Iterator[Step]) -> bool:
        """Carry out the steps, unless it is a dry run; false if the operator did not confirm it.
        After an interruption, the steps before it stay done."""
        if not self.number or self.args.dry_run:
            return True
        if not self._is_confirmed():
            return False
        progress = Progress(DONE[self.verb])
        try:
            for step in steps:
                self.taken += step.taken
                self.changed += step.changed
                progress(f"{self.changed:,} of {self.number:,}")
        except RemoteProblem as error:
            self.trouble = str(error)
        except KeyboardInterrupt:
            note(f"stopped: {self}, of {self.number:,}; a step in flight may have changed more")
            raise
        return True

    def _is_confirmed(self) -> bool:
        """Ask before many deliveries are changed. Raises SettingInvalid without a terminal."""
        if self.number <= self.unasked or self.args.yes:
            return True
        action = f"{self.verb} {counted(self.number, self.noun)}"
        is_yes = said_yes(f"{NAME}: {action}? [y/N] ")
        if is_yes is None:
            raise SettingInvalid(f"to {action} needs --yes; --dry-run only counts")
        if not is_yes:
            note("nothing was changed")
        return is_yes

    def report(self, action: Mapping[str, Any], lines: Iterable[str], again: str) -> None:
        """Print the result: `action` as JSON, the lines for people. After a stop, `again` gives the
        purpose of another run."""
        is_dry, number = self.args.dry_run, self.number
        result = {
            **action,
            "deliveries": self.changed,
            "dry_run": is_dry,
            "selected": number,
            "trouble": self.trouble or None,
        }
        would = f"{counted(number, self.noun)} would be {DONE[self.verb]}"
        say_as(self.args.format, [result], chain([would if is_dry else str(self)], lines))
        if self.trouble and self.args.format == "text":
            note(f"stopped: {self.trouble}; run it again {again}")


# `pause` and `resume`.

PAUSE = Help(
    about="""Keeps a pause in the store, which every process that shares it applies within a second:
    nothing is sent to the target until the pause ends, by itself or by `resume`. Optional
    deliveries wait in the queue and lose no retry; required ones fail at once with `paused`, so
    that EBaaS retries the event. Without TARGET it lists the pauses. A pause without an
    end is `paused: true` in routes.yaml. It asks the router that runs on this machine, or the
    one at --url; if none runs, or with --store, it writes into the store.""",
    examples="""
        ebaas-router pause ledger --until 10m --because 'a migration of their database'
        ebaas-router resume ledger
        ebaas-router pause ledger --until 1h --because 'a move' --url http://router:8081""",
    good="it is paused, or the pauses are listed",
    not_started="the store or the router is not there, or can't be used",
)


def configure_pause(parser: Parser) -> None:
    _add_target(parser, nargs="?")
    until = "when it is over: a time from now (like 10m, 2h, 3d) or one like "
    until += "2026-11-26T13:00:00Z; at most 30 days away"
    parser.option("--until", "TIME", until)
    parser.option("--because", "TEXT", "why, for all who see it")


def _add_target(parser: Parser, **options: Any) -> None:
    parser.add_argument("target", metavar="TARGET", help="its name in routes.yaml", **options)
    add_who(parser)
    parser.router()


def run_pause(args: argparse.Namespace) -> int:
    if args.target is None:
        if args.until is not None or args.because is not None:
            raise SettingInvalid("which target? pause TARGET --until TIME --because TEXT")
        with opened(args) as router:
            pauses, now = router.get("/pauses")["pauses"], router.now()
        texts = [_format_pause(pause, now) for pause in pauses]
        say_as(args.format, pauses, texts or ["no pauses"])
        return Exit.GOOD
    if args.until is None or args.because is None:
        raise SettingInvalid("until when, and why? --until TIME --because TEXT")
    with opened(args) as router:
        require_targets(router, [args.target])
        note_removed(router, [args.target])
        body = {"until": args.until, "because": args.because}
        pause = router.post(f"/targets/{part(args.target)}/pause", body)["pause"]
    say_as(args.format, [pause], [_format_pause(pause, seconds(pause["since"]))])
    return Exit.GOOD


RESUME = Help(
    about="""Ends what `pause` began: every process that shares the store goes on with the target
    within a second, few attempts at a time. What has `paused: true` in routes.yaml stays
    paused. It asks the same router, or store, as `pause`.""",
    examples="""
        ebaas-router resume ledger
        ebaas-router resume ledger --store postgresql://router@db.example/ebaas --as night-shift""",
    good="its pause is over",
    bad="it is not paused",
    not_started="the store or the router is not there, or can't be used",
)


def configure_resume(parser: Parser) -> None:
    _add_target(parser)


def run_resume(args: argparse.Namespace) -> int:
    with opened(args) as router:
        ended = router.post(f"/targets/{part(args.target)}/resume", {})["pause"]
        if ended is None:
            require_targets(router, [args.target])
            note(f"{args.target} is not paused")
            return Exit.BAD
    paused = f"paused by {shown(ended['who'])}: {ended['because']}"
    say_as(args.format, [ended], [f"{ended['target']} resumed; it was {paused}"])
    return Exit.GOOD
