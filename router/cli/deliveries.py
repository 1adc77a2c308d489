"""`deliveries`: lists, shows, replays, discards and restores what is not settled."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

from router.cli import entries
from router.cli.acting import (
    Work,
    add_acting,
    add_match,
    confirmed,
    note_removed,
    report,
    require_targets,
)
from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    Parser,
    add_option,
    heed_ctrl_c,
)
from router.cli.printing import note, say, say_as, say_json, say_lines
from router.cli.remote import Remote, RemoteProblem, add_router, opened, part
from router.config.settings import parse_count
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.store.admin import FILTERS, Filters, Later, Step, Verb, check_states, filter_texts
from router.store.protocol import State

HELP = Help(
    about="""Shows what a router has not delivered yet, and acts on it. It asks the router that runs
    on this machine, or the one at --url; if none runs, or with --store, it works on the store. A
    delivery is one event to one target: 'awaiting' EBaaS's retry, 'queued' for the router's own
    retry, or 'dead' after the last retry. 'acknowledged' and 'superseded' ones are kept for a
    while.""",
    verbs={
        "list": """Counts unsettled deliveries by target and state, with the last actions. With a
        filter it lists them too, the oldest first; with --state also settled ones. The age is the
        time since the event's first request.""",
        "show": """Shows one event that the store has, as `trace` does: each attempt, the state of
        each delivery, what a person did with it, and what comes next.""",
        "replay": """Puts dead letters back into the queue; a running router sends them within its
        limits. Who did it and when is kept, as for the other actions.""",
        "discard": "Settles deliveries without sending them: dead letters, or those of --state.",
        "restore": "Takes a discard back while the delivery is kept: it is a dead letter again.",
    },
    examples=(
        "ebaas-router deliveries list --target ledger --state dead --older-than 1h",
        "ebaas-router deliveries show 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router deliveries replay --target ledger --match 'a.gs.*' --dry-run",
        "ebaas-router deliveries discard --acknowledged-later only --match '*' --yes",
        "ebaas-router deliveries list --url http://router:8081 --token-file ops-token",
    ),
    exit_codes={
        GOOD: "done, or there was nothing to do",
        BAD: "no such event, the answer was no, or it stopped half-way",
        NOT_STARTED: "the store or the router is missing or can't be used",
        INTERRUPTED: "Ctrl-C ended it; what is done stays done",
    },
)

#: How many deliveries are listed as text by default.
_LIMIT = 50

#: The most deliveries of one page.
_PAGE = 500

#: How many of the last actions are listed with the counts.
_LAST_ACTIONS = 5

#: The options that only some verbs have; those that select are for all but `show`.
_ONLY = {
    "event_id": ("show",),
    "body": ("show",),
    "limit": ("list",),
    **dict.fromkeys(("dry_run", "yes", "who"), tuple(Verb)),
    **dict.fromkeys(FILTERS, ("list", *Verb)),
}


def configure(parser: Parser) -> None:
    parser.add_verb(_ONLY)
    parser.add_argument("event_id", nargs="?", metavar="EVENT_ID", help="show: which event")
    _add_selection(parser.add_argument_group("which deliveries"))
    add_acting(parser.add_argument_group("acting"))
    showing = parser.add_argument_group("showing")
    limit = f"list: how many (default {_LIMIT}, as JSON all)"
    add_option(showing, "--limit", "N", limit, parse_count)
    showing.add_argument("--body", action="store_true", help="show: the event's body too")
    add_router(parser)


def _add_selection(parser: argparse._ArgumentGroup) -> None:
    add_option(parser, "--target", "NAME", "of this target", many=True)
    states = "in this state (default the unsettled ones; to replay or discard: dead)"
    choices = [str(state) for state in State]
    add_option(parser, "--state", "STATE", states, many=True, choices=choices)
    add_match(parser)
    add_option(parser, "--event", "ID", "of this event", many=True)
    for name, what in (("older", "longer ago"), ("newer", "less long ago")):
        about = f"of events that came {what} than this (like 90s, 2h)"
        add_option(parser, f"--{name}-than", "TIME", about, parse_duration)
    parser.add_argument(
        "--acknowledged-later",
        choices=[str(choice) for choice in Later],
        help="those whose body the target has acknowledged since then, as another event's "
        "(default exclude for replay, else include)",
    )


def run(args: argparse.Namespace) -> int:
    filters = _filters(args)
    heed_ctrl_c()
    with opened(args, needs="either" if args.verb == "show" else "store") as router:
        require_targets(router, args.target or ())
        if args.verb == "list":
            return _list(router, filters, args)
        if args.verb == "show":
            return _show(router, args)
        return _act(router, filters, args)


def _filters(args: argparse.Namespace) -> Filters:
    """Raises SettingInvalid for arguments that don't say which deliveries are meant, or name a
    state that the verb is not for."""
    filters = {name: getattr(args, name) for name in FILTERS}
    if args.verb == "show" and args.event_id is None:
        raise SettingInvalid("which event? Its id is missing: show EVENT_ID")
    if args.verb in [*Verb]:
        try:
            check_states(Verb(args.verb), [*map(State, args.state or ())])
        except ValueError as error:
            raise SettingInvalid(f"--state: {error}") from None
        if not _selects(filters):
            raise SettingInvalid(f"{args.verb} which deliveries? Say it, or --match '*' for all")
    return filters


def _selects(filters: Filters) -> bool:
    return any(given is not None for given in filters.values())


def _list(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """Print the counts; then the deliveries that were selected, or, without a selection, the
    pauses and the last actions."""
    is_listing = _selects(filters)
    limit = args.limit or (sys.maxsize if args.format == "json" else _LIMIT)
    page = _page(router, filters, limit if is_listing else 1)
    counts = page["counts"]
    actions = [] if is_listing else router.get("/deliveries/actions")["actions"][:_LAST_ACTIONS]
    pauses = [] if is_listing else router.get("/pauses")["pauses"]
    overview = entries.overview(counts, actions, router.now(), pauses)
    say_as(args.format, [*counts, *pauses, *actions], overview)
    if not is_listing:
        return GOOD
    left = limit
    while rows := page["deliveries"]:
        say_as(args.format, rows, chain([""], entries.format_entries(rows, router.now())))
        left -= len(rows)
        if not left or page["next"] is None:
            break
        page = _page(router, filters, left, page["next"])
    if (number := entries.total(counts)) > limit and args.format == "text":
        say(f"{number - limit:,} more: --limit")
    return GOOD


def _page(router: Remote, filters: Filters, limit: int, after: str | None = None) -> Any:
    query = [*filter_texts(filters), ("limit", str(min(limit, _PAGE)))]
    return router.get("/deliveries", [*query, *([("after", after)] if after else [])])


def _show(router: Remote, args: argparse.Namespace) -> int:
    from router.cli.stories import format_story

    event, query = part(args.event_id), [("body", "true")] if args.body else []
    try:
        dossier = router.get(f"/deliveries/{event}", query)
    except RemoteProblem as error:
        if error.status != 404:
            raise
        note(
            f"no such event in the store: {args.event_id!r}; an event that every target has "
            "acknowledged is only in the archive: `trace` finds it, also by other ids"
        )
        return BAD
    if args.format == "json":
        say_json(dossier)
        return GOOD
    say_lines(format_story(router.get(f"/events/{event}"), router.now()))
    if args.body:
        say_lines(["", dossier["body"]])
    return GOOD


def _act(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """Replay, discard or restore the deliveries that are selected."""
    path, verb = f"/deliveries/{args.verb}", Verb(args.verb)
    preview = router.post(path, {**_body(filters), "dry_run": True})
    action, counts, left_out = preview["action"], preview["counts"], preview["left_out"]
    work = Work(verb, entries.total(counts))
    if args.format == "text":
        states = ["discarded"] if verb is Verb.RESTORE else filters["state"] or ["dead"]
        none = [f"no {' or '.join(states)} delivery matches {action['what']}"]
        say_lines(entries.format_counts(counts, router.now()) if work.number else none)
    if verb is Verb.REPLAY:
        note_removed(router, {count["target"] for count in counts})
    if work.number and not args.dry_run:
        if not confirmed(work, args):
            return BAD
        work.do(_steps(router, path, preview["token"]))
    result = {**action, "left_out": left_out, "counts": counts}
    report(work, args, result, _left_alone(work, left_out), "for what is left")
    return BAD if work.trouble else GOOD


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
    """At the end, `left` are the deliveries that have changed since the preview."""
    more = True
    while more:
        done = router.post(path, {"token": token})
        more = done["more"]
        yield Step(done["changed"] + (0 if more else done["left"]), done["changed"])


def _left_alone(work: Work, left_out: int) -> Iterator[str]:
    if left_out:
        yield f"{left_out:,} acknowledged later, as another event's, and left out:"
        yield "  --acknowledged-later include takes them too"
    if changed_elsewhere := work.taken - work.changed:
        yield f"{changed_elsewhere:,} had changed meanwhile and stayed as they were"
