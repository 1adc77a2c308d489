"""Which headers a target may be given, and which may have a caller's token."""

from __future__ import annotations

from collections.abc import Sequence

from router.config.document import ScalarNode, shown
from router.config.kinds import Text
from router.config.reader import Fault, Schema

#: What the router or its engine sets, what would change how the body is framed, and what would
#: ask for an answer that is not read. Names in lower case; a `*` stands for any rest.
OWN = (
    "accept-encoding", "connection", "content-*", "expect", "host", "http2-settings", "keep-alive",
    "proxy-*", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
    "webhook-*", "x-ebaas-*", "x-request-id",
)  # fmt: skip

#: What frames a request, says where it comes from, or is repeated in logs and to targets. Likewise.
TAKEN = (
    "accept-encoding", "connection", "content-*", "date", "expect", "forwarded", "host",
    "keep-alive", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
    "x-forwarded-*", "x-request-id",
)  # fmt: skip

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"


class HeaderName(Text):
    """The name of a header, but for some; the value is in lower case."""

    def __init__(self, refused: Sequence[str] = OWN, why: str = "is set by the router alone"):
        super().__init__("a header's name", pattern=_NAME)
        self._refused = refused
        self._why = why

    def value(self, text: str, node: ScalarNode) -> str:
        name = super().value(text, node).lower()
        if _is_among(name, self._refused):
            raise Fault(f"{shown(node.text)} {self._why}")
        return name

    def schema(self) -> Schema:
        refused = "|".join(_any_case(name) for name in self._refused)
        return {"type": "string", "pattern": f"^(?!({refused})$){_NAME}$"}


def is_own(name: str) -> bool:
    """Whether the router alone sets this header; the name is in lower case."""
    return _is_among(name, OWN)


def _is_among(name: str, names: Sequence[str]) -> bool:
    return any(
        name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in names
    )


def _any_case(name: str) -> str:
    """A pattern for `name`; a schema's patterns have no flag that ignores case."""
    letters = (f"[{c}{c.upper()}]" if c.isalpha() else c for c in name)
    return "".join(letters).replace("*", ".*")
