"""The client of `probe`, and the receiver that it tries."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from router.cli.options import (
    add_settings,
    parse_url,
    parse_wait,
    read_setting,
    require_target,
    value,
)
from router.cli.printing import NAME
from router.cli.remote import add_ca, trust
from router.cli.trying.request import parse_header, read_headers, read_secrets, secrets_of
from router.cli.wording import Wording
from router.config.loading import load
from router.config.schema import is_own
from router.config.settings import parse_file
from router.contract.schedule import PLATFORM, Schedule
from router.contract.signing import KEY_PREFIX, Signer
from router.delivery.target.judge import judge
from router.delivery.target.lane import usual_lines
from router.delivery.target.sender import addressed
from router.model.errors import SettingInvalid, why_not
from router.model.event import FIELDS, Attempt, Event, OutboundEvent, new_id
from router.model.secret import Secret
from router.routing.target import Target
from router.transport.engine import Answer, Failure, as_it_came, lines_of
from router.transport.native import NativePool, Posted, TargetConnection, target_and_host

_JSON = b"content-type: application/json\r\n"

#: What the router takes at most, unless told otherwise, in bytes.
_LARGE = 1024 * 1024

#: By which secret a sample is signed: the receiver's, another and then the receiver's, another's
#: alone, none.
Signed = Literal["right", "rotated", "wrong", "not"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, the same each time that it is sent, but for its time."""

    event_key: str
    body: bytes
    #: What comes as `webhook-id`.
    event_id: str = field(default_factory=new_id)
    content_type: str = "application/json"
    signed: Signed = "right"
    #: How many seconds ago it was signed.
    age: float = 0.0
    #: More header lines.
    lines: bytes = b""


class Samples:
    """Events with one key. What they have changed are ids that nobody takes for real ones."""

    def __init__(self, key: str) -> None:
        """The key is four fields joined by dots."""
        self.key = key
        fields = dict(zip(FIELDS, (*key.split("."), key), strict=True))
        self._usual = {**fields, "changes": ["probe-1"]}

    def event(self, **fields: Any) -> Sample:
        """One with these fields instead; `...` leaves one out."""
        members = {name: value for name, value in (self._usual | fields).items() if value != ...}
        texts = {name: text for name, text in members.items() if isinstance(text, str)}
        return Sample(Event.of(texts).event_key, _encoded(members))

    def large(self) -> Sample:
        """One of the most bytes that the router takes: as many ids as have room, and blanks."""
        few = _encoded(self._usual)
        ids = [f"probe-{number:030}" for number in range((_LARGE - len(few)) // 39)]
        whole = _encoded(self._usual | {"changes": ids})
        return Sample(self.key, whole + b" " * (_LARGE - len(whole)))

    def raw(self, body: bytes, content_type: str = "application/json") -> Sample:
        """What is no event, with an event's headers."""
        return Sample(self.key, body, content_type=content_type)


def _encoded(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of those checks that have some."""

    #: How many requests are timed.
    requests: int = 20
    #: How many are sent at a time.
    at_once: int = 20
    #: How long a connection is left alone, in seconds.
    idle: float = 1.0


class Trial(NamedTuple):
    """How one request went: what came, and what the router makes of it."""

    result: Answer | Failure
    attempt: Attempt
    #: Whether the answer let its connection live, where that was asked.
    lives: bool = False


class Client:
    """Sends to one target what the router would, but for what a sample has otherwise.

    It has connections of its own, which end with it.
    """

    def __init__(self, target: Target, samples: Samples, effort: Effort, words: Wording) -> None:
        """`words` are those in which checks tell what they have found."""
        self.words = words
        self.target = target
        self.samples = samples
        self.effort = effort
        self._pool = NativePool(target.url, target.tls, target.egress)
        self._usual = usual_lines(target)
        other = Secret(KEY_PREFIX + base64.b64encode(os.urandom(24)).decode())
        right = target.secret
        by = {"right": right, "rotated": (other, *right), "wrong": (other,)} if right else {}
        self._signers = {signed: Signer(secrets) for signed, secrets in by.items()}

    async def send(self, sample: Sample) -> Trial:
        """One POST, by any connection."""
        lines, started = self._lines(sample), time.perf_counter()
        posted = self._pool.post(lines, sample.body, self.target.timeout, as_it_came)
        return self._judged(await posted, started)

    async def connect(self) -> TargetConnection | Failure:
        """A connection, for `ask`."""
        return await self._pool.open(self._deadline())

    async def ask(
        self, connection: TargetConnection, sample: Sample, method: bytes = b"POST"
    ) -> Trial:
        """One request by this connection, which has to be idle."""
        path, host = target_and_host(self.target.url)
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, path, host)
        length = b"content-length: %d\r\n\r\n" % len(sample.body)
        head, started = start + self._lines(sample) + length, time.perf_counter()

        def read(result: Answer | Failure) -> Trial:
            return self._judged(result, started)._replace(lives=connection.is_idle)

        exchange = Posted(read, head, sample.body, self._deadline())
        connection.begin(exchange)
        return await exchange

    def judged(self, failure: Failure) -> Attempt:
        """What the router makes of a connection that did not come about."""
        return judge(failure, self.target, 0.0, time.time())

    async def aclose(self) -> None:
        await self._pool.close()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.target.timeout

    def _judged(self, result: Answer | Failure, started: float) -> Trial:
        seconds = time.perf_counter() - started
        return Trial(result, judge(result, self.target, seconds, time.time()))

    def _lines(self, sample: Sample) -> bytes:
        event = Event.of({"event_key": sample.event_key})
        head = addressed(OutboundEvent.of(event, new_id()), sample.event_id).head
        head = head.replace(_JSON, lines_of([(b"content-type", sample.content_type.encode())]))
        stamp = b"%d" % (time.time() - sample.age)
        signed = [(b"webhook-timestamp", stamp)]
        signer = self._signers.get(sample.signed)
        if signer is not None:
            signature = signer.sign(sample.event_id.encode(), stamp, sample.body)
            signed.append((b"webhook-signature", signature))
        return head + lines_of(signed) + self._usual + sample.lines


#: The options that routes.yaml has the say in where --target is given, each with its default.
_OF_A_URL: Mapping[str, Any] = {
    "header": [], "ca": None, "timeout": None, "acknowledge": None, "secret": [],
    "secret_file": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Receiver:
    target: Target
    #: The URL as it may be printed.
    shown: str
    #: Who sends it an event again that it has not acknowledged, and when.
    sender: Literal["ebaas", "queue", "somebody"]
    schedule: Schedule


def parse_own_header(text: str) -> tuple[str, str]:
    """One that a target may have in routes.yaml."""
    name, content = parse_header(text)
    if is_own(name):
        raise ValueError(f"{name} is set by the router alone")
    return name, content


def add_receiver(parser: argparse.ArgumentParser) -> None:
    """What `read_receiver` reads."""
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the endpoint, as the router calls it"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="instead of URL and all below: what routes.yaml has of it"
    )
    add_settings(parser, "config", "secrets_dir")
    of_url = parser.add_argument_group("of a URL")
    of_url.add_argument(
        "--secret",
        action="append",
        metavar="SECRET",
        default=[],
        help="sign by it; written as in routes.yaml: whsec_…, or ${NAME} and ${file:NAME} that "
        "keep it out of the command line; twice for two that sign",
    )
    of_url.add_argument(
        "--secret-file", type=value(parse_file), metavar="FILE", help="sign by what is in it"
    )
    of_url.add_argument(
        "--header",
        action="append",
        type=value(parse_own_header),
        default=[],
        metavar="'NAME: VALUE'",
        help="sent besides the router's own; its variables are replaced; may be repeated",
    )
    of_url.add_argument(
        "--timeout",
        type=value(parse_wait),
        metavar="TIME",
        help="how long one answer may take (default 5s)",
    )
    of_url.add_argument(
        "--acknowledge",
        choices=("code", "status"),
        help="what counts: a 2xx with code 000, or any 2xx (default code)",
    )
    add_ca(of_url)


def read_receiver(args: argparse.Namespace) -> Receiver:
    """Raises SettingInvalid for arguments, and ConfigInvalid for a routes.yaml, of no use."""
    if (args.url is None) == (args.target is None):
        raise SettingInvalid("URL or --target NAME has to be given, and not both")
    return _by_url(args) if args.target is None else _by_name(args)


def _by_url(args: argparse.Namespace) -> Receiver:
    try:
        url = parse_url(args.url)
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    said = {name: getattr(args, name) for name in ("timeout", "acknowledge")}
    target = Target(
        NAME,
        url,
        **{name: each for name, each in said.items() if each is not None},
        headers=tuple(
            (name.decode(), Secret(text.decode("latin-1")))
            for name, text in read_headers(args).items()
        ),
        secret=_secrets(args),
        tls=trust(args),
    )
    return Receiver(target, url, "somebody", PLATFORM)


def _by_name(args: argparse.Namespace) -> Receiver:
    for name, absent in _OF_A_URL.items():
        if getattr(args, name) != absent:
            option = f"--{name.replace('_', '-')}"
            raise SettingInvalid(f"{option}: can't be given with --target: routes.yaml has it")
    config = load(read_setting(args, "config"), os.environ, read_setting(args, "secrets_dir"))
    require_target(args.target, config.table.targets, "routes.yaml")
    target = config.table.targets[args.target]
    if any(target.name in route.required for route in config.table.routes):
        return Receiver(target, target.public_url, "ebaas", config.ebaas.schedule)
    return Receiver(target, target.public_url, "queue", config.queue)


def _secrets(args: argparse.Namespace) -> tuple[Secret, ...]:
    given = read_secrets("--secret", args.secret, read_setting(args, "secrets_dir"))
    path: Path | None = args.secret_file
    if path is None:
        return given
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = why_not(path, error) if isinstance(error, OSError) else "is no text in UTF-8"
        raise SettingInvalid(f"--secret-file: {str(path)!r} can't be read: {why}") from None
    return (*given, *secrets_of("--secret-file", [text]))
