"""`resend`: one event that was handled, once, as a copy to a URL of one's own."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

from router.cli.columns import counted
from router.cli.options import (
    BAD,
    GOOD,
    NOT_STARTED,
    Help,
    Parser,
    add_format,
    add_timeout,
    heed_ctrl_c,
    parse_url,
    value,
)
from router.cli.printing import note, say_as
from router.cli.remote import opened, trust
from router.cli.trace import EventSearch, add_places
from router.cli.trying.request import add_sign, note_401, read_signer

if TYPE_CHECKING:
    from router.archive.trace.views import StoryView
    from router.cli.trying.request import Response
    from router.contract.signing import Signer

HELP = Help(
    about="""Finds one event as `trace` does, by a running router or in its archive and its store,
    and POSTs its body, byte for byte, to a URL: once, without a retry. It is a copy, with a
    webhook-id that begins with copy_ and the header x-ebaas-copy: resend, so that nobody takes it
    for the real event; no delivery is changed by it. --sign signs it. WHAT is any id of the event,
    or its key where that is the only one with it. A body from afar needs a token that may
    `bodies`.""",
    examples=(
        "ebaas-router resend order-4711 --to http://localhost:3000/callback",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --sign '${LEDGER_SECRET}'",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --format json",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --url http://router:8081",
    ),
    exit_codes={
        GOOD: "the code was 000",
        BAD: "no such event, or several, or its body was not kept; any other code, or none",
        NOT_STARTED: "what was to be looked into, or the router, is not there or can't be read",
    },
)

#: How many events that fit are counted.
_COUNTED = 200


def configure(parser: Parser) -> None:
    parser.add_argument("what", metavar="WHAT", help="by what the event is known")
    parser.add_argument(
        "--to", type=value(parse_url), metavar="URL", required=True, help="where the copy goes"
    )
    add_sign(parser)
    add_timeout(parser, "that")
    add_places(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    signer = read_signer(args)
    heed_ctrl_c()
    story = _found(args)
    if story is None:
        return BAD
    body = story.get("body")
    if body is None:
        note("its body was not kept")
        return BAD
    response = _sent(story, body, signer, args)
    shape = {"kind": "copy", "event_id": story["event_id"], **response.as_json()}
    say_as(args.format, [shape], [f"{story['event_id']} copied: {response}"])
    note_401(response, args)
    return GOOD if response.success else BAD


def _found(args: argparse.Namespace) -> StoryView | None:
    """The only one; None, which is told, where that can't be."""
    with opened(args, needs="either") as router:
        found = EventSearch(router, [("what", args.what)], _COUNTED)
        if len(found.events) == 1 and not found.more:
            story: StoryView = found.story(body=True)
            return story
        if found.events:
            more = "more than " if found.more else ""
            number = counted(len(found.events), "event")
            note(f"{more}{number} fit; which one? `trace` has their ids")
        else:
            note(f"no such event; {found.where}")
        return None


def _sent(story: StoryView, body: str, signer: Signer | None, args: argparse.Namespace) -> Response:
    from router.cli.trying.listen import Copier, copy_of

    copy = copy_of("resend", story["event_id"], story["event_key"], body)
    with (
        asyncio.Runner() as runner,
        closing(Copier(args.to, trust(args), runner, signer)) as copier,
    ):
        return copier.send(copy, args.timeout)
