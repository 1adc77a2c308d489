"""Requests that commands send: their options, signatures, and the client."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from router.cli.options import (
    STDIN,
    add_settings,
    add_timeout,
    parse_url,
    read_setting,
    stdin,
    value,
)
from router.cli.printing import NAME, milliseconds, note
from router.cli.remote import add_ca, own_url, trust
from router.cli.trying.standin import read_event
from router.config.settings import SETTINGS
from router.config.variables import Unresolved, Variables
from router.contract.signing import Signer, key_of
from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, SUCCESS, Reason, new_id
from router.model.secret import Secret
from router.net.tls import USUAL, Tls
from router.transport.engine import Answer, Failure, Pool, as_it_came, lines_of

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x1f\x7f]*)")
#: What the connection's own code writes.
_FRAMING = {"connection", "content-length", "host", "transfer-encoding"}


def read_secrets(option: str, texts: Iterable[str], secrets_dir: Path | None) -> tuple[Secret, ...]:
    """What the texts stand for, variables replaced; SettingInvalid where one is no secret."""
    return secrets_of(option, _resolved(option, texts, secrets_dir))


def secrets_of(option: str, texts: Iterable[str]) -> tuple[Secret, ...]:
    """The same, of texts as they are."""
    secrets = tuple(map(Secret, texts))
    try:
        for secret in secrets:
            key_of(secret)
    except UnicodeError:  # its own words would have a part of the secret
        raise SettingInvalid(f"{option}: is not UTF-8") from None
    except ValueError as error:
        raise SettingInvalid(f"{option}: {error}") from None
    return secrets


def _resolved(option: str, texts: Iterable[str], secrets_dir: Path | None) -> list[str]:
    variables = Variables(os.environ, secrets_dir)
    try:
        return [variables.resolve(text) for text in texts]
    except Unresolved as error:
        raise SettingInvalid(f"{option}: {error}") from None


def add_sign(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--sign`, which `read_signer` reads."""
    parser.add_argument(
        "--sign",
        metavar="SECRET",
        help="sign it by this secret of a target, written as in routes.yaml, and send all headers "
        "that a target gets",
    )
    add_settings(parser, "secrets_dir")


def read_signer(args: argparse.Namespace) -> Signer | None:
    """None where nothing is to be signed. Raises SettingInvalid."""
    if args.sign is None:
        return None
    return Signer(read_secrets("--sign", [args.sign], read_setting(args, "secrets_dir")))


def parse_header(text: str) -> tuple[str, str]:
    """A name in lower case, and a value whose variables are still to be replaced."""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header (like 'x-request-id: 7')")
    name = match[1].lower()
    if name in _FRAMING:
        raise ValueError(f"{name} can't be set: it belongs to the connection")
    return name, match[2]


def read_headers(args: argparse.Namespace) -> dict[bytes, bytes]:
    """The headers of `--header`, variables replaced. Raises SettingInvalid."""
    names = [name for name, _ in args.header]
    texts = [text for _, text in args.header]
    values = _resolved("--header", texts, read_setting(args, "secrets_dir"))
    for name, text in zip(names, values, strict=True):
        if _HEADER.fullmatch(f"{name}: {text}") is None:
            raise SettingInvalid(f"--header: {name} has a control character in its value")
    return {
        name.encode("ascii"): text.strip(" \t").encode("utf-8", "surrogateescape")
        for name, text in zip(names, values, strict=True)
    }


def note_401(response: Response, args: argparse.Namespace) -> bool:
    """Say how to prove who is sending, where the receiver asked for that; whether it did."""
    if response.status != 401 and response.code != "401":
        return False
    if args.sign is not None:
        note("401: is --sign the secret by which the receiver verifies, and is its clock right?")
    elif any(name == "authorization" for name, _ in getattr(args, "header", ())):
        note("401: is the token of --header the one that the receiver wants?")
    elif hasattr(args, "header"):
        note(
            "401: to sign it, --sign SECRET; for a token, --header 'authorization: Bearer ${NAME}'"
        )
    else:
        note("401: to sign it, --sign SECRET")
    return True


#: The platform page's sample: what the event's options are unless they are given.
_SAMPLE = {"source": "a", "topic": "gs", "type": "cert", "status": "1"}
_SAMPLE_CHANGES = ["id1", "id2"]


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
        help="sent besides content-type; ${NAME} and ${file:NAME} keep a token out of the command "
        "line; may be repeated",
    )
    add_sign(request)
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
    headers = tuple({**usual, **read_headers(args)}.items())
    return Request(url, headers, body, args.timeout, tls, read_signer(args))


def _own_url(args: argparse.Namespace) -> str:
    """Where a `serve` with the same variables takes callbacks."""
    if read_setting(args, "port") == 0:
        raise SettingInvalid(f"{SETTINGS['port'].variable}: 0 is no port to send to; see --url")
    scheme = "http" if read_setting(args, "tls_cert") is None else "https"
    path: Secret = read_setting(args, "path")
    return own_url(args, "host", "port", scheme) + path.reveal()


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


#: The most that is shown of a text that the other side chose, in characters.
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Response:
    """How one request ended, as its caller sees it."""

    seconds: float
    #: The HTTP status, where one came.
    status: int | None = None
    #: The contract's code, `""` where none came.
    code: str = ""
    msg: str = ""
    request_id: str = ""
    #: One word for why no code came; more of it for people.
    reason: str = ""
    detail: str = ""
    #: Who was to send it, where nothing came: a URL without its path, which may be a secret.
    origin: str = ""

    @property
    def success(self) -> bool:
        return self.code == SUCCESS

    @property
    def word(self) -> str:
        """The code, or the reason why there is none: what replies are counted by."""
        return self.code or self.reason

    def __str__(self) -> str:
        facts = [f"code {self.code}" if self.code else f"no contract reply: {self.reason}"]
        facts += [text for text in (self.msg, self.detail, self.origin) if text]
        if self.request_id:
            facts.append(f"request_id {self.request_id}")
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        return ", ".join((*facts, f"{milliseconds(self.seconds)} ms"))

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code or None,
            "msg": self.msg or None,
            "request_id": self.request_id or None,
            "status": self.status,
            "reason": self.reason or None,
            "detail": self.detail or None,
            "ms": milliseconds(self.seconds),
        }


class Ebaas:
    """Sends the same request as often as it is told to."""

    def __init__(self, pool: Pool, request: Request) -> None:
        self._pool = pool
        self._request = request
        self._lines = lines_of(request.headers)
        self._webhook_id = dict(request.headers).get(b"webhook-id", b"")

    async def call(self) -> Response:
        """One request and its reply; whatever goes wrong is a Response too."""
        started = time.perf_counter()
        request, lines = self._request, self._lines + self._signature()
        result = await self._pool.post(lines, request.body, request.timeout, as_it_came)
        seconds = time.perf_counter() - started
        if isinstance(result, Failure):
            origin = _origin(request.url) if result.status is None else ""
            return Response(
                seconds, result.status, reason=result.reason, detail=result.detail, origin=origin
            )
        return _read(result, seconds)

    def _signature(self) -> bytes:
        """The headers that each request has anew; none where it is not to be signed."""
        signer, body = self._request.signer, self._request.body
        if signer is None:
            return b""
        stamp = b"%d" % time.time()
        signature = signer.sign(self._webhook_id, stamp, body)
        return lines_of(((b"webhook-timestamp", stamp), (b"webhook-signature", signature)))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(answer: Answer, seconds: float) -> Response:
    try:
        told = parse_json(answer.body, ANSWER)
    except Unreadable as error:
        return Response(seconds, answer.status, reason=Reason.NOT_JSON, detail=str(error))
    if not isinstance(told, dict):
        return Response(seconds, answer.status, reason=Reason.NOT_JSON, detail="no JSON object")
    code = told.get("code")
    if not isinstance(code, str) or not code:
        return Response(
            seconds, answer.status, reason=Reason.CODE, detail="no code that is a string"
        )
    return Response(
        seconds,
        answer.status,
        _shown(code),
        _shown(told.get("msg")),
        _shown(told.get("request_id")),
    )


def _shown(text: object) -> str:
    return text[:_MAX_SHOWN] if isinstance(text, str) else ""
