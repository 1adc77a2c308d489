"""`resend`: POSTs a copy of one event that was handled to a URL of one's own."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

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
from router.cli.remote import opened
from router.cli.trace import EventSearch, add_places
from router.cli.trying.request import add_sign, copy_of, note_401, post, read_copies

HELP = Help(
    about="""Finds one event as `trace` does, in a running router or in its archive and its store,
    and POSTs its body, byte for byte, to a URL: once, without a retry. A copy differs from the real
    event: its webhook-id begins with copy_, and it has the header x-ebaas-copy: resend. It changes
    no delivery. --sign signs it. WHAT is any id of the event, or its key if no other event has it.
    With --url the token needs the permission `bodies`.""",
    examples=(
        "ebaas-router resend order-4711 --to http://localhost:3000/callback",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --sign '${LEDGER_SECRET}'",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --format json",
        "ebaas-router resend order-4711 --to http://localhost:3000/ --url http://router:8081",
    ),
    exit_codes={
        GOOD: "the code was 000",
        BAD: "no such event, several, or its body was not kept; any other code, or none",
        NOT_STARTED: "the router, the archive or the store is not there or can't be read",
    },
)

#: The most matching events that are counted.
_COUNTED = 200


def configure(parser: Parser) -> None:
    parser.add_argument("what", metavar="WHAT", help="an id of the event, or its key")
    parser.add_argument(
        "--to", type=value(parse_url), metavar="URL", required=True, help="where the copy goes"
    )
    add_sign(parser)
    add_timeout(parser, "the request")
    add_places(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    copies = read_copies(args.to, args)
    heed_ctrl_c()
    event = _find(args)
    if event is None:
        return BAD
    if event.get("body") is None:
        note("its body was not kept")
        return BAD
    response = asyncio.run(post(copy_of(copies, event, event["body"], "resend")))
    result = {"kind": "copy", "event_id": event["event_id"], **response.as_json()}
    say_as(args.format, [result], [f"{event['event_id']} copied: {response}"])
    note_401(response, args)
    return GOOD if response.success else BAD


def _find(args: argparse.Namespace) -> dict[str, Any] | None:
    """The only event that fits; None, after a message, if there are none or several."""
    with opened(args, needs="either") as router:
        search = EventSearch(router, [("what", args.what)], _COUNTED)
        if len(search.events) == 1 and not search.more:
            event: dict[str, Any] = search.story(body=True)
            return event
        if search.events:
            more = "more than " if search.more else ""
            number = counted(len(search.events), "event")
            note(f"{more}{number} fit; which one? `trace` has their ids")
        else:
            note(f"no such event; {search.where}")
        return None
