"""`send`: plays EBaaS. Also the requests of other commands: credentials, one POST, its response."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from router.cli.options import (
    Exit,
    Help,
    Options,
    Parser,
    heed_ctrl_c,
    parse_url,
    read_file,
    read_setting,
)
from router.cli.printing import NAME, counted, milliseconds, note, say_as
from router.cli.remote import own_url
from router.config.settings import SETTINGS
from router.config.variables import Unresolved, Variables
from router.contract.schedule import PLATFORM, Schedule, parse_duration
from router.contract.signing import Signer, key_of
from router.contract.strictjson import ANSWER, CALLBACK, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, SUCCESS, Reason, new_id
from router.model.secret import Secret
from router.net.tls import USUAL, Tls
from router.transport.engine import Answer, as_it_came, lines_of

SEND = Help(
    about="""Plays EBaaS: POSTs one event to a router, or to a business endpoint, and prints the
    reply. The event is the platform page's sample, with another key or other changes, or is
    FILE ('-' is stdin), sent byte for byte. With --retry a request that fails is repeated as EBaaS
    would, 20 times over 14 hours.""",
    examples="""
        ebaas-router send
        ebaas-router send event.json http://127.0.0.1:9001/callback
        ebaas-router send http://127.0.0.1:9001/callback --sign '${LEDGER_SECRET}'
        ebaas-router send --header 'authorization: Bearer ${TOKEN}'""",
    good="the code was 000; with --retry, the last one",
    bad="any other code, or none",
    interrupted="Ctrl-C ended it",
)

#: The platform page's sample.
SAMPLE_KEY, _SAMPLE_CHANGES = "a.gs.cert.1", ["id1", "id2"]


def parse_key(text: str) -> str:
    if not re.fullmatch(r"[^.]+(\.[^.]+){3}", text) or not text.isprintable():
        raise ValueError(f"{text!r} is not a key (like {SAMPLE_KEY})")
    return text


def configure_send(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="FILE|URL", help="the event's file, and where to send it"
    )
    event = parser.group("the event")
    key = f"its event_key, whose four parts are its other fields (default {SAMPLE_KEY})"
    event.option("--key", "KEY", key, parse_key)
    change = f"one of its changes (default {' and '.join(_SAMPLE_CHANGES)})"
    event.option("--change", "ID", change, many=True)
    request = parser.group("the request")
    url = "where to send it (default where a `serve` with the same variables listens: "
    url += "http://127.0.0.1:8080/callback unless they say otherwise)"
    request.option("--url", "URL", url, parse_url)
    add_header(request, parse_header)
    add_sign(request)
    request.ca()
    request.timeout("one request")
    retries = parser.group("retries")
    retries.switch("--retry", "repeat a failure as EBaaS would")
    waits = "a --retry with these waits, the last of them repeated "
    waits += "(default 1s,3s,7s,30s,60s,300s,3600s)"
    parse = lambda text: tuple(parse_duration(wait.strip()) for wait in text.split(","))  # noqa: E731
    retries.option("--waits", "TIMES", waits, parse)
    parser.format()


def run_send(args: argparse.Namespace) -> int:
    request = _request(args)
    heed_ctrl_c()
    retries = PLATFORM.retries if args.retry or args.waits is not None else 0
    schedule = Schedule(args.waits or PLATFORM.waits, retries)
    try:
        return asyncio.run(_send(schedule, request, args))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


async def _send(schedule: Schedule, request: Request, args: argparse.Namespace) -> int:
    """Send until the code is 000 or the schedule is over, and print each reply."""
    total, made = schedule.retries + 1, 0
    try:
        while True:
            reply = await post(request)
            made += 1
            lead = f"request {made} of {total}: " if total > 1 else ""
            result = {"request": made, "of": total, **reply.as_json()}
            say_as(args.format, [result], [f"{lead}{reply}"])
            if made == 1:
                note_401(reply, args)
            wait = schedule.wait(made - 1)
            if reply.success or wait is None:
                return Exit.GOOD if reply.success else Exit.BAD
            note(f"request {made + 1} of {total}, in {wait:g} s")
            await asyncio.sleep(wait)
    except asyncio.CancelledError:
        note(f"interrupted after {made} of {counted(total, 'request')}")
        raise


def _request(args: argparse.Namespace) -> Request:
    """Return the request of the arguments. Raises SettingInvalid if they contradict each other."""
    urls = [text for text in args.what if "://" in text]
    files = [text for text in args.what if "://" not in text]
    if len(files) > 1 or len(urls) + (args.url is not None) > 1:
        raise SettingInvalid("one FILE and one URL at most can be given")
    try:
        url = parse_url(urls[0]) if urls else args.url
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    for name in ("key", "change"):
        if files and getattr(args, name) is not None:
            raise SettingInvalid(f"--{name}: can't be given with FILE, which is sent as it is")
    body, tls = read_file(files[0]) if files else _event(args), args.ca
    if url is None:
        if read_setting(args, "port") == 0:
            variable = SETTINGS["port"].variable
            raise SettingInvalid(f"{variable}: 0 is not a port to send to; see --url")
        scheme = "http" if read_setting(args, "tls_cert") is None else "https"
        url = own_url(args, "host", "port", scheme) + read_setting(args, "path").reveal()
        if tls is USUAL and url.startswith("https:"):
            tls = Tls.of(verify=False)  # its certificate is for another name
    usual = {b"content-type": b"application/json"}
    if args.sign is not None:
        usual |= _headers_of_target(body)
    return Request(url, usual | read_headers(args), body, args.timeout, tls, read_signer(args))


def _headers_of_target(body: bytes) -> dict[bytes, bytes]:
    """Return the further headers of a target, except the signature."""
    event_id, (_, key) = new_id().encode(), read_event(body)
    known = {b"x-ebaas-event-key": quote(key, safe="").encode()} if key else {}
    names = {b"x-ebaas-target": NAME.encode(), b"x-request-id": event_id}
    return {b"webhook-id": event_id, **names, **known}


def _event(args: argparse.Namespace) -> bytes:
    key = args.key or SAMPLE_KEY
    fields = dict(zip(FIELDS, (*key.split("."), key), strict=True))
    members = {**fields, "changes": args.change or _SAMPLE_CHANGES}
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    # An argument that is not UTF-8 is sent with its own bytes.
    return text.encode("utf-8", "surrogateescape")


# Headers, secrets and signatures.

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x1f\x7f]*)")

#: The headers that belong to the connection.
_FRAMING = {"connection", "content-length", "host", "transfer-encoding"}


def read_secrets(option: str, texts: Iterable[str], secrets_dir: Path | None) -> tuple[Secret, ...]:
    """Return the secrets of an option, with variables replaced. Raises SettingInvalid."""
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


def add_sign(parser: Options) -> None:
    about = "sign it with this secret of a target, written as in routes.yaml, and send all headers "
    parser.option("--sign", "SECRET", f"{about}that a target gets")
    parser.settings("secrets_dir")


def read_signer(args: argparse.Namespace) -> Signer | None:
    """Return the signer of `--sign`, if it is given. Raises SettingInvalid."""
    if args.sign is None:
        return None
    return Signer(read_secrets("--sign", [args.sign], read_setting(args, "secrets_dir")))


def add_header(parser: Options, parse: Callable[[str], tuple[str, str]]) -> None:
    about = "a further header; ${NAME} and ${file:NAME} keep a token out of the command line"
    parser.option("--header", "'NAME: VALUE'", about, parse, many=True, default=[])


def parse_header(text: str) -> tuple[str, str]:
    """Return the name in lower case, and the value with its variables."""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header (like 'x-request-id: 7')")
    name = match[1].lower()
    if name in _FRAMING:
        raise ValueError(f"{name} can't be set: it belongs to the connection")
    return name, match[2]


def read_headers(args: argparse.Namespace) -> dict[bytes, bytes]:
    """Return the headers of `--header`, with variables replaced. Raises SettingInvalid."""
    texts = [text for _, text in args.header]
    values = _resolved("--header", texts, read_setting(args, "secrets_dir"))
    headers = {}
    for (name, _), text in zip(args.header, values, strict=True):
        if _HEADER.fullmatch(f"{name}: {text}") is None:
            raise SettingInvalid(f"--header: {name} has a control character in its value")
        headers[name.encode("ascii")] = text.strip(" \t").encode("utf-8", "surrogateescape")
    return headers


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


# One POST, and its response.

#: The longest text of a response that is shown, in characters.
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Request:
    """A POST. Only its timestamp and signature differ from one sending to the next."""

    url: str
    headers: Mapping[bytes, bytes]
    body: bytes
    timeout: float
    tls: Tls = USUAL
    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The result of one request, also without an answer."""

    seconds: float
    #: The HTTP status, if there was an answer.
    status: int | None = None
    #: The contract's code, `""` if there is none.
    code: str = ""
    msg: str = ""
    request_id: str = ""
    #: The reason for a missing code, in one word and in more.
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
        names = ("code", "msg", "request_id", "status", "reason", "detail")
        facts = {name: getattr(self, name) or None for name in names}
        return {**facts, "ms": milliseconds(self.seconds)}


async def post(request: Request) -> Response:
    """Send a request once, over a connection of its own. A failure is a Response, too."""
    from router.transport.native import NativePool

    pool, started = NativePool(request.url, request.tls), time.perf_counter()
    headers = [*request.headers.items()]
    if request.signer is not None:
        stamp, webhook_id = b"%d" % time.time(), request.headers.get(b"webhook-id", b"")
        signature = request.signer.sign(webhook_id, stamp, request.body)
        headers += [(b"webhook-timestamp", stamp), (b"webhook-signature", signature)]
    try:
        result = await pool.post(lines_of(headers), request.body, request.timeout, as_it_came)
    finally:
        await pool.close()
    seconds = time.perf_counter() - started
    if isinstance(result, Answer):
        return _read(result, seconds)
    url = urlsplit(request.url)
    origin = "" if result.status else f"{url.scheme}://{url.netloc}"
    return Response(
        seconds, result.status, reason=result.reason, detail=result.detail, origin=origin
    )


def _read(answer: Answer, seconds: float) -> Response:
    status = answer.status
    try:
        reply = parse_json(answer.body, ANSWER)
    except Unreadable as error:
        return Response(seconds, status, reason=Reason.NOT_JSON, detail=str(error))
    if not isinstance(reply, dict):
        return Response(seconds, status, reason=Reason.NOT_JSON, detail="not a JSON object")
    texts = [reply.get(name) for name in ("code", "msg", "request_id")]
    code, *others = (text[:_MAX_SHOWN] if isinstance(text, str) else "" for text in texts)
    if not code:
        return Response(seconds, status, reason=Reason.CODE, detail="no code that is a string")
    return Response(seconds, status, code, *others)


def note_401(response: Response, args: argparse.Namespace) -> bool:
    """If the receiver asked for credentials, note how to give them; return whether it did."""
    if response.status != 401 and response.code != "401":
        return False
    headers = getattr(args, "header", None)
    if args.sign is not None or any(name == "authorization" for name, _ in headers or ()):
        note("401: is it the receiver's secret or token, and is its clock right?")
    else:
        token = "" if headers is None else ", or --header 'authorization: Bearer ${NAME}'"
        note(f"401: sign it with --sign SECRET{token}")
    return True
