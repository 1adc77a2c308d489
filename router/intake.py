"""Bytes → Event: the contract's own schema first and always, then the operator's."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from router.errors import Refused
from router.model import FIELDS, MAX_CHANGES, Event
from router.schema import Fault, Schema
from router.strictjson import Unreadable, parse

#: The order of the platform's page: of several faulty fields the first one is named.
_PAGE_ORDER = {name: place for place, name in enumerate((*FIELDS, "changes"))}

#: The page's message is the one of `absent`; the others speak in its voice.
_MESSAGES = {
    "absent": "参数{field}不能为空",
    "type": "参数{field}类型错误，应为{expected}",
    "value": "参数{field}的值不在允许的范围内",
    "format": "参数{field}格式错误",
    "size": "参数{field}长度不符合要求",
    "unknown": "参数{field}不允许出现",
    "rule": "参数{field}不符合要求",
}

_TYPES = {
    "string": "字符串",
    "array": "数组",
    "object": "对象",
    "number": "数字",
    "integer": "整数",
    "boolean": "布尔值",
}

_NOT_JSON = "请求体应为UTF-8编码的JSON，且无重复键"
_NOT_AN_OBJECT = "请求体应为JSON对象"
_WHOLE_BODY = "请求体不符合要求"

_FOUR = itemgetter(*FIELDS[:4])

#: The longest name of a field that is repeated to the caller; it may come from the body.
_MAX_NAME = 64


class Intake:
    """Reads callbacks by the contract's schema and, where there are more, by each of those."""

    def __init__(self, *schemas: Schema) -> None:
        self._schemas = schemas

    def read(self, body: bytes) -> Event:
        """The event in a callback's body. Raises Refused (code 400) for any other bytes.

        The reply names the first faulty field in the order of the platform's page, whatever its
        fault; fields that the page does not have come after those.
        """
        try:
            callback = parse(body)
        except Unreadable as error:
            raise Refused("400", _NOT_JSON, str(error)) from None
        if not isinstance(callback, dict):
            raise Refused("400", _NOT_AN_OBJECT, "no JSON object")
        for schema in self._schemas:
            fault = min(schema.faults(callback), key=_order, default=None)
            if fault is not None:
                raise _refusal(fault)
        return _event(callback, body)


def _event(callback: dict[str, Any], body: bytes) -> Event:
    source, topic, kind, status = _FOUR(callback)
    key = callback.get("event_key") or f"{source}.{topic}.{kind}.{status}"
    return Event(source, topic, kind, status, key, body, callback["changes"][:MAX_CHANGES])


def _order(fault: Fault) -> tuple[int, int]:
    """Its field's place on the page; deeper faults of one field come after shallower ones."""
    unlisted = len(_PAGE_ORDER)
    if not fault.path:
        return unlisted + 1, 0
    return _PAGE_ORDER.get(str(fault.path[0]), unlisted), len(fault.path)


def _refusal(fault: Fault) -> Refused:
    if not fault.path:
        return Refused("400", _WHOLE_BODY, f"the body as a whole: {fault.keyword}")
    field = _name(fault.path)
    expected = "或".join(_TYPES[name] for name in fault.expected if name in _TYPES)
    msg = _MESSAGES[fault.kind].format(field=field, expected=expected)
    return Refused("400", msg, f"{field}: {fault.keyword}", field)


def _name(path: tuple[str | int, ...]) -> str:
    """`changes[3].id`; it may come from the body: cut short, and without control characters."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    return "".join(c if c.isprintable() else "?" for c in name)[:_MAX_NAME]
