"""Copies of events: what makes one of them, and what none."""

from __future__ import annotations

import pytest

from router.cli.trying.listen import copy_of
from router.transport.engine import lines_of


@pytest.mark.parametrize("event_id", ["", "a\r\nx: y", "\ud800", "a b", "名"])
def test_what_is_no_id_makes_no_header(event_id: str) -> None:
    """The copy has an id of its own, and as many headers as any."""
    copy = copy_of("listen", event_id, "a.\ud800.b\r\n", '{"a": "\ud800"}')
    lines = lines_of(copy.headers)
    assert lines.count(b"\r\n") == len(copy.headers)
    assert dict(copy.headers)[b"webhook-id"].startswith(b"copy_")
    copy.body.decode()


def test_an_id_is_told_from_the_events_own() -> None:
    """Whoever dedupes by it never takes the copy for the event."""
    assert dict(copy_of("resend", "e-1", "a", "{}").headers)[b"webhook-id"] == b"copy_e-1"
