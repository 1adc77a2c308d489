"""`deliveries`: what is not settled is found, shown and acted on, beside the router."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from router.cli.deliveries import entries
from router.cli.deliveries.acting import act
from router.cli.deliveries.selecting import (
    SELECTING,
    add_selection,
    mind_targets,
    read_selection,
    requests_of,
    selects,
)
from router.cli.deliveries.store import add_store, open_ops
from router.cli.options import (
    BAD,
    GOOD,
    NOT_STARTED,
    Help,
    Parser,
    add_settings,
    heed_ctrl_c,
    read_setting,
    value,
)
from router.cli.printing import note, say, say_json
from router.cli.routes.inputs import add_format
from router.config import parse_count
from router.model import RouterError, SettingInvalid
from router.store import (
    Selection,
    StoreFailed,
    Verb,
    action_shape,
    count_shapes,
    dossier_shape,
    entry_shape,
    pause_shape,
    paused,
)

if TYPE_CHECKING:
    from router.store import Ops

SUMMARY = "list, show, replay, discard or restore what could not be delivered at once"

HELP = Help(
    about="""Looks into the store of a router, running or not, and acts on it. A delivery is one
    event to one target: 'awaiting' EBaaS's retry, 'queued' for the router's own, 'dead' once the
    retries have run out; then 'acknowledged' or 'superseded', which is shown for a while. `list`
    counts what is not settled, and with any filter lists; `show EVENT_ID` tells all about one
    event. `replay` puts dead letters back into the queue, which a running router sends within its
    limits; `discard` settles what is not to be delivered, `restore` takes that back. Who did it and
    when is kept. An age is counted from the event's first request.""",
    examples=(
        "ebaas-router deliveries list",
        "ebaas-router deliveries list --target ledger --state dead --older-than 1h",
        "ebaas-router deliveries show 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router deliveries replay --target ledger --match 'a.gs.*' --dry-run",
        "ebaas-router deliveries restore --event 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11",
        "ebaas-router deliveries discard --acknowledged-later only --match '*' --yes",
    ),
    exit_codes={
        GOOD: "done, or there was nothing to do",
        BAD: "no such event, a no to the question, or stopped half-way",
        NOT_STARTED: "the store is not there or can't be used",
    },
)

#: How many deliveries are listed as text unless told otherwise.
_LIMIT = 50

#: How many are read at a time.
_PAGE = 500

#: How many of the last actions are told with the counts.
_LAST_ACTIONS = 5

#: The options that only some verbs have; what selects is for all but `show`.
_ONLY = {
    "event_id": ("show",),
    "body": ("show",),
    "limit": ("list",),
    **dict.fromkeys(("dry_run", "yes", "who"), tuple(Verb)),
    **dict.fromkeys(SELECTING, ("list", *Verb)),
}

#: What those are called whose names say something else.
_NAMES = {"event_id": "EVENT_ID", "who": "--as"}


#: What each of them does, for its own help.
_VERBS = {
    "list": "Counts the deliveries that are not settled, by target and state, with what people did "
    "last. With any filter it lists them as well, the oldest recorded first; an age is counted "
    "from the event's first request. With --state it shows settled ones too.",
    "show": "Tells all about one event: where it stands with EBaaS, each delivery, its reason, and "
    "what a person did with it.",
    "replay": "Puts dead letters back into the queue, which a running router sends within its "
    "limits. Who did it and when is kept.",
    "discard": "Settles what is not to be delivered, dead letters unless told otherwise. Who did "
    "it and when is kept.",
    "restore": "Takes a discard back, for as long as the delivery is shown: it is a dead letter "
    "again. Who did it and when is kept.",
}


def configure(parser: Parser) -> None:
    HELP.teach(parser)
    parser.verbs, parser.only = _VERBS, _ONLY
    parser.add_argument("verb", choices=tuple(_VERBS), metavar="VERB", help=", ".join(_VERBS))
    parser.add_argument("event_id", nargs="?", metavar="EVENT_ID", help="show: which event")
    add_selection(parser.add_argument_group("which deliveries"))
    acting = parser.add_argument_group("acting")
    acting.add_argument("--dry-run", action="store_true", help="count only; change nothing")
    acting.add_argument("--yes", action="store_true", help="don't ask, however many they are")
    acting.add_argument("--as", dest="who", metavar="NAME", help="who acts (default you@this host)")
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
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    _check(args)
    selection = read_selection(args)
    heed_ctrl_c()
    # One run of the loop for each question: between them Ctrl-C works as ever.
    with asyncio.Runner() as runner:
        ops = runner.run(open_ops(args))
        try:
            runner.run(mind_targets(ops, args, args.target or ()))
            if args.verb == "list":
                return runner.run(_list(ops, selection, args))
            if args.verb == "show":
                return runner.run(_show(ops, args))
            return act(runner, ops, selection, args)
        except StoreFailed as error:
            raise RouterError(f"the store failed: {error}") from None
        finally:
            runner.run(ops.close())


def _check(args: argparse.Namespace) -> None:
    for name, verbs in _ONLY.items():
        if getattr(args, name) not in (None, False) and args.verb not in verbs:
            option = _NAMES.get(name, "--" + name.replace("_", "-"))
            instead = "; see --event" if name == "event_id" and args.verb in [*Verb] else ""
            raise SettingInvalid(f"{option} is for {', '.join(verbs)} only{instead}")
    for word in (args.event_id, args.who, *(args.event or ()), *(args.target or ())):
        if word is not None and word != word.encode("utf-8", "replace").decode():
            raise SettingInvalid("an argument is not UTF-8")
    if args.verb == "show" and args.event_id is None:
        raise SettingInvalid("which event? Its id is missing: show EVENT_ID")
    if args.verb in [*Verb] and not selects(args):
        raise SettingInvalid(f"{args.verb} which deliveries? Say it, or --match '*' for all")


async def _list(ops: Ops, selection: Selection, args: argparse.Namespace) -> int:
    """The counts first; then what was selected, or, where nothing was, the pauses and the last
    actions."""
    counts = count_shapes(await ops.counts(selection))
    actions = [] if selects(args) else [*map(action_shape, await ops.actions(_LAST_ACTIONS))]
    pauses = [] if selects(args) else [*map(pause_shape, await paused(ops))]
    if args.format == "json":
        for line in (*counts, *pauses, *actions):
            say_json(line)
    else:
        for text in entries.overview(counts, actions, ops.now(), pauses):
            say(text)
    if selects(args):
        await _list_entries(ops, selection, args, entries.total(counts))
    return GOOD


async def _list_entries(
    ops: Ops, selection: Selection, args: argparse.Namespace, number: int
) -> None:
    """Page by page, so that a million of them need no memory."""
    limit = args.limit or (sys.maxsize if args.format == "json" else _LIMIT)
    left = limit
    async for page in ops.pages(selection, _PAGE):
        page, left = page[:left], left - len(page)
        if args.format == "json":
            for entry in page:
                say_json(entry_shape(entry))
        else:
            for text in ("", *entries.entries_told(map(entry_shape, page), ops.now())):
                say(text)
        if left <= 0:
            break
    if number > limit and args.format == "text":
        say(f"{number - limit:,} more: --limit")


async def _show(ops: Ops, args: argparse.Namespace) -> int:
    dossier = await ops.dossier(args.event_id)
    if dossier is None:
        note("no such event: it was never kept, or is over for long enough")
        return BAD
    shape = dossier_shape(dossier, body=args.body)
    if args.format == "json":
        say_json(shape)
        return GOOD
    of = requests_of(read_setting(args, "config"))
    pauses = map(pause_shape, await paused(ops))
    for text in entries.dossier_told(shape, ops.now(), of, pauses):
        say(text)
    if args.body:
        say("")
        say(shape["body"])
    return GOOD
