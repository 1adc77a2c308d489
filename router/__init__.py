"""The EBaaS callback router."""

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any

__version__ = "0.2.0"


def on_demand(face: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room's face: it imports what the face names once somebody asks for it.

    A face names it for type checkers, and that is the one list: it is read from the face's source.
    So a command loads what it uses; `health` needs no asyncio, no YAML and no store.
    """
    module = sys.modules[face]
    source = module.__loader__.get_source(face)  # type: ignore[union-attr]
    homes = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{face}.")
        for alias in node.names
    }

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {face!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return find
