"""`listen` and `resend`: copies of events for a URL of one's own."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from router.cli.options import Exit, Help, Parser, heed_ctrl_c, parse_url, require_target, value
from router.cli.printing import NAME, counted, note, say_as
from router.cli.remote import Remote, RemoteProblem, opened
from router.cli.send import Request, Response, add_sign, note_401, post, read_signer
from router.cli.trace import format_match, search, story_of
from router.config.settings import parse_count
from router.contract.replies import is_sane
from router.model.errors import SettingInvalid
from router.model.event import new_id

LISTEN = Help(
    about="""Shows each event that a running router handles, with the answers of its targets, and
    POSTs a copy of it to a URL of your own, which the router and its targets do not notice. A
    copy's webhook-id begins with copy_, and it has the header x-ebaas-copy: listen; --sign signs
    it. For copies the token needs the permission `bodies`. Events that come too fast are left
    out and counted. Without --url it asks the ops port of a `serve` with the same variables.""",
    examples="""
        ebaas-router listen --no-forward
        ebaas-router listen --forward-to http://127.0.0.1:3000/ --sign '${LEDGER_SECRET}'
        ebaas-router listen --url http://router:8081 --token-file ops-token --no-forward""",
    good="--limit was reached",
    not_started="the router is not reachable, or does not allow it",
    interrupted="Ctrl-C ended it",
)

#: Seconds between two attempts to reconnect.
_RECONNECT = 2.0


def configure_listen(parser: Parser) -> None:
    forward = parser.add_mutually_exclusive_group(required=True)
    url = value(parse_url)
    forward.add_argument("--forward-to", type=url, metavar="URL", help="where to send copies")
    forward.add_argument("--no-forward", action="store_true", help="only show events")
    which = parser.group("which events")
    which.option("--target", "NAME", "with this target", many=True)
    which.option("--match", "PATTERN", "whose key matches", many=True)
    which.switch("--failed", "that got no 000, or had a failed attempt")
    which.option("--limit", "N", "end after N of them", parse_count)
    add_sign(parser)
    parser.timeout("one copy")
    parser.remote()
    parser.format()


def run_listen(args: argparse.Namespace) -> int:
    if args.sign is not None and args.forward_to is None:
        raise SettingInvalid("--sign needs --forward-to: there is nothing else to sign")
    copies = None if args.forward_to is None else _request(args.forward_to, args)
    heed_ctrl_c()
    left, has_hinted = args.limit, False
    try:
        with opened(args, must_run=True) as remote, asyncio.Runner() as runner:
            known = (remote.targets() if args.target else None) or set()
            for name in args.target or ():
                require_target(name, known, "the router")
            for match in _matches(remote, args):
                say_as(args.format, [match], map(format_match, [match]))
                if copies is not None and (response := _copy(runner, copies, match, args.format)):
                    has_hinted = has_hinted or note_401(response, args)
                if left is not None and (left := left - 1) == 0:
                    return Exit.GOOD
    except KeyboardInterrupt:
        pass
    return Exit.INTERRUPTED


def _matches(remote: Remote, args: argparse.Namespace) -> Iterator[Any]:
    """Yield events as they come, and reconnect when the stream ends. Raises RemoteProblem if the
    router refuses, or if there was no router in the first place."""
    bodies = args.forward_to is not None
    query = [
        *(("target", name) for name in args.target or ()),
        *(("match", pattern) for pattern in args.match or ()),
        *((name, "true") for name, given in (("failed", args.failed), ("bodies", bodies)) if given),
    ]
    has_connected = is_lost = False
    while True:
        try:
            for number, (kind, message) in enumerate(remote.stream("/stream", query)):
                if number == 0:
                    note("listening; Ctrl-C ends it")
                has_connected, is_lost = True, False
                if kind in ("event", "unmatched"):
                    yield message
                elif kind == "dropped":
                    note(f"{message['count']:,} events left out: they came too fast")
            why = "the router has ended the stream"
        except RemoteProblem as error:
            if error.status or not has_connected:
                raise
            why = str(error)
        if not is_lost:
            note(f"{why}; reconnecting")
        is_lost = True
        time.sleep(_RECONNECT)


def _copy(runner: asyncio.Runner, copies: Request, match: Any, format: str) -> Response | None:
    """Send a copy and return the response; None if there is no body to copy."""
    body = match.get("body")
    if body is None:
        note("no copy: the router did not send the body")
        return None
    response = runner.run(post(copy_of(copies, match, body, "listen")))
    result = {"kind": "copy", "event_id": match["event_id"], **response.as_json()}
    say_as(format, [result], [f"  copied: {response}"])
    return response


RESEND = Help(
    about="""Finds one event as `trace` does, and POSTs its body, byte for byte, to a URL: once,
    without a retry, and without a change of any delivery. The copy's webhook-id begins with
    copy_, and it has the header x-ebaas-copy: resend; --sign signs it. WHAT is any id of the
    event, or its key if no other event has it. With --url the token needs the permission
    `bodies`.""",
    examples="""
        ebaas-router resend order-4711 --to http://localhost:3000/ --sign '${LEDGER_SECRET}'
        ebaas-router resend order-4711 --to http://localhost:3000/ --url http://router:8081""",
    good="the code was 000",
    bad="no such event, several, or its body was not kept; any other code, or none",
    not_started="the router, the archive or the store is not there or can't be read",
)


def configure_resend(parser: Parser) -> None:
    parser.add_argument("what", metavar="WHAT", help="an id of the event, or its key")
    parser.option("--to", "URL", "where the copy goes", parse_url, required=True)
    add_sign(parser)
    parser.timeout("the request")
    parser.group("where to look if no router runs (default both)").archive()
    parser.store()
    parser.remote()
    parser.format()


def run_resend(args: argparse.Namespace) -> int:
    copies = _request(args.to, args)
    heed_ctrl_c()
    event = _find(args)
    if event is None:
        return Exit.BAD
    if event.get("body") is None or event.get("clipped"):
        note("its body was not kept")
        return Exit.BAD
    response = asyncio.run(post(copy_of(copies, event, event["body"], "resend")))
    result = {"kind": "copy", "event_id": event["event_id"], **response.as_json()}
    say_as(args.format, [result], [f"{event['event_id']} copied: {response}"])
    note_401(response, args)
    return Exit.GOOD if response.success else Exit.BAD


def _find(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the only event that fits; None, after a message, if there are none or several."""
    with opened(args, needs="either") as router:
        result = search(router, [("what", args.what)], 200)
        events, more = result["events"], result["more"]
        if len(events) == 1 and not more:
            event: dict[str, Any] = story_of(router, events[0], body=True)
            return event
        if events:
            number = counted(len(events), "event")
            note(f"{'more than ' if more else ''}{number} fit; which one? `trace` has their ids")
        return None


# Copies.


def _request(url: str, args: argparse.Namespace) -> Request:
    """Return a request to a URL of one's own, still without an event. Raises SettingInvalid."""
    return Request(url, {}, b"", args.timeout, args.ca, read_signer(args))


def copy_of(request: Request, event: Mapping[str, Any], body: str, by: str) -> Request:
    """Return the request with a copy of an event, marked with the command that sends it.

    The id has a prefix, so that a receiver that deduplicates by `webhook-id` does not take the copy
    for the event. An id or a key from a router cannot add a header.
    """
    known, key = _plain(event["event_id"]), _plain(event["event_key"])
    headers = {
        b"content-type": b"application/json",
        b"accept": b"application/json",
        b"webhook-id": b"copy_" + (known if is_sane(known) else new_id().encode()),
        b"x-ebaas-event-key": quote(key, safe="").encode(),
        b"x-request-id": new_id().encode(),
        b"x-ebaas-copy": by.encode(),
    }
    if request.signer is not None:
        headers[b"x-ebaas-target"] = NAME.encode()
    return replace(request, headers=headers, body=_plain(body))


def _plain(text: str) -> bytes:
    """Encode a text in UTF-8; a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace")
