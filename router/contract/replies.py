"""The one table from what happened to what the caller is told, and its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from router.model.errors import Refused
from router.model.event import SUCCESS, new_id

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
