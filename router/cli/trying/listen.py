"""`listen`: live events of a running router, and copies of them to one's own receiver."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple
from urllib.parse import quote

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
from router.cli.printing import NAME, note, say_as
from router.cli.remote import Remote, RemoteProblem, add_remote, opened, trust
from router.cli.trying.request import Ebaas, Request, Response, add_sign, note_401, read_signer
from router.config.settings import parse_count
from router.contract.replies import is_sane
from router.contract.signing import Signer
from router.model.errors import SettingInvalid
from router.model.event import new_id
from router.net.tls import Tls
from router.transport.engine import Pool

HELP = Help(
    about="""Shows what a running router handles, as it handles it, with what each target said, and
    POSTs a copy of each event to a URL of your own. It never changes what EBaaS is told, nor what
    targets get. A copy has a webhook-id that begins with copy_ and the header x-ebaas-copy: listen,
    so that nobody takes it for the real event; --sign signs it. Bodies need a token that may
    `bodies`. What comes too fast is left out, and counted. When the router is gone it is looked for
    again, until Ctrl-C. Without --url it is the ops port of a `serve` with the same variables.""",
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
    add_sign(parser)
    add_timeout(parser, "one copy")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from router.cli.stories import format_match

    if args.sign is not None and args.forward_to is None:
        raise SettingInvalid("--sign needs --forward-to: there is nothing else to sign")
    signer = read_signer(args)
    heed_ctrl_c()
    left = args.limit
    try:
        with ExitStack() as stack:
            remote = stack.enter_context(opened(args, must_run=True))
            _mind_targets(remote, args.target or ())
            copier = _copier(args, signer, stack)
            has_said_401 = False
            for match in _matches(remote, args):
                say_as(args.format, [match], map(format_match, [match]))
                if copier is not None and (reply := _copy(copier, match, args)):
                    has_said_401 = has_said_401 or note_401(reply, args)
                if left is not None and (left := left - 1) == 0:
                    return GOOD
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def _mind_targets(remote: Remote, targets: Sequence[str]) -> None:
    """Raises SettingInvalid for one that the router does not have: nothing would ever come."""
    known = (remote.targets() if targets else None) or set()
    for name in targets:
        require_target(name, known, "the router")


def _copier(args: argparse.Namespace, signer: Signer | None, stack: ExitStack) -> Copier | None:
    if args.forward_to is None:
        return None

    runner = stack.enter_context(asyncio.Runner())
    return stack.enter_context(closing(Copier(args.forward_to, trust(args), runner, signer)))


def _matches(remote: Remote, args: argparse.Namespace) -> Iterator[Any]:
    """Events as they come, of each router that answers there in turn. Raises RemoteProblem where
    the first one does not."""
    bodies = args.forward_to is not None
    query = [
        *(("target", name) for name in args.target or ()),
        *(("match", pattern) for pattern in args.match or ()),
        *((name, "true") for name, given in (("failed", args.failed), ("bodies", bodies)) if given),
    ]
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
                    yield said
                elif name == "dropped":
                    note(f"{said['count']:,} came too fast and are left out")
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
            remote.get("/you")
        except RemoteProblem as error:
            if error.status:
                raise
        else:
            return


def _copy(copier: Copier, match: Any, args: argparse.Namespace) -> Response | None:
    """The receiver's reply; None where there is no body to copy."""

    body = match.get("body")
    if body is None:
        note("its body did not come along: no copy")
        return None
    made = copy_of("listen", match["event_id"], match["event_key"], body)
    reply = copier.send(made, args.timeout)
    shape = {"kind": "copy", "event_id": match["event_id"], **reply.as_json()}
    say_as(args.format, [shape], [f"  copied: {reply}"])
    return reply


#: What a copy's `webhook-id` begins with: whoever dedupes by it never loses the real event.
COPY_PREFIX = b"copy_"

#: Names the command that has made the copy.
COPY_HEADER = b"x-ebaas-copy"

Header = tuple[bytes, bytes]


class Copy(NamedTuple):
    """What is sent."""

    headers: tuple[Header, ...]
    body: bytes


def copy_of(by: str, event_id: str, event_key: str, body: str) -> Copy:
    """An event's body, byte for byte, marked by the command that sends it. What a router would not
    have said of it makes no header, and nothing fail."""
    known = _plain(event_id)
    headers = (
        (b"content-type", b"application/json"),
        (b"accept", b"application/json"),
        (b"webhook-id", COPY_PREFIX + (known if is_sane(known) else new_id().encode())),
        (b"x-ebaas-event-key", quote(_plain(event_key), safe="").encode()),
        (b"x-request-id", new_id().encode()),
        (COPY_HEADER, by.encode()),
    )
    return Copy(headers, _plain(body))


def _plain(text: str) -> bytes:
    """A surrogate that stands alone is no text."""
    return text.encode("utf-8", "replace")


class Copier:
    """Sends copies to one URL, one after the other, over connections that stay; they belong to the
    loop of `runner`."""

    def __init__(
        self, url: str, tls: Tls, runner: asyncio.Runner, signer: Signer | None = None
    ) -> None:
        """`signer` signs each copy, which then has all headers that a target gets."""
        self._url = url
        self._signer = signer
        self._runner = runner
        self._pool = runner.run(_pool(url, tls))

    def send(self, copy: Copy, timeout: float) -> Response:
        signed = ((b"x-ebaas-target", NAME.encode()),) if self._signer else ()
        headers = (*copy.headers, *signed)
        request = Request(self._url, headers, copy.body, timeout, signer=self._signer)
        return self._runner.run(Ebaas(self._pool, request).call())

    def close(self) -> None:
        self._runner.run(self._pool.close())


async def _pool(url: str, tls: Tls) -> Pool:
    from router.transport.native import NativePool

    return NativePool(url, tls)
