"""What an answer says in the receiver's own words, made harmless to show. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from router.contract.strictjson import Unreadable, parse_json
from router.model.secret import MASK, Secret

#: The most that is kept of an answer's message and of its code, in characters.
MAX_MSG, MAX_CODE = 200, 32

#: How much of an answer that is no contract answer is looked at, in bytes.
_LOOKED_AT = 4096

#: The shortest part of a secret that is looked for; shorter ones are words that anybody says.
_SHORTEST_SECRET = 6

#: What stands for a character that has no business on a screen.
_STRANGE = "\N{REPLACEMENT CHARACTER}"

_BLANKS = re.compile(r"\s+")


class Words(NamedTuple):
    #: The contract answer's `code`; `""` where the answer is none.
    code: str = ""
    #: Its `msg`; of an answer that is no contract answer the beginning of its text.
    msg: str = ""


def words_of(body: bytes, secrets: Sequence[Secret] = ()) -> Words:
    """What the body of an answer says. A target's own `secrets` may come back in it: they are
    masked."""
    code, msg = (masked(text, secrets) for text in _said(body))
    return Words(harmless(code, MAX_CODE), harmless(msg, MAX_MSG))


def why_failed(attempt: Mapping[str, object]) -> str:
    """`status (503)`: the reason that an attempt has as JSON, and what more is known; `""` of
    none."""
    more = [str(each) for each in (attempt.get("status"), attempt.get("detail")) if each]
    reason = str(attempt.get("reason", ""))
    return f"{reason} ({', '.join(more)})" if more else reason


def masked(text: str, secrets: Iterable[Secret]) -> str:
    """The text with a mask for each word of these secrets, in upper or lower case."""
    for secret in secrets:
        for part in secret.reveal().split():
            if len(part) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(part), MASK, text, flags=re.IGNORECASE)
    return text


def harmless(text: str, most: int) -> str:
    """One line of at most so many characters, fit for a terminal, a log and a page's text: no
    control character, escape, bidi mark, NUL or half a character is left in it."""
    line = _BLANKS.sub(" ", text[: 8 * most]).strip()
    if not line.isprintable():
        line = "".join([c if c.isprintable() else _STRANGE for c in line])
    return line if len(line) <= most else line[: most - 1] + "…"


def _said(body: bytes) -> tuple[str, str]:
    text = body[:_LOOKED_AT].decode("utf-8", "replace")
    try:
        reply = parse_json(body)
    except Unreadable:
        return "", text
    if not isinstance(reply, dict) or not isinstance(reply.get("code"), str):
        return "", text
    msg = reply.get("msg", "")
    return reply["code"], msg if isinstance(msg, str) else text
