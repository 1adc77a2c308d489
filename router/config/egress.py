"""Where events may go, as routes.yaml says it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from router.config.access import Cidr
from router.config.addresses import literal
from router.config.document import Node, ScalarNode, shown
from router.config.kinds import ListOf, ScalarKind
from router.config.reader import Fault, Reader, Schema
from router.config.section import Section
from router.net.egress import Egress, Network


class _Destination(ScalarKind["Network | Literal['public']"]):
    what = "public, or a network like 10.0.0.0/8, 192.0.2.7, 2001:db8::/32"
    harmless = True
    _cidr = Cidr()

    def value(self, text: str, node: ScalarNode) -> Network | Literal["public"]:
        if text == "public":
            return "public"
        if text.isalpha():
            message = f"{shown(node.text)} is neither public nor a network like 10.0.0.0/8"
            raise Fault(message, node.text, ("public",))
        return self._cidr.value(text, node)

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": ["public"]}, self._cidr.schema()]}


class EgressKind:
    """`public`, a network, or a list of them."""

    _destinations = ListOf(_Destination(), alone=True)

    def read(self, node: Node, path: str, reader: Reader) -> Egress:
        said = self._destinations.read(node, path, reader)
        networks = tuple(each for each in said if not isinstance(each, str))
        return Egress("public" in said, networks)

    def schema(self) -> Schema:
        return self._destinations.schema()


def check_egress(egress: Egress, target: Section, url: str, reader: Reader) -> None:
    """Report a target whose URL has an address that egress rules out. Names are looked up later."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = literal(host)
    if address is not None and (refusal := egress.refusal(str(address))):
        message = f"{host} is {refusal}, and egress allows no other"
        reader.problems.add(target.nodes["url"], f"{target.path}.url", message)
