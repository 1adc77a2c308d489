"""Who may come in, as routes.yaml says it: tokens, the header that has them, networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from router.config.document import ListNode, Node, Problems, ScalarNode, shown
from router.config.headers import TAKEN, HeaderName
from router.config.kinds import ScalarKind, SecretText
from router.config.reader import Fault, Schema, did_you_mean
from router.config.section import Section
from router.model.secret import Secret
from router.net.access import SHORT
from router.net.egress import Network, NotANetwork, network_of

T = TypeVar("T")

TOKEN = SecretText("a token (ASCII, no blanks)", pattern="[!-~]+", longest=1024)


TOKEN_HEADER = HeaderName(TAKEN, "has a meaning of its own and can't have a token")


class Cidr(ScalarKind[Network]):
    """A network of callers, IPv4 or IPv6, or a single address."""

    what = "a network like 10.0.0.0/8, 192.0.2.7, 2001:db8::/32"
    harmless = True

    def value(self, text: str, node: ScalarNode) -> Network:
        try:
            return network_of(text)
        except NotANetwork as error:
            # What a variable brings in is not repeated.
            likely = error.likely if text == node.text else ""
            raise Fault(f"{shown(node.text)} {error}{did_you_mean(likely)}") from None

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^([0-9A-Fa-f.:]+(/[0-9]{1,3})?|.*\$\{.*)$"}


def warn(ebaas: Section, problems: Problems) -> None:
    """Report what is dubious about who may come in, in a file without errors."""
    tokens: Sequence[Secret] = ebaas.values.get("token", ())
    seen: set[Secret] = set()
    for token, node, path in _placed(ebaas, "token", tokens):
        if len(token.reveal()) < SHORT:
            problems.add(node, path, f"is shorter than {SHORT} characters: it can be guessed")
        if token in seen:
            problems.add(node, path, "is here twice")
        seen.add(token)
    networks: Sequence[Network] = ebaas.values.get("allow_from", ())
    for network, node, path in _placed(ebaas, "allow_from", networks):
        if network.prefixlen == 0:
            problems.add(node, path, f"{network} is every IPv{network.version} address there is")
    if "token_header" in ebaas.nodes and not tokens:
        message = "says nothing without ebaas.token"
        problems.add(ebaas.nodes["token_header"], f"{ebaas.path}.token_header", message)


def _placed(ebaas: Section, key: str, values: Sequence[T]) -> list[tuple[T, Node, str]]:
    """The values that were read from a key that has one or a list, each with its place."""
    path, node = f"{ebaas.path}.{key}", ebaas.nodes.get(key)
    if isinstance(node, ListNode):
        each = zip(values, node.items, strict=True)
        return [(value, item, f"{path}[{at}]") for at, (value, item) in enumerate(each)]
    return [(value, node, path) for value in values if node is not None]
