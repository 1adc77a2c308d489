"""`deliveries`: what is not settled is found, shown and acted on, beside the router."""

from __future__ import annotations

import argparse
import sys
from itertools import chain

from router.cli.deliveries import entries
from router.cli.deliveries.acting import act, add_acting
from router.cli.deliveries.selecting import add_selection, mind_targets, read_filters, selects
from router.cli.deliveries.source import Deliveries, opened
from router.cli.deliveries.store import add_store
from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    Parser,
    add_format,
    add_settings,
    heed_ctrl_c,
    value,
)
from router.cli.printing import note, say, say_as, say_json, say_lines
from router.cli.remote import add_remote
from router.config.settings import parse_count
from router.model.errors import SettingInvalid
from router.store.filters import FILTERS, Filters
from router.store.ops import Verb

HELP = Help(
    about="""Looks into the store of a router, running or not, and acts on it; with --url it asks
    a running router. A delivery is one
    event to one target: 'awaiting' EBaaS's retry, 'queued' for the router's own, 'dead' once the
    retries have run out; then 'acknowledged' or 'superseded', which is shown for a while.""",
    verbs={
        "list": """Counts the deliveries that are not settled, by target and state, with what people
        did last. With any filter it lists them as well, the oldest recorded first; an age is
        counted from the event's first request. With --state it shows settled ones too.""",
        "show": """Tells all about one event: where it stands with EBaaS, each delivery, its reason,
        and what a person did with it.""",
        "replay": """Puts dead letters back into the queue, which a running router sends within its
        limits. Who did it and when is kept.""",
        "discard": """Settles what is not to be delivered, dead letters unless told otherwise. Who
        did it and when is kept.""",
        "restore": """Takes a discard back, for as long as the delivery is shown: it is a dead
        letter again. Who did it and when is kept.""",
    },
    examples=(
        "ebaas-router deliveries list",
        "ebaas-router deliveries list --target ledger --state dead --older-than 1h",
        "ebaas-router deliveries show 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router deliveries replay --target ledger --match 'a.gs.*' --dry-run",
        "ebaas-router deliveries restore --event 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11",
        "ebaas-router deliveries discard --acknowledged-later only --match '*' --yes",
        "ebaas-router deliveries list --url http://router:8081 --token-file ops-token",
    ),
    exit_codes={
        GOOD: "done, or there was nothing to do",
        BAD: "no such event, a no to the question, or stopped half-way",
        NOT_STARTED: "the store or the router is not there, or can't be used",
        INTERRUPTED: "Ctrl-C ended it; what is done stays done",
    },
)

#: How many deliveries are listed as text unless told otherwise.
_LIMIT = 50

#: How many of the last actions are told with the counts.
_LAST_ACTIONS = 5

#: The options that only some verbs have; what selects is for all but `show`.
_ONLY = {
    "event_id": ("show",),
    "body": ("show",),
    "limit": ("list",),
    **dict.fromkeys(("dry_run", "yes", "who"), tuple(Verb)),
    **dict.fromkeys(FILTERS, ("list", *Verb)),
}


def configure(parser: Parser) -> None:
    parser.only, parser.instead = _ONLY, {"event_id": "see --event"}
    parser.add_argument(
        "verb",
        nargs="?",
        choices=tuple(parser.verbs),
        default="list",
        metavar="VERB",
        help=f"{', '.join(parser.verbs)} (default list)",
    )
    parser.add_argument("event_id", nargs="?", metavar="EVENT_ID", help="show: which event")
    add_selection(parser.add_argument_group("which deliveries"))
    add_acting(parser.add_argument_group("acting"))
    showing = parser.add_argument_group("showing")
    showing.add_argument(
        "--limit",
        type=value(parse_count),
        metavar="N",
        help=f"list: how many (default {_LIMIT}, as JSON all)",
    )
    showing.add_argument("--body", action="store_true", help="show: the event's body too")
    add_store(parser)
    add_settings(parser, "config")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    filters = read_filters(args)
    _check(args, filters)
    heed_ctrl_c()
    with opened(args) as source:
        mind_targets(source, args.target or ())
        if args.verb == "list":
            return _list(source, filters, args)
        if args.verb == "show":
            return _show(source, args)
        return act(source, filters, args)


def _check(args: argparse.Namespace, filters: Filters) -> None:
    if args.verb == "show" and args.event_id is None:
        raise SettingInvalid("which event? Its id is missing: show EVENT_ID")
    if args.verb in [*Verb] and not selects(filters):
        raise SettingInvalid(f"{args.verb} which deliveries? Say it, or --match '*' for all")


def _list(source: Deliveries, filters: Filters, args: argparse.Namespace) -> int:
    """The counts first; then what was selected, or, where nothing was, the pauses and the last
    actions."""
    counts, is_listing = source.counts(filters), selects(filters)
    actions = [] if is_listing else source.actions(_LAST_ACTIONS)
    pauses = [] if is_listing else source.pauses()
    overview = entries.overview(counts, actions, source.now(), pauses)
    say_as(args.format, [*counts, *pauses, *actions], overview)
    if is_listing:
        _list_entries(source, filters, args, entries.total(counts))
    return GOOD


def _list_entries(
    source: Deliveries, filters: Filters, args: argparse.Namespace, number: int
) -> None:
    limit = args.limit or (sys.maxsize if args.format == "json" else _LIMIT)
    for page in source.pages(filters, limit):
        say_as(args.format, page, chain([""], entries.entries_told(page, source.now())))
    if number > limit and args.format == "text":
        say(f"{number - limit:,} more: --limit")


def _show(source: Deliveries, args: argparse.Namespace) -> int:
    shape = source.dossier(args.event_id, body=args.body)
    if shape is None:
        note(
            f"no such event: {args.event_id!r} was never kept, or is over for long enough, or is "
            "another id of it, by which `trace` finds it"
        )
        return BAD
    if args.format == "json":
        say_json(shape)
        return GOOD
    say_lines(entries.dossier_told(shape, source.now(), source.pauses()))
    if args.body:
        say("")
        say(shape["body"])
    return GOOD
