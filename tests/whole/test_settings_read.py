"""Every setting of `serve` has an effect."""

from __future__ import annotations

import ast

from router.config.settings import SETTINGS
from tests.support.command import ROOT


def test_every_setting_is_read() -> None:
    """Some module reads each setting: otherwise it would have no effect."""
    read: set[str] = set()
    for file in (ROOT / "router").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("settings"):
                read.add(node.attr)
    assert SETTINGS.keys() - read == set()
