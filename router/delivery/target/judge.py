"""Judge: the meaning of a target's answer. Pure."""

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

#: RFC 5842: the event has come through too many routers. A retry would end the same way.
_LOOP_DETECTED: Final = 508

#: The statuses whose `Retry-After` is honoured: too many requests, and service unavailable.
_ASK_FOR_TIME: Final = frozenset({429, 503})

#: Separates the parts of a URL, any of which may be a secret.
_URL_PARTS: Final = re.compile(r"[/?&=#:@]+")

#: The most that is quoted of a target's answer, in characters.
_MAX_QUOTED: Final = 32

# The acknowledgement as most servers write it: the contract's members alone, in its order, and
# nothing escaped. This takes a fifth of the time of the strict reading, which judges every other
# body; so it may match too little, but must not match too much.
_TEXT: Final = r'"[^"\\\x00-\x1f]*+"'
_USUAL: Final = re.compile(
    rf'\{{ ?(?:"request_id": ?{_TEXT}, ?)?"code": ?"{SUCCESS}"(?:, ?"msg": ?{_TEXT})? ?\}}'.encode()
)


class Verdict(NamedTuple):
    """The reason for which an answer acknowledges or not."""

    reason: Reason
    detail: str = ""
    #: Whether its JSON has been parsed, and the value; None if it is not JSON.
    is_parsed: bool = False
    reply: Any = None


def judge(result: Answer | Failure, target: Target, seconds: float, now: float) -> Attempt:
    """Return the attempt that an exchange of so many seconds was, at Unix time `now`. Only a plain
    yes in the target's own terms acknowledges."""
    if isinstance(result, Failure):
        delivered, status, detail = result.delivered, result.status, result.detail
        return Attempt(result.reason, delivered, seconds, status, detail, None, now)
    verdict = _read(result, target)
    reason, detail = verdict.reason, verdict.detail
    if reason is Reason.ACKNOWLEDGED:
        return Attempt(reason, True, seconds, result.status, at=now)
    retry_after = None
    if result.retry_after and result.status in _ASK_FOR_TIME:
        retry_after = asked_for(result.retry_after, now)
    if result.encoding:
        words = Words()
    elif verdict.is_parsed:
        words = words_in(verdict.reply, result.body, _secrets(target))
    else:
        words = words_of(result.body, _secrets(target))
    return Attempt(reason, True, seconds, result.status, detail, retry_after, now, *words)


def asked_for(retry_after: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for (RFC 9110: seconds, or a date), counted from
    `now` in Unix time; None if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@lru_cache(1024)
def _secrets(target: Target) -> tuple[Secret, ...]:
    """Return the secrets that a target might quote: those it is sent, and those in its URL."""
    shown = set(_URL_PARTS.split(target.public_url or target.url))
    hidden = [Secret(part) for part in _URL_PARTS.split(target.url) if part not in shown]
    return (*target.secret, *(value for _, value in target.headers), *hidden)


def _read(answer: Answer, target: Target) -> Verdict:
    if not 200 <= answer.status < 300:
        if answer.status in _REDIRECTS:
            return Verdict(Reason.REDIRECT, "redirects are not followed")
        return Verdict(Reason.LOOPING if answer.status == _LOOP_DETECTED else Reason.STATUS)
    if target.acknowledge == "status":
        return Verdict(Reason.ACKNOWLEDGED)
    if answer.encoding:
        encoding = masked(answer.encoding, _secrets(target))
        return Verdict(Reason.ENCODED, f"content-encoding {_quoted(encoding)}")
    if is_usual(answer.body):
        return Verdict(Reason.ACKNOWLEDGED)
    if not answer.body.strip():
        return Verdict(Reason.EMPTY)
    return read_contract(answer.body, target)


def is_usual(body: bytes) -> bool:
    """Return whether a body is certainly an acknowledgement by `read_contract`."""
    return _USUAL.fullmatch(body) is not None and (body.isascii() or _is_utf8(body))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_contract(body: bytes, target: Target) -> Verdict:
    """Judge a body by the strict reading of JSON."""
    try:
        reply = parse_json(body, ANSWER)
    except Unreadable as error:
        return Verdict(Reason.NOT_JSON, str(error), is_parsed=True)
    if not isinstance(reply, dict):
        return Verdict(Reason.NOT_JSON, "no JSON object", True, reply)
    if "code" not in reply:
        return Verdict(Reason.CODE, "no code", True, reply)
    code = reply["code"]
    if code == SUCCESS:
        return Verdict(Reason.ACKNOWLEDGED, "", True, reply)
    if not isinstance(code, str):
        return Verdict(Reason.CODE, "a code that is no string", True, reply)
    return Verdict(Reason.CODE, f"code {_quoted(masked(code, _secrets(target)))}", True, reply)


def _quoted(text: str) -> str:
    return ascii(text[:_MAX_QUOTED])
