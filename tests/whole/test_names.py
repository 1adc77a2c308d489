"""One name, one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.command import ROOT

#: What every command's module has.
COMMANDS = {"HELP"}


def declared(module: ast.Module) -> Iterator[str]:
    """Public classes and UPPER_CASE constants of a module; no type variable."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            is_variable = isinstance(node.value, ast.Call) and "TypeVar" in ast.unparse(node.value)
            for part in (each for target in targets for each in ast.walk(target)):
                if isinstance(part, ast.Name) and part.id.isupper() and not is_variable:
                    yield part.id


def test_no_public_name_stands_twice() -> None:
    """A class or constant that two files declare is two things under one name, or one thing that
    is said twice."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for file in (ROOT / "router").rglob("*.py"):
        for name in declared(ast.parse(file.read_text(encoding="utf-8"))):
            if not name.startswith("_") and name not in COMMANDS:
                files[name].append(file.relative_to(ROOT))
    assert len(files) > 300
    assert {name: found for name, found in files.items() if len(found) > 1} == {}
