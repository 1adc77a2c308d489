"""Replies, as headers and as header lines."""

from __future__ import annotations

import json

from router.contract.replies import (
    MAX_CODE,
    MAX_MSG,
    harmless,
    words_of,
)
from router.model.secret import Secret


def test_words_are_cut_to_what_there_is_room_for() -> None:
    """The mark that something is left out is within it."""
    assert harmless("x" * 20, 20) == "x" * 20
    assert harmless("x" * 21, 20) == "x" * 19 + "…"


def test_a_secret_is_masked_before_a_text_is_cut() -> None:
    """A part of it at the cut would not be recognised; letters may have any case."""
    secret = Secret("canary-(12+34).*")
    msg, code = ("x" * (most - 12) + secret.reveal().upper() for most in (MAX_MSG, MAX_CODE))
    for body in (msg.encode(), json.dumps({"code": code, "msg": msg}).encode()):
        words = words_of(body, (secret,))
        assert "canary" not in (words.msg + words.code).lower()
