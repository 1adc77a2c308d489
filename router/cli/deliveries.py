"""`deliveries`: what is not settled is found, shown and acted on, beside the router."""

from __future__ import annotations

import argparse
import sys
from itertools import chain
from typing import Any

from router.cli import entries
from router.cli.acting import (
    act,
    add_acting,
    add_selection,
    dossier_of,
    read_filters,
    require_targets,
    selects,
)
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
from router.cli.remote import Remote, add_remote, add_store, opened
from router.config.settings import parse_count
from router.model.errors import SettingInvalid
from router.store.admin import FILTERS, Filters, Verb, filter_texts

HELP = Help(
    about="""Shows what a router has not delivered yet, and acts on it. It asks the router that
    runs on this machine, or the one at --url; if none runs, or with --store, it looks into the
    store. A delivery is one event to one target: 'awaiting' EBaaS's retry, 'queued' for the
    router's own, 'dead' once the retries have run out; then 'acknowledged' or 'superseded', which
    is shown for a while.""",
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

#: The most deliveries of one page.
_PAGE = 500

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
    with opened(args) as router:
        require_targets(router, args.target or ())
        if args.verb == "list":
            return _list(router, filters, args)
        if args.verb == "show":
            return _show(router, args)
        return act(router, filters, args)


def _check(args: argparse.Namespace, filters: Filters) -> None:
    if args.verb == "show" and args.event_id is None:
        raise SettingInvalid("which event? Its id is missing: show EVENT_ID")
    if args.verb in [*Verb] and not selects(filters):
        raise SettingInvalid(f"{args.verb} which deliveries? Say it, or --match '*' for all")


def _list(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """The counts first; then what was selected, or, where nothing was, the pauses and the last
    actions."""
    is_listing = selects(filters)
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
    while page["deliveries"]:
        found = page["deliveries"]
        say_as(args.format, found, chain([""], entries.format_entries(found, router.now())))
        left -= len(found)
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
    shape = dossier_of(router, args.event_id, body=args.body)
    if shape is None:
        note(
            f"no such event: {args.event_id!r} was never kept, or is over for long enough, or is "
            "another id of it, by which `trace` finds it"
        )
        return BAD
    if args.format == "json":
        say_json(shape)
        return GOOD
    pauses = router.get("/pauses")["pauses"]
    say_lines(entries.format_dossier(shape, router.now(), pauses))
    if args.body:
        say("")
        say(shape["body"])
    return GOOD
