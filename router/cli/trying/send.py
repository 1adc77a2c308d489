"""`send`: plays EBaaS. Sends one event, once or by the retry schedule."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from urllib.parse import quote

from router.cli.columns import counted
from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    STDIN,
    Help,
    Parser,
    add_format,
    add_timeout,
    heed_ctrl_c,
    parse_url,
    read_setting,
    stdin,
    value,
)
from router.cli.printing import NAME, note, say_as
from router.cli.remote import add_ca, own_url, trust
from router.cli.trying.request import (
    Request,
    Response,
    add_header,
    add_sign,
    note_401,
    parse_header,
    post,
    read_event,
    read_headers,
    read_signer,
)
from router.config.settings import SETTINGS, parse_count
from router.contract.schedule import PLATFORM, Schedule, parse_duration
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, new_id
from router.model.secret import Secret
from router.net.tls import USUAL, Tls

HELP = Help(
    about="""Plays EBaaS: POSTs one event to a router, or to a business endpoint, and prints the
    reply. The event is made from the options, whose defaults are the platform page's sample, or is
    FILE ('-' is stdin), sent byte for byte. With --retry a request that fails is repeated as EBaaS
    would, 20 times over 14 hours.""",
    examples=(
        "ebaas-router send",
        "ebaas-router send --status 3 --change id7 --change id8",
        "ebaas-router send event.json http://127.0.0.1:9001/callback",
        "ebaas-router send --waits 1s,3s --retries 5",
        "ebaas-router send --url https://router.internal/callback --ca ca.pem",
        "ebaas-router send http://127.0.0.1:9001/callback --sign '${LEDGER_SECRET}'",
        "ebaas-router send --header 'authorization: Bearer ${TOKEN}'",
    ),
    exit_codes={
        GOOD: "the code was 000; with --retry, the last one",
        BAD: "any other code, or none",
        INTERRUPTED: "Ctrl-C ended it",
    },
)

#: The platform page's sample.
_SAMPLE = {"source": "a", "topic": "gs", "type": "cert", "status": "1"}
_SAMPLE_CHANGES = ["id1", "id2"]


def parse_waits(text: str) -> tuple[float, ...]:
    return tuple(parse_duration(wait.strip()) for wait in text.split(","))


def configure(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="FILE|URL", help="the event's file, and where to send it"
    )
    _add_event(parser.add_argument_group("the event"))
    _add_request(parser.add_argument_group("the request"))
    _add_retries(parser.add_argument_group("retries"))
    add_format(parser)


def _add_event(group: argparse._ArgumentGroup) -> None:
    for name, default in _SAMPLE.items():
        about = f"its event_{name} (default {default})"
        group.add_argument(f"--{name}", metavar="TEXT", help=about)
    group.add_argument(
        "--key", help="its event_key (default the four joined by dots; '' leaves it out)"
    )
    about = f"one of its changes; may be repeated (default {' and '.join(_SAMPLE_CHANGES)})"
    group.add_argument("--change", action="append", metavar="ID", help=about)


def _add_request(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--url",
        type=value(parse_url),
        help="where to send it (default where a `serve` with the same variables listens: "
        "http://127.0.0.1:8080/callback unless they say otherwise)",
    )
    add_header(group, parse_header)
    add_sign(group)
    add_ca(group)
    add_timeout(group, "one request")


def _add_retries(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--retry", action="store_true", help="repeat a failure as EBaaS would")
    group.add_argument(
        "--waits",
        type=value(parse_waits),
        metavar="TIMES",
        help="a --retry with these waits, the last of them repeated "
        "(default 1s,3s,7s,30s,60s,300s,3600s)",
    )
    about = f"a --retry with at most so many (default {PLATFORM.retries})"
    group.add_argument("--retries", type=value(parse_count), metavar="N", help=about)


def run(args: argparse.Namespace) -> int:
    request = _request(args)
    heed_ctrl_c()
    retry = args.retry or args.waits is not None or args.retries is not None
    retries = (args.retries or PLATFORM.retries) if retry else 0
    schedule = Schedule(args.waits or PLATFORM.waits, retries)
    try:
        return asyncio.run(_send(schedule, request, args))
    except KeyboardInterrupt:
        return INTERRUPTED


async def _send(schedule: Schedule, request: Request, args: argparse.Namespace) -> int:
    """Send until the code is 000 or the schedule is over, and print each reply."""
    total, made = schedule.retries + 1, 0
    try:
        while True:
            reply = await post(request)
            made += 1
            _print_reply(reply, made, total, args.format)
            if made == 1:
                note_401(reply, args)
            wait = schedule.wait(made - 1)
            if reply.success or wait is None:
                return GOOD if reply.success else BAD
            note(f"request {made + 1} of {total}, in {wait:g} s")
            await asyncio.sleep(wait)
    except asyncio.CancelledError:
        note(f"interrupted after {made} of {counted(total, 'request')}")
        raise


def _print_reply(reply: Response, number: int, total: int, format: str) -> None:
    lead = f"request {number} of {total}: " if total > 1 else ""
    say_as(format, [{"request": number, "of": total, **reply.as_json()}], [f"{lead}{reply}"])


def _request(args: argparse.Namespace) -> Request:
    """The request of the arguments. Raises SettingInvalid if they contradict each other."""
    urls = [text for text in args.what if "://" in text]
    files = [text for text in args.what if "://" not in text]
    if len(files) > 1 or len(urls) + (args.url is not None) > 1:
        raise SettingInvalid("one FILE and one URL at most can be given")
    try:
        url = parse_url(urls[0]) if urls else args.url
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    body, tls = _contents(files[0], args) if files else _event(args), trust(args)
    if url is None:
        url = _own_url(args)
        if tls is USUAL and url.startswith("https:"):
            tls = Tls.of(verify=False)  # its certificate is for another name
    usual = {b"content-type": b"application/json"}
    if args.sign is not None:
        usual |= _headers_of_target(body)
    return Request(url, usual | read_headers(args), body, args.timeout, tls, read_signer(args))


def _own_url(args: argparse.Namespace) -> str:
    """The URL at which a `serve` with the same variables listens for callbacks."""
    if read_setting(args, "port") == 0:
        raise SettingInvalid(f"{SETTINGS['port'].variable}: 0 is not a port to send to; see --url")
    scheme = "http" if read_setting(args, "tls_cert") is None else "https"
    path: Secret = read_setting(args, "path")
    return own_url(args, "host", "port", scheme) + path.reveal()


def _headers_of_target(body: bytes) -> dict[bytes, bytes]:
    """The headers that the router sends besides, except the signature."""
    event_id, (_, key) = new_id().encode(), read_event(body)
    known = {b"x-ebaas-event-key": quote(key, safe="").encode()} if key else {}
    names = {b"x-ebaas-target": NAME.encode(), b"x-request-id": event_id}
    return {b"webhook-id": event_id, **names, **known}


def _contents(file: str, args: argparse.Namespace) -> bytes:
    for name in (*_SAMPLE, "key", "change"):
        if getattr(args, name) is not None:
            raise SettingInvalid(f"--{name}: can't be given with FILE, which is sent as it is")
    try:
        return stdin().read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise SettingInvalid(f"{file!r} can't be read: {error.strerror}") from None


def _event(args: argparse.Namespace) -> bytes:
    given = {name: getattr(args, name) for name in _SAMPLE}
    four = [_SAMPLE[name] if text is None else text for name, text in given.items()]
    key = ".".join(four) if args.key is None else args.key
    event = dict(zip(FIELDS, (*four, key), strict=True))
    if not key:
        del event["event_key"]
    members = {**event, "changes": args.change or _SAMPLE_CHANGES}
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    # An argument that is not UTF-8 is sent with its own bytes.
    return text.encode("utf-8", "surrogateescape")
