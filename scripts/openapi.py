"""schemas/openapi.yaml, made of the callback's schema and the table of replies by `make docs`."""

from __future__ import annotations

import json
from typing import Any

import yaml

from router import __version__
from router.contract import replies
from router.contract.schema import shipped_schema

HEAD = """\
# Made by `make docs`; a test fails if it is stale. The wording follows docs/reference/contract.md.
"""

#: The example of the platform's page.
SAMPLE = {
    "event_source": "a",
    "event_topic": "gs",
    "event_type": "cert",
    "event_status": "1",
    "event_key": "a.gs.cert.1",
    "changes": ["id1", "id2"],
}

REQUEST_ID = "b372be68-6fa6-4590-b927-a4096e6a05e6"

#: When the router sends each reply, by its HTTP status: in English and in Chinese.
WHEN = {
    "200": (
        "Every required target acknowledged the event.",
        "所有必达业务端都已确认该事件。",
    ),
    "400": (
        "The callback breaks the contract (the message names the first faulty field) or HTTP.",
        "回调不符合约定（应答信息指出第一个有误的字段），或不是有效的 HTTP。",
    ),
    "401": (
        "The token (`ebaas.token`) is missing or wrong.",
        "缺少令牌或令牌无效（`ebaas.token`）。",
    ),
    "403": (
        "The caller's address is not in `ebaas.allow_from`.",
        "来源地址不在 `ebaas.allow_from` 之内。",
    ),
    "404": ("Wrong path.", "路径错误。"),
    "405": ("Wrong method.", "方法错误。"),
    "408": ("The request took too long to arrive.", "请求到达太慢。"),
    "413": ("The body is larger than 1 MiB.", "请求体超过 1 MiB。"),
    "414": ("The path is too long.", "路径过长。"),
    "415": ("The body is compressed.", "请求体被压缩。"),
    "417": ("The `expect` header is not supported.", "不支持该 `expect` 请求头。"),
    "431": ("The header block is too large.", "请求头过大。"),
    "500": (
        (
            "A required target did not acknowledge within `reply_within`, an optional delivery "
            "could not be queued, or no route matches (`unmatched: reject`). Send the event again."
        ),
        (
            "有必达业务端在 `reply_within` 之内没有确认，有可选投递无法入队，"
            "或没有匹配的路由（`unmatched: reject`）。请重发。"
        ),
    ),
    "503": (
        (
            "Too many requests or connections, more events than the router can keep up with, a "
            "store that has not been opened yet, or a router that is stopping. Send it again."
        ),
        "请求或连接过多，事件多到处理不过来，存储尚未打开，或路由服务正在停止。请重发。",
    ),
    "508": (
        "The event has passed more than three routers: a target is a router that sends it back.",
        "事件已经过三个以上的路由服务：某个业务端是会把事件再发回来的路由服务。",
    ),
}

#: The headers of a request to a target: whether each is always present, and its meaning.
HEADERS = {
    "webhook-id": (True, "The event's id: the same over all attempts at it. Dedupe by it."),
    "webhook-timestamp": (True, "When this attempt was made, in seconds since 1970."),
    "webhook-signature": (False, "Where routes.yaml has a `secret` for it: Standard Webhooks, v1."),
    "x-ebaas-event-key": (False, "The event's key, percent-encoded, unless it is very long."),
    "x-ebaas-attempt": (True, "The number of this attempt, from 1, over all requests."),
    "x-ebaas-first-at": (True, "When the event first arrived at the router (RFC 3339)."),
    "x-ebaas-cause": (
        True,
        "Why now: `callback`, `retry` (EBaaS's), `queue`, `recovery` or `replay` (a person's).",
    ),
    "x-ebaas-target": (True, "The name that routes.yaml has for this endpoint."),
    "x-ebaas-hops": (False, "Where it came from another router: through how many before."),
    "x-request-id": (True, "The id of EBaaS's request: another one for each of its retries."),
    "traceparent": (False, "Where EBaaS sent a valid one, or the router makes spans."),
    "tracestate": (False, "Where EBaaS sent one with it."),
    "user-agent": (False, "`ebaas-router/` and its version, unless routes.yaml has another."),
}


def document() -> dict[str, Any]:
    callback = json.loads(shipped_schema("callback.schema.json").read_text("utf-8"))
    del callback["$schema"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EBaaS callbacks",
            "version": __version__.partition("+")[0],
            "summary": "What EBaaS says to the router, and the router to every receiver.",
            "description": "Both sides speak the same contract. The operation is what the router "
            "answers; the webhook is what a receiver has to answer.",
        },
        "paths": {
            "/callback": {
                "post": {
                    "operationId": "callback",
                    "summary": "Announce an event",
                    "description": "`000` means that every required target has acknowledged it. "
                    "After anything else the event is to be sent again. With `http_status: ok` "
                    "the HTTP status of a callback's reply is always 200.",
                    "security": [{}, {"token": []}],
                    "parameters": [
                        _header("x-request-id", "Is repeated in the reply where it is a token."),
                        _header(
                            "traceparent",
                            "W3C Trace Context; is passed on, or the parent of the router's span.",
                        ),
                        _header("tracestate", "Likewise, with a valid traceparent."),
                    ],
                    "requestBody": _body(),
                    "responses": {
                        status: _answer(status, when) for status, (when, _) in WHEN.items()
                    },
                }
            }
        },
        "webhooks": {
            "event": {
                "post": {
                    "operationId": "event",
                    "summary": "Take an event",
                    "description": "The body is EBaaS's own, byte for byte. Answer once the work "
                    "is durable: what is acknowledged never comes again.",
                    "parameters": [
                        _header(name, about, required=is_there)
                        for name, (is_there, about) in HEADERS.items()
                    ],
                    "requestBody": _body(),
                    "responses": {
                        "200": _reply(
                            'Acknowledged, where `code` is "000"; with `acknowledge: status` any '
                            "2xx does. Any other code is a failure.",
                            replies.ACKNOWLEDGED,
                        ),
                        "default": {
                            "description": "A failure: the event comes again. `retry-after` on "
                            "429 or 503 is honoured where the endpoint is optional.",
                            "headers": {"retry-after": {"schema": {"type": "string"}}},
                        },
                    },
                }
            }
        },
        "components": {
            "schemas": {"Callback": callback, "Reply": _REPLY},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_REPLY = {
    "type": "object",
    "required": ["code"],
    "properties": {
        "request_id": {"description": "The request's.", "type": "string"},
        "code": {"description": "`000` is success.", "type": "string"},
        "msg": {"description": "What happened, in Chinese.", "type": "string"},
    },
}


def _header(name: str, about: str, *, required: bool = False) -> dict[str, Any]:
    parameter = {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
    return {**parameter, "required": True} if required else parameter


def _body() -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Callback"}, "example": SAMPLE}
    return {"required": True, "content": {"application/json": content}}


def _answer(status: str, when: str) -> dict[str, Any]:
    code = "000" if status == "200" else status
    return _reply(when, replies.Reply(code, message(status)))


def message(status: str) -> str:
    """The `msg` of the reply with this HTTP status, or an example of it."""
    if status == "400":
        return "参数event_source不能为空"
    known = (each for each in vars(replies).values() if isinstance(each, replies.Reply))
    return next(each.msg for each in known if str(each.status) == status)


def _reply(about: str, reply: replies.Reply) -> dict[str, Any]:
    example = {"request_id": REQUEST_ID, "code": reply.code, "msg": reply.msg}
    content = {"schema": {"$ref": "#/components/schemas/Reply"}, "example": example}
    return {"description": about, "content": {"application/json": content}}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 100}
    made: str = yaml.dump(document(), Dumper=_Dumper, **options)
    return HEAD + made
