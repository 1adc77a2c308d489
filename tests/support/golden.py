"""Golden files: texts that are compared with what the code generates."""

from __future__ import annotations

import os
from difflib import unified_diff
from pathlib import Path

import pytest

from tests.support.command import ROOT

#: True if the files are to be rewritten.
UPDATING = "UPDATE_GOLDEN" in os.environ

#: Advice for a difference.
HOW = "if the change is meant, `make golden` writes it anew: read the difference"


def check_golden(file: Path, made: str) -> None:
    """Fail if the file does not have this text; `make golden` writes it instead."""
    if UPDATING:
        file.write_text(made, encoding="utf-8")
        return
    name = str(file.relative_to(ROOT))
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    if made != kept:
        lines = unified_diff(kept.splitlines(), made.splitlines(), name, "made now", lineterm="")
        pytest.fail("\n".join([f"{name}: {HOW}", *lines]), pytrace=False)
