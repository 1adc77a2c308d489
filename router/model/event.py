"""The nouns: an event, an attempt, a delivery, and how each ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from os import urandom
from typing import Any, ClassVar, Final, Self


class Value:
    """Equal to what is of its class and has the same attributes; nobody changes them.

    A class of its own with an `__init__` for what every event makes: it is made in 0.1 µs, and in
    0.03 where it is compiled. A NamedTuple takes 0.18 and 0.14, a frozen dataclass more.
    """

    __slots__ = ()

    #: Its attributes, in the order of the arguments of its `__init__`.
    NAMES: ClassVar[tuple[str, ...]] = ()

    def values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.NAMES])

    def replace(self, **other: Any) -> Self:
        """The same with some attributes other than its own."""
        own = dict(zip(self.NAMES, self.values(), strict=True))
        return type(self)(**{**own, **other})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (type(self), self.values()) == (
            type(other),
            other.values(),
        )

    def __hash__(self) -> int:
        return hash(self.values())

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self.values()

    def __repr__(self) -> str:
        said = zip(self.NAMES, self.values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in said)})"


#: The fields of an event that a route can match, in the order of the platform's page.
FIELDS: Final[tuple[str, ...]] = (
    "event_source",
    "event_topic",
    "event_type",
    "event_status",
    "event_key",
)

#: How many ids of what an event has changed are told.
MAX_CHANGES: Final = 20

#: Whose events are the router's own: what happens to it. Nobody else's come from there.
OWN_SOURCE: Final = "ebaas-router"

#: How the keys of its events begin, and every pattern that is meant for them.
OWN_KEYS: Final = f"{OWN_SOURCE}."

#: The code that acknowledges, in both directions of the contract.
SUCCESS: Final = "000"


def new_id() -> str:
    """A random UUID (RFC 9562, version 4) as text, at a third of what `uuid.uuid4` costs."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class Event(Value):
    """A callback that passed the schema."""

    NAMES: ClassVar[tuple[str, ...]] = (*FIELDS, "body", "changes")
    __slots__ = NAMES

    def __init__(
        self,
        event_source: str,
        event_topic: str,
        event_type: str,
        event_status: str,
        event_key: str,
        body: bytes,
        changes: Sequence[Any] = (),
    ) -> None:
        """`body` is what arrived, byte for byte, and what every target gets. `event_key` is the
        given key, or where none was given the four other fields joined by dots. `changes` are the
        first ids of what has changed, as they came, for the log."""
        self.event_source = event_source
        self.event_topic = event_topic
        self.event_type = event_type
        self.event_status = event_status
        self.event_key = event_key
        self.body = body
        self.changes = changes

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Event:
        """The event that some of its fields tell of; it has no body.

        A key that is missing is what the four others make. One of those that is missing is the
        key's part, where the key has four; else it is unknown, and empty.
        """
        key = fields.get("event_key") or ""
        parts = key.split(".") if key.count(".") == 3 else ("",) * 4
        named = zip(FIELDS, parts, strict=False)
        source, topic, kind, status = (fields.get(name) or part for name, part in named)
        return cls(source, topic, kind, status, key or f"{source}.{topic}.{kind}.{status}", b"")

    @property
    def derived_key(self) -> str:
        """The key that the four fields make; the given one may differ from it."""
        return f"{self.event_source}.{self.event_topic}.{self.event_type}.{self.event_status}"


def digest_of(body: bytes) -> bytes:
    """What a body is known by: the caller gives no id, and is taken to resend the same bytes."""
    return sha256(body).digest()


class OutboundEvent(Value):
    """An event as its targets get it, from the callback's last byte to each of its attempts."""

    NAMES: ClassVar[tuple[str, ...]] = (
        *("event", "digest", "request_id", "traceparent", "tracestate", "event_id", "head", "hops"),
    )
    __slots__ = NAMES

    def __init__(
        self,
        event: Event,
        digest: bytes,
        request_id: str,
        traceparent: str = "",
        tracestate: str = "",
        event_id: str = "",
        head: bytes = b"",
        hops: int = 0,
    ) -> None:
        self.event = event
        #: The body's SHA-256.
        self.digest = digest
        self.request_id = request_id
        #: The caller's W3C trace context; both `""` where it sent none that is valid.
        self.traceparent = traceparent
        self.tracestate = tracestate
        #: The same over all attempts; targets see it as `webhook-id`. Empty until it is known.
        self.event_id = event_id
        #: The header lines that all its targets get, made with the id.
        self.head = head
        #: The number of routers that it came through. It is kept in the store with the event, so
        #: that a router which is its own target does not send it forever.
        self.hops = hops

    @classmethod
    def of(
        cls,
        event: Event,
        request_id: str,
        traceparent: str = "",
        tracestate: str = "",
        hops: int = 0,
    ) -> OutboundEvent:
        digest = digest_of(event.body)
        return cls(event, digest, request_id, traceparent, tracestate, hops=hops)


class Reason(StrEnum):
    """Why an attempt ended as it did: a closed set, one word for logs, metrics and pages."""

    #: The target said so: its code is `000`, or any 2xx where it has `acknowledge: status`.
    ACKNOWLEDGED = "acknowledged"
    #: A contract answer with any other code.
    CODE = "code"
    #: An HTTP status that is not 2xx, whatever its body says.
    STATUS = "status"
    #: HTTP status 508: the target is a router, and the event has come through too many of them.
    LOOPING = "looping"
    #: A redirect (301, 302, 303, 307, 308); none is followed.
    REDIRECT = "redirect"
    #: A 2xx without a body.
    EMPTY = "empty"
    #: A 2xx whose body is no JSON object that can be read in one way only.
    NOT_JSON = "not_json"
    #: A 2xx whose body is compressed, which was not asked for.
    ENCODED = "encoded"
    #: An answer larger than the limit for answers.
    TOO_LARGE = "too_large"
    #: Something that is not an HTTP answer.
    PROTOCOL = "protocol"
    #: Nobody listens at the address.
    CONNECT_REFUSED = "connect_refused"
    #: No connection within the attempt's timeout.
    CONNECT_TIMEOUT = "connect_timeout"
    #: The address can't be reached for any other cause.
    UNREACHABLE = "unreachable"
    #: The address is one that events may not go to.
    FORBIDDEN = "forbidden"
    #: The host's name has no address, or none was found in time.
    DNS = "dns"
    #: The TLS handshake failed: its certificate is not trusted, say.
    TLS = "tls"
    #: No whole answer within the attempt's timeout.
    TIMEOUT = "timeout"
    #: The connection ended before the answer was whole.
    RESET = "reset"
    #: The target has its fill of attempts in flight, and its waiting line is full or did not move.
    SATURATED = "saturated"
    #: The target's breaker is open: too many of its attempts had failed, and it is left in peace.
    BREAKER_OPEN = "breaker_open"
    #: The target's `rate` is used up, and its turn would not have come in time.
    RATE_LIMITED = "rate_limited"
    #: The router may open no more files, and a connection is one.
    OUT_OF_FILES = "out_of_files"
    #: The target is paused, in routes.yaml or by a person.
    PAUSED = "paused"
    #: The router itself broke the attempt off while it was stopping.
    STOPPED = "stopped"


#: What comes to nothing by the router's own doing: it says nothing of the target, and costs a
#: delivery no retry.
SELF_INFLICTED: Final = frozenset(
    {
        Reason.SATURATED,
        Reason.BREAKER_OPEN,
        Reason.RATE_LIMITED,
        Reason.OUT_OF_FILES,
        Reason.PAUSED,
        Reason.STOPPED,
    }
)


_ACKNOWLEDGED: Final = Reason.ACKNOWLEDGED


class Attempt(Value):
    """One HTTP request to one target, after it ended."""

    NAMES: ClassVar[tuple[str, ...]] = (
        *("reason", "delivered", "seconds", "status", "detail", "retry_after", "at"),
        *("code", "msg"),
    )
    __slots__ = (*NAMES, "acknowledged")

    def __init__(
        self,
        reason: Reason,
        delivered: bool,
        seconds: float,
        status: int | None = None,
        detail: str = "",
        retry_after: float | None = None,
        at: float = 0.0,
        code: str = "",
        msg: str = "",
    ) -> None:
        self.reason = reason
        #: False only where it is certain that the target saw no whole request.
        self.delivered = delivered
        #: From the decision to send until the end, the wait for a place included. A wait for the
        #: target's rate counts only where the attempt was not begun.
        self.seconds = seconds
        #: The answer's HTTP status, where one came.
        self.status = status
        #: What came instead of an acknowledgement, in a few words for people; never a secret.
        self.detail = detail
        #: How long a 429 or 503 asked to be left alone, in seconds.
        self.retry_after = retry_after
        #: When it ended, Unix time on this machine's clock.
        self.at = at
        #: The receiver's own words, where it has not acknowledged: the answer's code, and its
        #: message or the beginning of its text; made harmless by `words_of`.
        self.code = code
        self.msg = msg
        self.acknowledged = reason is _ACKNOWLEDGED
