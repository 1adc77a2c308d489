"""Which headers a target may be given."""

from __future__ import annotations

from router.config.kinds import Text
from router.config.reader import Fault, Schema
from router.document import ScalarNode, shown

#: What the router or its engine sets, what would change how the body is framed, and what would
#: ask for an answer that is not read. Names in lower case; a `*` stands for any rest.
OWN = (
    "accept-encoding", "connection", "content-*", "expect", "host", "http2-settings", "keep-alive",
    "proxy-*", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
    "webhook-*", "x-ebaas-*", "x-request-id",
)  # fmt: skip

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"


class HeaderName(Text):
    """The name of a header that is not the router's own; the value is in lower case."""

    def __init__(self) -> None:
        super().__init__("a header's name", pattern=_NAME)

    def value(self, text: str, node: ScalarNode) -> str:
        name = super().value(text, node).lower()
        for own in OWN:
            if name == own or (own.endswith("*") and name.startswith(own[:-1])):
                raise Fault(f"{shown(text)} is set by the router alone")
        return name

    def schema(self) -> Schema:
        own = "|".join(_any_case(name) for name in OWN)
        return {"type": "string", "pattern": f"^(?!({own})$){_NAME}$"}


def _any_case(name: str) -> str:
    """A pattern for `name`; a schema's patterns have no flag that ignores case."""
    letters = (f"[{c}{c.upper()}]" if c.isalpha() else c for c in name)
    return "".join(letters).replace("*", ".*")
