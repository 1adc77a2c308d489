"""`listen`: shows the events of a running router, and copies them to one's own receiver."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from router.cli.options import (
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    add_format,
    add_timeout,
    heed_ctrl_c,
    parse_url,
    require_target,
    value,
)
from router.cli.printing import note, say_as
from router.cli.remote import Remote, RemoteProblem, add_remote, opened
from router.cli.trying.request import (
    Request,
    Response,
    add_sign,
    copy_of,
    note_401,
    post,
    read_copies,
)
from router.config.settings import parse_count
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Shows each event that a running router handles, with the answers of its targets, and
    POSTs a copy of it to a URL of your own. It changes neither the reply to EBaaS nor what targets
    get. A copy differs from the real event: its webhook-id begins with copy_, and it has the header
    x-ebaas-copy: listen. --sign signs it. For copies the token needs the permission `bodies`.
    Events that come too fast are left out and counted. If the router goes away, the command
    reconnects. Without --url it is the ops port of a `serve` with the same variables.""",
    examples=(
        "ebaas-router listen --no-forward",
        "ebaas-router listen --match 'a.gs.*' --failed --forward-to http://127.0.0.1:3000/",
        "ebaas-router listen --forward-to http://127.0.0.1:3000/ --sign '${LEDGER_SECRET}'",
        "ebaas-router listen --url http://router:8081 --token-file ops-token --no-forward",
    ),
    exit_codes={
        GOOD: "--limit was reached",
        NOT_STARTED: "the router is not reachable, or does not allow it",
        INTERRUPTED: "Ctrl-C ended it",
    },
)

#: Seconds between two attempts to reconnect.
_RECONNECT = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    forward = parser.add_mutually_exclusive_group(required=True)
    forward.add_argument(
        "--forward-to", type=value(parse_url), metavar="URL", help="where to send copies"
    )
    forward.add_argument("--no-forward", action="store_true", help="only show events")
    which = parser.add_argument_group("which events")
    many = "; may be repeated"
    which.add_argument("--target", action="append", metavar="NAME", help=f"with this target{many}")
    which.add_argument(
        "--match", action="append", metavar="PATTERN", help=f"whose key matches{many}"
    )
    which.add_argument(
        "--failed", action="store_true", help="that got no 000, or had a failed attempt"
    )
    which.add_argument("--limit", type=value(parse_count), metavar="N", help="end after N of them")
    add_sign(parser)
    add_timeout(parser, "one copy")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from router.cli.stories import format_match

    if args.sign is not None and args.forward_to is None:
        raise SettingInvalid("--sign needs --forward-to: there is nothing else to sign")
    copies = None if args.forward_to is None else read_copies(args.forward_to, args)
    heed_ctrl_c()
    left, has_hinted = args.limit, False
    try:
        with opened(args, must_run=True) as remote, asyncio.Runner() as runner:
            _require_targets(remote, args.target or ())
            for match in _matches(remote, args):
                say_as(args.format, [match], map(format_match, [match]))
                if copies is not None and (response := _copy(runner, copies, match, args.format)):
                    has_hinted = has_hinted or note_401(response, args)
                if left is not None and (left := left - 1) == 0:
                    return GOOD
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def _require_targets(remote: Remote, targets: Sequence[str]) -> None:
    """Raises SettingInvalid for a target that the router does not have."""
    known = (remote.targets() if targets else None) or set()
    for name in targets:
        require_target(name, known, "the router")


def _matches(remote: Remote, args: argparse.Namespace) -> Iterator[Any]:
    """Yield events as they come, and reconnect when the stream ends. Raises RemoteProblem if the
    router refuses, or if there was no router in the first place."""
    bodies = args.forward_to is not None
    query = [
        *(("target", name) for name in args.target or ()),
        *(("match", pattern) for pattern in args.match or ()),
        *((name, "true") for name, given in (("failed", args.failed), ("bodies", bodies)) if given),
    ]
    has_connected = False
    while True:
        is_new = True
        try:
            for kind, message in remote.stream("/stream", query):
                if is_new:
                    note("listening; Ctrl-C ends it")
                has_connected, is_new = True, False
                if kind in ("event", "unmatched"):
                    yield message
                elif kind == "dropped":
                    note(f"{message['count']:,} events left out: they came too fast")
            why = "the router has ended the stream"
        except RemoteProblem as error:
            if error.status or not has_connected:
                raise
            why = str(error)
        note(f"{why}; reconnecting")
        _wait(remote)


def _wait(remote: Remote) -> None:
    """Return when the router answers again."""
    while True:
        time.sleep(_RECONNECT)
        try:
            remote.get("/you")
        except RemoteProblem as error:
            if error.status:
                raise
        else:
            return


def _copy(runner: asyncio.Runner, copies: Request, match: Any, format: str) -> Response | None:
    """The receiver's response; None if there is no body to copy."""
    body = match.get("body")
    if body is None:
        note("no copy: the router did not send the body")
        return None
    response = runner.run(post(copy_of(copies, match, body, "listen")))
    result = {"kind": "copy", "event_id": match["event_id"], **response.as_json()}
    say_as(format, [result], [f"  copied: {response}"])
    return response
