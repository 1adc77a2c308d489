"""`listen`: a running router's events, as they are handled, on one's own machine."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from router.cli.asking import RemoteProblem
from router.cli.deliveries.afar import RemoteDeliveries
from router.cli.options import (
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    add_format,
    add_timeout,
    heed_ctrl_c,
    mind_target,
    parse_url,
    value,
)
from router.cli.printing import note, say_as
from router.cli.remote import (
    Remote,
    add_own,
    add_remote,
    ops_url,
    read_token,
    shaped,
)
from router.cli.trust import context_of, trust
from router.config.settings import parse_count

if TYPE_CHECKING:
    from router.archive.trace.shapes import MatchShape
    from router.cli.trying.copies import Copier

HELP = Help(
    about="""Shows what a running router handles, as it handles it, with what each target said, and
    POSTs a copy of each event to a URL of your own. It never changes what EBaaS is told, nor what
    targets get. A copy has a webhook-id that begins with copy_ and the header x-ebaas-copy: listen,
    so that nobody takes it for the real event, and no signature. Bodies need a token that may
    `bodies`. What comes too fast is left out, and counted. When the router is gone it is looked for
    again, until Ctrl-C. Without --url it is the ops port of a `serve` with the same variables.""",
    examples=(
        "ebaas-router listen --no-forward",
        "ebaas-router listen --match 'a.gs.*' --failed --forward-to http://127.0.0.1:3000/",
        "ebaas-router listen --url http://router:8081 --token-file ops-token --no-forward",
    ),
    exit_codes={
        GOOD: "--limit was reached",
        NOT_STARTED: "the router is not reachable, or does not allow it",
        INTERRUPTED: "Ctrl-C ended it",
    },
)

#: Seconds until a router that is gone is looked for again.
_AGAIN = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    forward = parser.add_mutually_exclusive_group(required=True)
    forward.add_argument(
        "--forward-to", type=value(parse_url), metavar="URL", help="where copies go"
    )
    forward.add_argument("--no-forward", action="store_true", help="only show what comes")
    which = parser.add_argument_group("which events")
    many = "; may be repeated"
    which.add_argument("--target", action="append", metavar="NAME", help=f"of this target{many}")
    which.add_argument(
        "--match", action="append", metavar="PATTERN", help=f"whose key matches{many}"
    )
    which.add_argument("--failed", action="store_true", help="no 000, or a failed attempt")
    which.add_argument("--limit", type=value(parse_count), metavar="N", help="end after N of them")
    add_timeout(parser, "one copy")
    add_own(parser)
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from router.cli.history.stories import match_told

    url = ops_url(args)
    remote = Remote(url, read_token(args), context_of(url, args))
    heed_ctrl_c()
    _mind_targets(remote, args.target or ())
    left = args.limit
    try:
        with ExitStack() as stack:
            copier = _copier(args, stack)
            for match in _matches(remote, args):
                say_as(args.format, [match], map(match_told, [match]))
                if copier is not None:
                    _copy(copier, match, args)
                if left is not None and (left := left - 1) == 0:
                    return GOOD
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def _mind_targets(remote: Remote, targets: Sequence[str]) -> None:
    """Raises SettingInvalid for one that the router does not have: nothing would ever come."""
    known = RemoteDeliveries(remote).targets() if targets else set()
    for name in targets:
        mind_target(name, known, "the router")


def _copier(args: argparse.Namespace, stack: ExitStack) -> Copier | None:
    if args.forward_to is None:
        return None
    from router.cli.trying.copies import Copier

    runner = stack.enter_context(asyncio.Runner())
    return stack.enter_context(closing(Copier(args.forward_to, trust(args), runner)))


def _matches(remote: Remote, args: argparse.Namespace) -> Iterator[MatchShape]:
    """Events as they come, of each router that answers there in turn. Raises RemoteProblem where
    the first one does not."""
    bodies = args.forward_to is not None
    query = [
        *(("target", name) for name in args.target or ()),
        *(("match", pattern) for pattern in args.match or ()),
        *((name, "true") for name, given in (("failed", args.failed), ("bodies", bodies)) if given),
    ]
    from router.archive.trace.shapes import MatchShape

    has_come = False
    while True:
        is_told = False
        try:
            for name, said in remote.stream("/stream", query):
                has_come = True
                if not is_told:
                    is_told = True
                    note("listening; Ctrl-C ends it")
                if name in ("event", "unmatched"):
                    yield shaped(said, MatchShape)
                elif name == "dropped":
                    note(
                        f"{shaped(said, {'count': int})['count']:,} came too fast and are left out"
                    )
            why = "the router has ended the stream"
        except RemoteProblem as error:
            if error.status or not has_come:
                raise
            why = str(error)
        note(f"{why}; looking for it again")
        _wait(remote)


def _wait(remote: Remote) -> None:
    """Until the router answers again."""
    while True:
        time.sleep(_AGAIN)
        try:
            remote.get("/you", Any)
        except RemoteProblem as error:
            if error.status:
                raise
        else:
            return


def _copy(copier: Copier, match: Any, args: argparse.Namespace) -> None:
    from router.cli.trying.copies import copy_of

    body = match.get("body")
    if body is None:
        note("its body did not come along: no copy")
        return
    made = copy_of("listen", match["event_id"], match["event_key"], body)
    reply = copier.send(made, args.timeout)
    shape = {"kind": "copy", "event_id": match["event_id"], **reply.as_json()}
    say_as(args.format, [shape], [f"  copied: {reply}"])
