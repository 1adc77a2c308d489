"""What a target's answer means. Pure."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from router.contract.replies import Words, masked, words_in, words_of
from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.event import SUCCESS, Attempt, Reason
from router.model.secret import Secret
from router.routing.target import Target
from router.transport.engine import Answer, Failure

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

#: RFC 5842: the event has come through too many routers. Sending it again leads to the same.
_LOOP_DETECTED: Final = 508

#: The statuses whose `Retry-After` is honoured: too many requests, and unavailable.
_ASK_FOR_TIME: Final = frozenset({429, 503})

#: Between the parts of a URL, any of which may be a secret.
_URL_PARTS: Final = re.compile(r"[/?&=#:@]+")

#: The most that is repeated of what a target sent, in characters.
_MAX_QUOTED: Final = 32

# The acknowledgement as most servers write it: the contract's members alone, in its order, and
# nothing escaped. It is known at a fifth of what the strict reading takes, which has the last word
# on all that looks otherwise; so this may be too narrow, and must not be too wide.
_TEXT: Final = r'"[^"\\\x00-\x1f]*+"'
_USUAL: Final = re.compile(
    rf'\{{ ?(?:"request_id": ?{_TEXT}, ?)?"code": ?"{SUCCESS}"(?:, ?"msg": ?{_TEXT})? ?\}}'.encode()
)


class Read(NamedTuple):
    """What an answer was found to be."""

    reason: Reason
    detail: str = ""
    #: Whether its JSON has been read, and the value; None where it is not JSON.
    is_parsed: bool = False
    reply: Any = None


def judge(result: Answer | Failure, target: Target, seconds: float, now: float) -> Attempt:
    """What an exchange of so many seconds means, at Unix time `now`. Only a plain yes in the
    target's own terms acknowledges."""
    if isinstance(result, Failure):
        delivered, status, detail = result.delivered, result.status, result.detail
        return Attempt(result.reason, delivered, seconds, status, detail, None, now)
    read = _read(result, target)
    reason, detail = read.reason, read.detail
    if reason is Reason.ACKNOWLEDGED:
        return Attempt(reason, True, seconds, result.status, at=now)
    retry_after = None
    if result.retry_after and result.status in _ASK_FOR_TIME:
        retry_after = asked_for(result.retry_after, now)
    if result.encoding:
        words = Words()
    elif read.is_parsed:
        words = words_in(read.reply, result.body, _secrets(target))
    else:
        words = words_of(result.body, _secrets(target))
    return Attempt(reason, True, seconds, result.status, detail, retry_after, now, *words)


def asked_for(retry_after: str, now: float) -> float | None:
    """The seconds that a `Retry-After` (RFC 9110: seconds, or a date) asks for from `now`, Unix
    time; None where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@lru_cache(1024)
def _secrets(target: Target) -> tuple[Secret, ...]:
    """What a target could say back that nobody else may read: what it is sent, and what of its URL
    is not printed either."""
    shown = set(_URL_PARTS.split(target.public_url or target.url))
    hidden = [Secret(part) for part in _URL_PARTS.split(target.url) if part not in shown]
    return (*target.secret, *(value for _, value in target.headers), *hidden)


def _read(answer: Answer, target: Target) -> Read:
    if not 200 <= answer.status < 300:
        if answer.status in _REDIRECTS:
            return Read(Reason.REDIRECT, "redirects are not followed")
        return Read(Reason.LOOPING if answer.status == _LOOP_DETECTED else Reason.STATUS)
    if target.acknowledge == "status":
        return Read(Reason.ACKNOWLEDGED)
    if answer.encoding:
        said = masked(answer.encoding, _secrets(target))
        return Read(Reason.ENCODED, f"content-encoding {_quoted(said)}")
    if is_usual(answer.body):
        return Read(Reason.ACKNOWLEDGED)
    if not answer.body.strip():
        return Read(Reason.EMPTY)
    return read_contract(answer.body, target)


def is_usual(body: bytes) -> bool:
    """Whether `read_contract` is sure to find a body an acknowledgement."""
    return _USUAL.fullmatch(body) is not None and (body.isascii() or _is_utf8(body))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_contract(body: bytes, target: Target) -> Read:
    """Why a body of this target acknowledges or not, with a few words about it, by the strict
    reading of JSON."""
    try:
        reply = parse_json(body, ANSWER)
    except Unreadable as error:
        return Read(Reason.NOT_JSON, str(error), is_parsed=True)
    if not isinstance(reply, dict):
        return Read(Reason.NOT_JSON, "no JSON object", True, reply)
    if "code" not in reply:
        return Read(Reason.CODE, "no code", True, reply)
    code = reply["code"]
    if code == SUCCESS:
        return Read(Reason.ACKNOWLEDGED, "", True, reply)
    if not isinstance(code, str):
        return Read(Reason.CODE, "a code that is no string", True, reply)
    return Read(Reason.CODE, f"code {_quoted(masked(code, _secrets(target)))}", True, reply)


def _quoted(text: str) -> str:
    return ascii(text[:_MAX_QUOTED])
