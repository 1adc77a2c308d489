"""Whose a file is."""

from __future__ import annotations

from router.config.document import Node, ScalarNode
from router.config.kinds import Text
from router.config.reader import Fault, Reader, Schema


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
