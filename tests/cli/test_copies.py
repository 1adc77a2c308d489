"""Copies of events that `listen` and `resend` send."""

from __future__ import annotations

import pytest

from router.cli.trying.request import Request, copy_of
from router.transport.engine import lines_of

COPIES = Request("http://127.0.0.1:1/", {}, b"", 1.0)


@pytest.mark.parametrize("event_id", ["", "a\r\nx: y", "\ud800", "a b", "名"])
def test_a_hostile_id_cannot_add_a_header(event_id: str) -> None:
    """The copy gets another id, and the usual headers."""
    event = {"event_id": event_id, "event_key": "a.\ud800.b\r\n"}
    copy = copy_of(COPIES, event, '{"a": "\ud800"}', "listen")
    lines = lines_of([*copy.headers.items()])
    assert lines.count(b"\r\n") == len(copy.headers)
    assert copy.headers[b"webhook-id"].startswith(b"copy_")
    copy.body.decode()


def test_an_id_differs_from_the_events_own() -> None:
    """A receiver that deduplicates by it does not take the copy for the event."""
    copy = copy_of(COPIES, {"event_id": "e-1", "event_key": "a"}, "{}", "resend")
    assert copy.headers[b"webhook-id"] == b"copy_e-1"
