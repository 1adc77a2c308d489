"""Replies of the contract: codes, messages and bodies; and the texts in answers of targets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.errors import Refused
from router.model.event import SUCCESS, new_id
from router.model.secret import MASK, Secret


@dataclass(frozen=True, slots=True)
class Reply:
    """The contract's code and message for a caller. The HTTP status mirrors the code."""

    code: str
    msg: str
    #: The body after the request id, made once: most replies are constants below.
    rest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        members = {"code": self.code, "msg": self.msg}
        rest = json.dumps(members, ensure_ascii=False, separators=(",", ":"))[1:]
        object.__setattr__(self, "rest", rest)

    @property
    def status(self) -> int:
        return 200 if self.code == SUCCESS else int(self.code)

    def refusal(self, why: str, caller: str = "") -> Refused:
        """Return the error for a callback that gets this reply; `why` is for the log."""
        return Refused(self.code, self.msg, why, caller=caller)


# The messages of 000 and 500 are the platform page's; the others are worded like them.
ACKNOWLEDGED: Final = Reply(SUCCESS, "成功")
BAD_HTTP: Final = Reply("400", "请求不是有效的HTTP")
NO_TOKEN: Final = Reply("401", "身份验证失败")
FORBIDDEN: Final = Reply("403", "来源地址不被允许")
NOT_FOUND: Final = Reply("404", "请求路径不存在")
WRONG_METHOD: Final = Reply("405", "请求方法不支持")
TOO_SLOW: Final = Reply("408", "请求接收超时")
TOO_LARGE: Final = Reply("413", "请求体过大")
LONG_TARGET: Final = Reply("414", "请求路径过长")
ENCODED: Final = Reply("415", "不支持的content-encoding")
UNEXPECTED: Final = Reply("417", "不支持的expect")
LARGE_HEAD: Final = Reply("431", "请求头过大")
FAILED: Final = Reply("500", "服务调用异常，请稍后再试或联系管理员")
BUSY: Final = Reply("503", "服务繁忙，请稍后再试")
NOT_OPEN: Final = Reply("503", "存储尚未连接，请稍后再试")
LOOPING: Final = Reply("508", "事件在路由服务之间循环转发")


#: Replies that the server gives instead of the application, by status.
_REFUSALS: Final = {
    reply.status: reply
    for reply in (
        BAD_HTTP,
        WRONG_METHOD,
        TOO_SLOW,
        LONG_TARGET,
        UNEXPECTED,
        LARGE_HEAD,
        FAILED,
        BUSY,
    )
}


#: An x-request-id that can be kept: anything else could break a log line or a header.
_SANE_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def is_sane(token: bytes) -> bool:
    """Return whether it can be put into a header and a log line unchanged."""
    return _SANE_REQUEST_ID.fullmatch(token) is not None


def request_id_from(given: bytes | None) -> str:
    """The caller's request id if it is a sane token, otherwise a new UUID."""
    if given is not None and is_sane(given):
        return given.decode("ascii")
    return new_id()


def body_of(reply: Reply, request_id: str) -> bytes:
    """The contract's JSON, in the order of the page's sample. The request id is a sane token, which
    JSON need not escape."""
    return f'{{"request_id":"{request_id}",{reply.rest}'.encode()


def response_of(reply: Reply, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of a reply."""
    body = body_of(reply, request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if reply.code == NO_TOKEN.code:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers, body


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def refusal(
    status: int, given: bytes | None, more: Iterable[tuple[bytes, bytes]] = ()
) -> tuple[bytes, bytes]:
    """Return the header lines, with `more` headers, and the body of a reply that the server gives
    instead of the application. `given` is the caller's request id."""
    headers, body = response_of(_REFUSALS[status], request_id_from(given))
    return lines_of([*headers, *more]), body


#: The longest message and code of a target's answer that are kept, in characters.
MAX_MSG, MAX_CODE = 200, 32

#: The part that is read of an answer which does not follow the contract, in bytes.
_LOOKED_AT = 4096

#: The shortest part of a secret that is masked; shorter ones are ordinary words.
_SHORTEST_SECRET = 6

#: Replaces a character that cannot be printed.
_STRANGE = "\N{REPLACEMENT CHARACTER}"

_BLANKS = re.compile(r"\s+")


class Words(NamedTuple):
    """The texts in a target's answer, harmless and without secrets."""

    #: The answer's `code`; `""` if the answer does not follow the contract.
    code: str = ""
    #: Its `msg`, or the beginning of the text of any other answer.
    msg: str = ""


def words_of(body: bytes, secrets: Sequence[Secret] = ()) -> Words:
    """The texts in the body of an answer; `secrets` that it repeats are masked."""
    try:
        reply = parse_json(body, ANSWER)
    except Unreadable:
        reply = None
    return words_in(reply, body, secrets)


def words_in(reply: object, body: bytes, secrets: Sequence[Secret] = ()) -> Words:
    """The texts in a body whose JSON has been read; `reply` is None if it is not JSON."""
    code, msg = (masked(text, secrets) for text in _said(reply, body))
    return Words(harmless(code, MAX_CODE), harmless(msg, MAX_MSG))


def why_failed(attempt: Mapping[str, object]) -> str:
    """The reason of an attempt, given as JSON, with its status and detail: `status (503)`."""
    more = [str(fact) for fact in (attempt.get("status"), attempt.get("detail")) if fact]
    reason = str(attempt.get("reason", ""))
    return f"{reason} ({', '.join(more)})" if more else reason


def masked(text: str, secrets: Iterable[Secret]) -> str:
    """The text with each word of these secrets masked, in upper or lower case."""
    for secret in secrets:
        for part in secret.reveal().split():
            if len(part) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(part), MASK, text, flags=re.IGNORECASE)
    return text


def harmless(text: str, most: int) -> str:
    """One line of at most so many characters that is safe in a terminal, a log and a page: without
    control characters, escapes, bidi marks, NUL or lone surrogates."""
    line = _BLANKS.sub(" ", text[: 8 * most]).strip()
    if not line.isprintable():
        line = "".join([c if c.isprintable() else _STRANGE for c in line])
    return line if len(line) <= most else line[: most - 1] + "…"


def _said(reply: object, body: bytes) -> tuple[str, str]:
    text = body[:_LOOKED_AT].decode("utf-8", "replace")
    if not isinstance(reply, dict) or not isinstance(reply.get("code"), str):
        return "", text
    msg = reply.get("msg", "")
    return reply["code"], msg if isinstance(msg, str) else text
