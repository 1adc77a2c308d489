"""The one table from what happened to what the caller is told, and its bytes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from router.errors import Refused
from router.forwarder import Outcome
from router.model import SUCCESS, new_id


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller is told: the contract's code and message. The HTTP status mirrors the code."""

    code: str
    msg: str

    @property
    def status(self) -> int:
        return 200 if self.code == SUCCESS else int(self.code)


# The messages of 000 and 500 are the platform's page's; the others speak in its voice.
ACKNOWLEDGED = Reply(SUCCESS, "成功")
BAD_HTTP = Reply("400", "请求不是有效的HTTP")
NO_TOKEN = Reply("401", "身份验证失败")
FORBIDDEN = Reply("403", "来源地址不被允许")
NOT_FOUND = Reply("404", "请求路径不存在")
WRONG_METHOD = Reply("405", "请求方法不支持")
TOO_SLOW = Reply("408", "请求接收超时")
TOO_LARGE = Reply("413", "请求体过大")
LONG_TARGET = Reply("414", "请求路径过长")
ENCODED = Reply("415", "不支持的content-encoding")
UNEXPECTED = Reply("417", "不支持的expect")
LARGE_HEAD = Reply("431", "请求头过大")
FAILED = Reply("500", "服务调用异常，请稍后再试或联系管理员")
BUSY = Reply("503", "服务繁忙，请稍后再试")
NOT_OPEN = Reply("503", "存储尚未连接，请稍后再试")


def reply_to(outcome: Outcome) -> Reply:
    """`000` only when every required target has acknowledged and nothing is left that is not
    durable; targets are never named."""
    return ACKNOWLEDGED if outcome.settled else FAILED


def reply_to_unmatched(accepted: bool) -> Reply:
    """An event that no route matches, by routes.yaml's `unmatched`."""
    return ACKNOWLEDGED if accepted else FAILED


def reply_to_refused(refused: Refused) -> Reply:
    return Reply(refused.code, refused.msg)


#: A caller's x-request-id that is kept: anything else could break a log line or a header.
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id_from(given: bytes | None) -> str:
    """The caller's own request id where it is a sane token, else a new UUID."""
    if given is not None and _SANE_REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return new_id()


def body_of(reply: Reply, request_id: str) -> bytes:
    """The contract's JSON, in the order of the page's sample. A request id, a sane token, has
    nothing in it that JSON would escape."""
    return f'{{"request_id":"{request_id}",{_rest(reply)}'.encode()


#: There are few different replies, but for those that name a field of the body.
@lru_cache(64)
def _rest(reply: Reply) -> str:
    members = {"code": reply.code, "msg": reply.msg}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))[1:]


def response_of(reply: Reply, request_id: str) -> tuple[bytes, bytes]:
    """The header lines and the body of a reply."""
    body = body_of(reply, request_id)
    challenge = b"www-authenticate: Bearer\r\n" if reply.code == NO_TOKEN.code else b""
    lines = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n"
    return lines % (challenge, len(body)), body


@lru_cache(64)
def status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUSES = frozenset(HTTPStatus)
