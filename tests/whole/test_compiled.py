"""The modules of the compiled wheel."""

from __future__ import annotations

import ast

import pytest

import hatch_build
from tests.support.command import ROOT

#: mypyc makes a plain property of it, which is computed at each access.
UNFIT = {"cached_property"}


@pytest.mark.parametrize("module", hatch_build.MODULES)
def test_nothing_is_compiled_that_would_not_do_the_same(module: str) -> None:
    """A timer that should be made once was made for each event."""
    tree = ast.parse((ROOT / "router" / f"{module}.py").read_text())
    names = {
        name.name
        for each in ast.walk(tree)
        if isinstance(each, ast.ImportFrom)
        for name in each.names
    }
    assert not names & UNFIT
