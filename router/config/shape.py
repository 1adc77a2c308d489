"""What may be in routes.yaml and below routes.d: every section and key, its kind, its default, its
description.

The loader reads by these declarations, and the editor's schema is made of them.
"""

from __future__ import annotations

from typing import Literal

from router.config.access import TOKEN, TOKEN_HEADER, Cidr
from router.config.addresses import Url
from router.config.containment import BreakerSection, RateSection
from router.config.document import Node, ScalarNode
from router.config.egress import EgressKind
from router.config.headers import HeaderName
from router.config.kinds import (
    Boolean,
    Choice,
    Duration,
    ListOf,
    Located,
    MapOf,
    Number,
    SecretText,
    Text,
)
from router.config.matching import MatchKind
from router.config.reader import Fault, Reader, Schema
from router.config.section import Key, Section, Switch
from router.config.signatures import SigningSecret
from router.config.tls import TlsKind
from router.contract.schedule import parse_duration
from router.net.access import AUTHORIZATION
from router.net.egress import ANYWHERE
from router.net.tls import USUAL

Unmatched = Literal["reject", "accept"]
HttpStatus = Literal["mirror", "ok"]
Acknowledge = Literal["code", "status"]

TARGET_NAME = Text(
    "a target's name (letters, digits, then also _ . -)",
    pattern="[A-Za-z0-9][A-Za-z0-9_.-]*",
    longest=64,
)
HEADER_VALUE = SecretText(
    "a header's value (ASCII, no blanks around it)", pattern="[!-~]([ -~]*[!-~])?", longest=8192
)

_TARGETS = ListOf(Located(Text("a target's name", longest=64)))
_WAITS = ["1s", "3s", "7s", "30s", "60s", "300s", "3600s"]


class OwnerName(Text):
    """Who a file belongs to, as written: problems name it, so no variable can stand for it."""

    def __init__(self) -> None:
        super().__init__("an owner")

    def read(self, node: Node, path: str, reader: Reader) -> str:
        if isinstance(node, ScalarNode) and "$" in node.text:
            raise Fault("no variable can stand for an owner, and no $ be in it")
        return super().read(node, path, reader)

    def schema(self) -> Schema:
        return {**super().schema(), "pattern": r"^[^$]+$"}


def _duration(about: str, default: str, least: str, most: str) -> Key[float]:
    kind = Duration(least, most)
    return Key(kind, about, default=parse_duration(default), written=default)


def _waits(about: str) -> Key[tuple[float, ...]]:
    kind = ListOf(Duration("1ms", "168h"))
    return Key(kind, about, default=tuple(map(parse_duration, _WAITS)), written=_WAITS)


def _retries(about: str) -> Key[int]:
    return Key(Number(0, 1000), about, default=20)


class EbaasSection(Section):
    reply_within = _duration(
        "EBaaS always has its reply by then. Keep it below EBaaS's own timeout.",
        "8s", least="1ms", most="10m",
    )  # fmt: skip
    retries = _retries("How often EBaaS sends an event again that it got no 000 for.")
    waits = _waits("How long EBaaS waits before each of its retries; the last one repeats.")
    grace = _duration(
        "How much later than its schedule says a retry of EBaaS may come.",
        "60s", least="0s", most="24h",
    )  # fmt: skip
    http_status: Key[HttpStatus] = Key(
        Choice("mirror", "ok"),
        "The HTTP status of replies: the code's own, or 200 whatever the code is.",
        default="mirror",
    )
    token = Key(
        ListOf(TOKEN, alone=True),
        "What EBaaS has to send to come in, as `authorization: Bearer TOKEN`; while one replaces "
        "another, a list of both. Keep it out of the file: ${file:NAME}.",
        default=(),
    )
    token_header = Key(
        TOKEN_HEADER,
        "Another header that has the token, and nothing but the token.",
        default=AUTHORIZATION,
    )
    allow_from = Key(
        ListOf(Cidr(), alone=True),
        "The networks that EBaaS may call from, IPv4 or IPv6; anybody else gets 403. Which proxies "
        "are in front of the router --trusted-proxies says.",
        default=(),
    )
    silent_after: Key[float | None] = Key(
        Duration("1s", "720h"),
        "For how long no event may come before that is told, as an event of the router's own: "
        "ebaas-router.events.silent.",
        default=None,
    )


class QueueSection(Section):
    retries = _retries("How often an optional target is tried again before it is a dead letter.")
    waits = _waits("How long to wait before each of these retries; the last one repeats.")


class Policy(Section):
    """How any target is treated."""

    timeout = _duration(
        "The longest that one attempt may take, from connecting to the last byte.",
        "5s", least="1ms", most="10m",
    )  # fmt: skip
    acknowledge: Key[Acknowledge] = Key(
        Choice("code", "status"),
        'What counts as acknowledged: a 2xx whose JSON has code "000", or any 2xx (status).',
        default="code",
    )
    max_in_flight = Key(
        Number(1, 10_000),
        "The most attempts that one process has in flight to the target.",
        default=64,
    )
    breaker: Key[BreakerSection | None] = Key(
        Switch(BreakerSection),
        "Spares a target that fails: it then gets no attempts for a while, and after that a single "
        "one. true has all as it is by default.",
        default=None,
    )


class TargetSection(Policy):
    url = Key(
        Url(),
        "Where events are POSTed to: http:// or https://, without a password.",
        default="",
        required=True,
    )
    headers = Key(
        MapOf(HeaderName(), HEADER_VALUE),
        "Sent with every attempt, besides the router's own. Keep secrets out of the file: "
        "${file:NAME} or ${NAME}.",
        default={},
    )
    secret = Key(
        ListOf(SigningSecret(), alone=True),
        "Signs every attempt as Standard Webhooks has it: whsec_ and base64, or any text. With a "
        "list all of them sign, so that a receiver can change from one to the other. Keep it out "
        "of the file: ${file:NAME} or ${NAME}.",
        default=(),
    )
    rate: Key[RateSection | None] = Key(
        RateSection, "How often each process of the router may call the target.", default=None
    )
    paused = Key(
        Boolean(),
        "No attempt is made: optional deliveries wait in the queue, events that require the target "
        "fail.",
        default=False,
    )
    owner = Key(
        Text("a string"), "Who answers for the target; repeated in logs and alerts.", default=""
    )
    tls = Key(
        TlsKind(),
        "How TLS is spoken to the target, where that is not as to everybody else.",
        default=USUAL,
    )


class RouteSection(Section):
    name = Key(
        Text("a string"), "What the route is called in logs; unique.", default="", required=True
    )
    match = Key(
        MatchKind(),
        "A pattern for the key (* any run of characters, ? one, [abc] one of a set), a list of "
        "them, or a mapping from fields to patterns.",
        default={},
        required=True,
    )
    required = Key(
        _TARGETS, "Targets that have to acknowledge before EBaaS gets its 000.", default=()
    )
    optional = Key(_TARGETS, "Targets whose failure EBaaS never hears of.", default=())

    @classmethod
    def schema(cls) -> Schema:
        either = [{"required": [key]} for key in ("required", "optional")]
        return {**super().schema(), "anyOf": either}


_VERSION = Number(1, 1, "1, the only version there is")
_TARGETS_BY_NAME = MapOf(TARGET_NAME, TargetSection)
_ABOUT_TARGETS = "Where events can go, by name."
_ABOUT_ROUTES = (
    "What goes where. Every route that matches counts, and their order means nothing; a target "
    "that any of them requires is required."
)


class RoutesFile(Section):
    version = Key(_VERSION, "The version of this file's format.", default=1, required=True)
    unmatched: Key[Unmatched] = Key(
        Choice("reject", "accept"),
        "What happens to an event that no route matches: a failure, or a 000. It is logged "
        "either way.",
        default="reject",
    )
    ebaas = Key(EbaasSection, "The caller, and how it retries.", default=EbaasSection.blank())
    queue = Key(
        QueueSection, "How the router retries optional targets.", default=QueueSection.blank()
    )
    defaults = Key(
        Policy, "What every target has unless it says otherwise.", default=Policy.blank()
    )
    egress = Key(
        EgressKind(),
        "Where events may go: public addresses alone (public), a network, or a list of them. Some, "
        "such as link-local ones, they never go to.",
        default=ANYWHERE,
    )
    targets = Key(_TARGETS_BY_NAME, _ABOUT_TARGETS, default={}, required=True)
    routes = Key(ListOf(RouteSection), _ABOUT_ROUTES, default=(), required=True)

    def policy(self, target: TargetSection) -> Policy:
        """The target's own policy where it has one, else what `defaults` says."""
        policy = Policy.blank()
        own = {name: value for name, value in target.values.items() if name in Policy.keys}
        policy.values = {**self.defaults.values, **own}
        return policy


class CommonFile(RoutesFile):
    """The routes.yaml of a folder: what is everybody's. Targets and routes may be elsewhere."""

    targets = Key(_TARGETS_BY_NAME, _ABOUT_TARGETS, default={})
    routes = Key(ListOf(RouteSection), _ABOUT_ROUTES, default=())
    share = Key(
        MapOf(TARGET_NAME, ListOf(OwnerName(), alone=True)),
        "Which owners may send events to a target that is in another owner's file, by the "
        "target's name; everybody lets all in.",
        default={},
    )


class TeamFile(Section):
    """A file below routes.d: targets and routes, of one owner where it has one."""

    version = Key(_VERSION, "The version of this file's format.", default=1, required=True)
    owner = Key(
        OwnerName(),
        "Who answers for the file. It owns the targets in it, and its routes may name no others "
        "that have an owner, unless `share` in routes.yaml lets it.",
        default="",
    )
    targets = Key(_TARGETS_BY_NAME, _ABOUT_TARGETS, default={})
    routes = Key(ListOf(RouteSection), _ABOUT_ROUTES, default=())
