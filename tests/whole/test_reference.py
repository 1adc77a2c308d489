"""Files that are made from code."""

from __future__ import annotations

import pytest

from scripts.reference import FILES
from tests.support.command import ROOT


@pytest.mark.parametrize("name", FILES)
def test_what_is_made_from_code_is_up_to_date(name: str) -> None:
    """`make docs` would change nothing, so every key, option and metric is in its page."""
    assert (ROOT / name).read_text("utf-8") == FILES[name](), "run `make docs`"
