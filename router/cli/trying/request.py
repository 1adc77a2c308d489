"""Requests of commands: headers, secrets and signatures from options, one POST, its response."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from router.cli.options import add_settings, read_setting, value
from router.cli.printing import NAME, milliseconds, note
from router.cli.remote import trust
from router.config.variables import Unresolved, Variables
from router.contract.replies import is_sane
from router.contract.signing import Signer, key_of
from router.contract.strictjson import ANSWER, CALLBACK, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, SUCCESS, Reason, new_id
from router.model.secret import Secret
from router.net.tls import USUAL, Tls
from router.transport.engine import Answer, Failure, as_it_came, lines_of

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x1f\x7f]*)")

#: The headers that belong to the connection.
_FRAMING = {"connection", "content-length", "host", "transfer-encoding"}

#: The longest text of a response that is shown, in characters.
_MAX_SHOWN = 200


def read_secrets(option: str, texts: Iterable[str], secrets_dir: Path | None) -> tuple[Secret, ...]:
    """The secrets of an option, with variables replaced. Raises SettingInvalid."""
    secrets = tuple(map(Secret, _resolved(option, texts, secrets_dir)))
    try:
        for secret in secrets:
            key_of(secret)
    except UnicodeError:  # its text would contain a part of the secret
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
    """Add `--sign`, which `read_signer` reads."""
    parser.add_argument(
        "--sign",
        metavar="SECRET",
        help="sign it with this secret of a target, written as in routes.yaml, and send all "
        "headers that a target gets",
    )
    add_settings(parser, "secrets_dir")


def add_header(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    parse: Callable[[str], tuple[str, str]],
) -> None:
    """Add `--header`, which `read_headers` reads."""
    parser.add_argument(
        "--header",
        action="append",
        type=value(parse),
        default=[],
        metavar="'NAME: VALUE'",
        help="a further header; ${NAME} and ${file:NAME} keep a token out of the command line; "
        "may be repeated",
    )


def read_signer(args: argparse.Namespace) -> Signer | None:
    """The signer of `--sign`, if it is given. Raises SettingInvalid."""
    if args.sign is None:
        return None
    return Signer(read_secrets("--sign", [args.sign], read_setting(args, "secrets_dir")))


def parse_header(text: str) -> tuple[str, str]:
    """A name in lower case, and a value with its variables."""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header (like 'x-request-id: 7')")
    name = match[1].lower()
    if name in _FRAMING:
        raise ValueError(f"{name} can't be set: it belongs to the connection")
    return name, match[2]


def read_headers(args: argparse.Namespace) -> dict[bytes, bytes]:
    """The headers of `--header`, with variables replaced. Raises SettingInvalid."""
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


def read_event(body: bytes) -> tuple[bool, str]:
    """Return whether a body is JSON, and its event key, given or derived, `""` if none."""
    try:
        event = parse_json(body, CALLBACK)
    except Unreadable:
        return False, ""
    if not isinstance(event, dict):
        return True, ""
    *four, key = (event.get(name) for name in FIELDS)
    if key and isinstance(key, str):
        return True, key
    return True, ".".join(map(str, four)) if all(isinstance(text, str) for text in four) else ""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST. Only its timestamp and signature differ from one sending to the next."""

    url: str
    headers: Mapping[bytes, bytes]
    body: bytes
    timeout: float
    tls: Tls = USUAL
    signer: Signer | None = None


def read_copies(url: str, args: argparse.Namespace) -> Request:
    """A request to a URL of one's own, still without an event. Raises SettingInvalid."""
    return Request(url, {}, b"", args.timeout, trust(args), read_signer(args))


def copy_of(request: Request, event: Mapping[str, Any], body: str, by: str) -> Request:
    """The request with a copy of an event, marked with the command that sends it.

    A receiver that deduplicates by `webhook-id` does not take it for the event: the id has a
    prefix. An id or a key from a router cannot add a header.
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
    """The text in UTF-8; a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Response:
    """The result of one request, also if there was no answer."""

    seconds: float
    #: The HTTP status, if there was an answer.
    status: int | None = None
    #: The contract's code, `""` if there is none.
    code: str = ""
    msg: str = ""
    request_id: str = ""
    #: Why there is no code, in one word and in more.
    reason: str = ""
    detail: str = ""
    #: The URL without its path, which may be a secret, if there was no answer.
    origin: str = ""

    @property
    def success(self) -> bool:
        return self.code == SUCCESS

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


async def post(request: Request) -> Response:
    """Send a request once, over a connection of its own. A failure is a Response, too."""
    from router.transport.native import NativePool

    pool, started = NativePool(request.url, request.tls), time.perf_counter()
    lines = lines_of([*request.headers.items(), *_signature(request)])
    try:
        result = await pool.post(lines, request.body, request.timeout, as_it_came)
    finally:
        await pool.close()
    seconds = time.perf_counter() - started
    if isinstance(result, Answer):
        return _read(result, seconds)
    return _failed(result, request.url, seconds)


def _signature(request: Request) -> list[tuple[bytes, bytes]]:
    if request.signer is None:
        return []
    stamp, webhook_id = b"%d" % time.time(), request.headers.get(b"webhook-id", b"")
    signature = request.signer.sign(webhook_id, stamp, request.body)
    return [(b"webhook-timestamp", stamp), (b"webhook-signature", signature)]


def _failed(failure: Failure, url: str, seconds: float) -> Response:
    parts, reason, detail = urlsplit(url), failure.reason, failure.detail
    origin = "" if failure.status else f"{parts.scheme}://{parts.netloc}"
    return Response(seconds, failure.status, reason=reason, detail=detail, origin=origin)


def _read(answer: Answer, seconds: float) -> Response:
    status = answer.status
    try:
        reply = parse_json(answer.body, ANSWER)
    except Unreadable as error:
        return Response(seconds, status, reason=Reason.NOT_JSON, detail=str(error))
    if not isinstance(reply, dict):
        return Response(seconds, status, reason=Reason.NOT_JSON, detail="not a JSON object")
    code, *others = (_shown(reply.get(name)) for name in ("code", "msg", "request_id"))
    if not code:
        return Response(seconds, status, reason=Reason.CODE, detail="no code that is a string")
    return Response(seconds, status, code, *others)


def _shown(text: object) -> str:
    return text[:_MAX_SHOWN] if isinstance(text, str) else ""


def note_401(response: Response, args: argparse.Namespace) -> bool:
    """Say how to give credentials, if the receiver asked for some; return whether it did."""
    if response.status != 401 and response.code != "401":
        return False
    if args.sign is not None:
        note("401: is --sign the receiver's secret, and is its clock right?")
    elif any(name == "authorization" for name, _ in getattr(args, "header", ())):
        note("401: is the token of --header the one that the receiver expects?")
    elif hasattr(args, "header"):
        note("401: sign it with --sign SECRET, or --header 'authorization: Bearer ${NAME}'")
    else:
        note("401: sign it with --sign SECRET")
    return True
