"""Replies, as headers and as header lines."""

from __future__ import annotations

import pytest

from router.contract.replies import (
    ACKNOWLEDGED,
    FAILED,
    NO_TOKEN,
    Reply,
    harmless,
    lines_and_body,
    response_of,
)


@pytest.mark.parametrize("reply", [ACKNOWLEDGED, FAILED, NO_TOKEN, Reply("400", '"\u4e0d"')])
def test_both_ways_say_the_same(reply: Reply) -> None:
    """A reply is the same from any server."""
    headers, body = response_of(reply, "request")
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    assert lines_and_body(reply, "request") == (lines, body)


def test_words_are_cut_to_what_there_is_room_for() -> None:
    """The mark that something is left out is within it."""
    assert harmless("x" * 20, 20) == "x" * 20
    assert harmless("x" * 21, 20) == "x" * 19 + "…"
