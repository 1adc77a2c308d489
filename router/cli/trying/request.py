"""What `send` sends, each time the same: from its arguments to a URL, headers and bytes."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from router.cli.asking import own_url
from router.cli.options import (
    STDIN,
    add_settings,
    add_timeout,
    parse_url,
    read_setting,
    stdin,
    value,
)
from router.cli.printing import NAME
from router.cli.trust import add_ca, trust
from router.cli.trying.secrets import read_secrets
from router.cli.trying.standin import read_event
from router.config.settings import SETTINGS
from router.contract.signing import Signer
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, new_id
from router.model.secret import Secret
from router.net.client_tls import USUAL, Tls

#: The platform page's sample: what the event's options are unless they are given.
_SAMPLE = {"source": "a", "topic": "gs", "type": "cert", "status": "1"}
_SAMPLE_CHANGES = ["id1", "id2"]

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x1f\x7f]*)")
#: What the connection's own code writes.
_FRAMING = {"connection", "content-length", "host", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, each time the same."""

    url: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    timeout: float
    #: Whom an https URL has to be vouched for by.
    tls: Tls = USUAL
    #: What signs each request anew, as the router signs what it sends to a target.
    signer: Signer | None = None


def parse_header(text: str) -> tuple[bytes, bytes]:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header (like 'x-request-id: 7')")
    name = match[1].lower()
    if name in _FRAMING:
        raise ValueError(f"{name} can't be set: it belongs to the connection")
    return name.encode("ascii"), match[2].rstrip().encode("utf-8", "surrogateescape")


def add_request(parser: argparse.ArgumentParser) -> None:
    """The options that `read_request` reads."""
    parser.add_argument(
        "what", nargs="*", metavar="FILE|URL", help="the event's file, and where to send it"
    )
    _add_event(parser)
    _add_exchange(parser)


def _add_event(parser: argparse.ArgumentParser) -> None:
    event = parser.add_argument_group("the event")
    for name, default in _SAMPLE.items():
        event.add_argument(
            f"--{name}", metavar="TEXT", help=f"its event_{name} (default {default})"
        )
    event.add_argument(
        "--key", help="its event_key (default the four joined by dots; '' leaves it out)"
    )
    event.add_argument(
        "--change",
        action="append",
        metavar="ID",
        help=f"one of its changes; may be repeated (default {' and '.join(_SAMPLE_CHANGES)})",
    )


def _add_exchange(parser: argparse.ArgumentParser) -> None:
    request = parser.add_argument_group("the request")
    request.add_argument(
        "--url",
        type=value(parse_url),
        help="where to send it (default where a `serve` with the same variables listens: "
        "http://127.0.0.1:8080/callback unless they say otherwise)",
    )
    request.add_argument(
        "--header",
        action="append",
        type=value(parse_header),
        default=[],
        metavar="'NAME: VALUE'",
        help="sent besides content-type; may be repeated",
    )
    request.add_argument(
        "--sign",
        metavar="SECRET",
        help="sign it by this secret of a target, written as in routes.yaml, and send all headers "
        "that a target gets",
    )
    add_settings(request, "secrets_dir")
    add_ca(request)
    add_timeout(request, "one request")


def read_request(args: argparse.Namespace) -> Request:
    """The request that the arguments order; SettingInvalid where they contradict each other."""
    urls = [text for text in args.what if "://" in text]
    files = [text for text in args.what if "://" not in text]
    if len(files) > 1 or len(urls) + (args.url is not None) > 1:
        raise SettingInvalid("one FILE and one URL at most can be given")
    try:
        url = parse_url(urls[0]) if urls else args.url
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    body, tls = _body(args, *files), trust(args)
    if url is None:
        url = _own_url(args)
        if tls is USUAL and url.startswith("https:"):
            tls = Tls.of(verify=False)  # its certificate is for another name
    usual = {
        b"content-type": b"application/json",
        **(_headers_of_target(body) if args.sign is not None else {}),
    }
    headers = tuple({**usual, **dict(args.header)}.items())
    return Request(url, headers, body, args.timeout, tls, _signer(args))


def _own_url(args: argparse.Namespace) -> str:
    """Where a `serve` with the same variables takes callbacks."""
    if read_setting(args, "port") == 0:
        raise SettingInvalid(f"{SETTINGS['port'].variable}: 0 is no port to send to; see --url")
    scheme = "http" if read_setting(args, "tls_cert") is None else "https"
    path: Secret = read_setting(args, "path")
    return own_url(args, "host", "port", scheme) + path.reveal()


def _signer(args: argparse.Namespace) -> Signer | None:
    if args.sign is None:
        return None
    return Signer(read_secrets("--sign", [args.sign], read_setting(args, "secrets_dir")))


def _headers_of_target(body: bytes) -> dict[bytes, bytes]:
    """What the router would send besides, but for what each request has anew."""
    event_id, (_, key) = new_id().encode(), read_event(body)
    known = {b"x-ebaas-event-key": quote(key, safe="").encode()} if key else {}
    named = {b"x-ebaas-target": NAME.encode(), b"x-request-id": event_id}
    return {b"webhook-id": event_id, **named, **known}


def _body(args: argparse.Namespace, file: str | None = None) -> bytes:
    if file is None:
        return _event(args)
    for name in (*_SAMPLE, "key", "change"):
        if getattr(args, name) is not None:
            raise SettingInvalid(f"--{name}: can't be given with FILE, which is sent as it is")
    return _contents(file)


def _contents(file: str) -> bytes:
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
    # An argument that was no UTF-8 goes out as the bytes that it was.
    return text.encode("utf-8", "surrogateescape")
