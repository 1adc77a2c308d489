"""Print schemas/openapi.yaml from the schema of callbacks and the table of replies: python -m
scripts.openapi"""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml

from router import __version__
from router.contract import replies
from router.contract.schema import shipped_schema

HEAD = """\
# Made by `make docs`; a test fails where it is stale. The words are those of docs/contract.md.
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

#: The cause of each reply; README.md has the same table.
WHEN = {
    "200": "Every required target has acknowledged the event.",
    "400": "The callback breaks the contract; the message names the first faulty field.",
    "401": "No good token, where routes.yaml wants one (`ebaas.token`).",
    "403": "Not from one of `ebaas.allow_from`.",
    "404": "Another path.",
    "405": "Another method.",
    "408": "The request took too long to arrive.",
    "413": "A body over `--max-body`.",
    "414": "Too long a path.",
    "415": "A compressed body.",
    "417": "An `expect` that is not served.",
    "431": "Too large a head.",
    "500": "A required target has not acknowledged it in time, or no route matches. Send it again.",
    "503": "Too many requests or connections, or the router is stopping. Send it again.",
    "508": "It has come through more than three routers: a target is a router that sends it back.",
}

#: The headers of a request to a target: whether each is always present, and its meaning.
HEADERS = {
    "webhook-id": (True, "The event's id: the same over all attempts at it. Dedupe by it."),
    "webhook-timestamp": (True, "When this attempt was made, in seconds since 1970."),
    "webhook-signature": (False, "Where routes.yaml has a `secret` for it: Standard Webhooks, v1."),
    "x-ebaas-event-key": (False, "The event's key, percent-encoded, unless it is very long."),
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
            "version": __version__,
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
                    "responses": {status: _answer(status, when) for status, when in WHEN.items()},
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
    if status == "200":
        return _reply(when, replies.ACKNOWLEDGED)
    if status == "400":
        return _reply(when, replies.Reply("400", "参数event_source不能为空"))
    known = (each for each in vars(replies).values() if isinstance(each, replies.Reply))
    return _reply(when, next(each for each in known if each.code == status))


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


if __name__ == "__main__":
    sys.stdout.write(text())
