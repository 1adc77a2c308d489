"""Replies of the contract: codes, messages, bodies, and the words for a failure."""

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

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller is told: the contract's code and message. The HTTP status mirrors the code."""

    code: str
    msg: str
    #: What both come to in a body, behind the request id: most replies are among the few below.
    rest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        members = {"code": self.code, "msg": self.msg}
        rest = json.dumps(members, ensure_ascii=False, separators=(",", ":"))[1:]
        object.__setattr__(self, "rest", rest)

    @property
    def status(self) -> int:
        return 200 if self.code == SUCCESS else int(self.code)


# The messages of 000 and 500 are the platform's page's; the others speak in its voice.
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


#: What a server says in the application's place, by its status.
_REFUSALS: Final = {
    each.status: each
    for each in (
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


def reply_to_refused(refused: Refused) -> Reply:
    return Reply(refused.code, refused.msg)


#: A caller's x-request-id that is kept: anything else could break a log line or a header.
_SANE_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def is_sane(token: bytes) -> bool:
    """Whether it can stand in a header and in a log line as it is."""
    return _SANE_REQUEST_ID.fullmatch(token) is not None


def request_id_from(given: bytes | None) -> str:
    """The caller's own request id where it is a sane token, else a new UUID."""
    if given is not None and is_sane(given):
        return given.decode("ascii")
    return new_id()


def body_of(reply: Reply, request_id: str) -> bytes:
    """The contract's JSON, in the order of the page's sample. A request id, a sane token, has
    nothing in it that JSON would escape."""
    return f'{{"request_id":"{request_id}",{reply.rest}'.encode()


_JSON: Final = (b"content-type", b"application/json")
_CHALLENGE: Final = (b"www-authenticate", b"Bearer")
_JSON_LINE: Final = b"%b: %b\r\n" % _JSON


def response_of(reply: Reply, request_id: str) -> tuple[Headers, bytes]:
    """The headers and the body of a reply."""
    body = body_of(reply, request_id)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    if reply.code == NO_TOKEN.code:
        headers.append(_CHALLENGE)
    return headers, body


def lines_and_body(reply: Reply, request_id: str) -> tuple[bytes, bytes]:
    """The same, with the headers as the lines that they go out in."""
    body = body_of(reply, request_id)
    lines = b"%bcontent-length: %d\r\n" % (_JSON_LINE, len(body))
    return (lines + _line(_CHALLENGE) if reply.code == NO_TOKEN.code else lines), body


def _line(header: tuple[bytes, bytes]) -> bytes:
    return b"%b: %b\r\n" % header


def refusal(
    status: int, given: bytes | None, more: Iterable[tuple[bytes, bytes]] = ()
) -> tuple[bytes, bytes]:
    """Header lines and body of what a server says in an application's place, for the request id
    that its caller gave; with `more` headers where all answers of that port have them."""
    lines, body = lines_and_body(_REFUSALS[status], request_id_from(given))
    return b"".join([lines, *map(_line, more)]), body


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
    try:
        reply = parse_json(body, ANSWER)
    except Unreadable:
        reply = None
    return words_in(reply, body, secrets)


def words_in(reply: object, body: bytes, secrets: Sequence[Secret] = ()) -> Words:
    """The same of a body whose JSON has been read; None where it has none."""
    code, msg = (masked(text, secrets) for text in _said(reply, body))
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


def _said(reply: object, body: bytes) -> tuple[str, str]:
    text = body[:_LOOKED_AT].decode("utf-8", "replace")
    if not isinstance(reply, dict) or not isinstance(reply.get("code"), str):
        return "", text
    msg = reply.get("msg", "")
    return reply["code"], msg if isinstance(msg, str) else text
