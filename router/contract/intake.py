"""The intake: from the bytes of a callback to an Event."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from router.contract.schema import Schema, SchemaFault
from router.contract.strictjson import (
    CALLBACK,
    TooMuch,
    Unreadable,
    begins_with_a_mark,
    parse_json,
)
from router.model.errors import Refused
from router.model.event import FIELDS, MAX_CHANGES, OWN_KEYS, OWN_SOURCE, Event

#: The order of the platform's page: the reply names the first faulty field.
_PAGE_ORDER: Final = {name: place for place, name in enumerate((*FIELDS, "changes"))}

#: `absent` is the platform page's message; the others are worded like it.
_MESSAGES: Final = {
    "absent": "参数{field}不能为空",
    "type": "参数{field}类型错误，应为{expected}",
    "value": "参数{field}的值不在允许的范围内",
    "format": "参数{field}格式错误",
    "size": "参数{field}长度不符合要求，应{most}{bound}",
    "unknown": "参数{field}不允许出现",
    "rule": "参数{field}不符合要求",
}

_TYPES: Final = {
    "string": "字符串",
    "array": "数组",
    "object": "对象",
    "number": "数字",
    "integer": "整数",
    "boolean": "布尔值",
}

_NOT_JSON: Final = "请求体应为UTF-8编码的JSON，且无重复键"
_MARKED: Final = "请求体不应以UTF-8字节序标记(BOM)开头"
_LONG_NAMES: Final = "参数{field}长度不符合要求，与其他路由字段合计应不超过{most}"
_TOO_MUCH: Final = {
    "depth": "请求体嵌套不应超过{most}层",
    "lists": "请求体中的数组和对象不应超过{most}个",
    "values": "请求体中的值不应超过{most}个",
}
_NOT_AN_OBJECT: Final = "请求体应为JSON对象"
_WHOLE_BODY: Final = "请求体不符合要求"

_FOUR: Final = itemgetter(*FIELDS[:4])

#: The longest field name that is repeated to the caller, who may have chosen it, in characters.
_MAX_NAME: Final = 64

# Bounds on the loop's work for one event: docs/explanation/security.md has the table.

#: The longest that the fields which routes match may be together, in characters. They are matched,
#: encoded and logged on the loop: 16 KiB take up to 7 ms. Real ones have less than 1 KiB.
MAX_NAMES: Final = 16 * 1024

#: Bodies up to this size, in bytes, are always read on the loop: 5 ms for 500 ids that an
#: operator's schema does not allow.
SMALL: Final = 1024

#: Valid bodies up to this size, in bytes, are read on the loop: 1 ms.
LARGE: Final = 16 * 1024


class Intake:
    """Reads callbacks, which must be valid by each of its schemas."""

    def __init__(self, *schemas: Schema) -> None:
        self._schemas = schemas

    @classmethod
    def of(cls, own: Path | None) -> Intake:
        """By the contract's schema and an operator's `own`, which can only add rules.

        Raises StartFailed for a schema that cannot be used."""
        return cls(Schema.shipped(), *([] if own is None else [Schema.load(own)]))

    def read(self, body: bytes) -> Event:
        """Return the event in a callback's body. Raises Refused (code 400) for any other bytes.

        The reply names the first faulty field in the order of the platform's page; other fields
        come after those. It may take long: on the loop, use `read_at_once`.
        """
        callback = _parsed(body)
        for schema in self._schemas:
            if not schema.passes(callback):
                raise _refusal(min(schema.faults(callback), key=_order))
        return _event(callback, body)

    def read_at_once(self, body: bytes) -> Event | None:
        """Return the same within milliseconds, or None if it may take longer."""
        if len(body) <= SMALL:
            return self.read(body)
        if len(body) > LARGE:
            return None
        callback = _parsed(body)
        return _event(callback, body) if all(s.passes(callback) for s in self._schemas) else None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        callback = parse_json(body, CALLBACK)
    except TooMuch as bound:
        raise Refused("400", _TOO_MUCH[bound.kind].format(most=bound.most), str(bound)) from None
    except Unreadable as error:
        msg = _MARKED if begins_with_a_mark(body) else _NOT_JSON
        raise Refused("400", msg, str(error)) from None
    if not isinstance(callback, dict):
        raise Refused("400", _NOT_AN_OBJECT, "no JSON object")
    return callback


def _event(callback: dict[str, Any], body: bytes) -> Event:
    source, topic, kind, status = _FOUR(callback)
    # In a shorter body the names are short enough: a character has at least one byte.
    if len(body) > MAX_NAMES:
        _check_names({name: callback.get(name) or "" for name in FIELDS})
    key = callback.get("event_key") or f"{source}.{topic}.{kind}.{status}"
    if source == OWN_SOURCE or key.startswith(OWN_KEYS):
        raise _forged("event_source" if source == OWN_SOURCE else "event_key")
    return Event(source, topic, kind, status, key, body, callback["changes"][:MAX_CHANGES])


def _forged(field: str) -> Refused:
    """Refuse a callback that poses as the router's own event."""
    why = f"{field}: {OWN_SOURCE} is the router itself"
    return Refused("400", _MESSAGES["value"].format(field=field), why, field)


def _check_names(names: dict[str, str]) -> None:
    """Raises Refused, which names the longest field, if the names are too long together."""
    if sum(map(len, names.values())) > MAX_NAMES:
        field = max(names, key=lambda name: len(names[name]))
        why = f"{field}: the fields that routes match have more than {MAX_NAMES} characters"
        raise Refused("400", _LONG_NAMES.format(field=field, most=MAX_NAMES), why, field)


def _order(fault: SchemaFault) -> tuple[int, int]:
    """Sort key: by the field's position on the page, then by depth."""
    unlisted = len(_PAGE_ORDER)
    if not fault.path:
        return unlisted + 1, 0
    return _PAGE_ORDER.get(str(fault.path[0]), unlisted), len(fault.path)


def _refusal(fault: SchemaFault) -> Refused:
    if not fault.path:
        return Refused("400", _WHOLE_BODY, f"the body as a whole: {fault.keyword}")
    field = _name(fault.path)
    msg = _MESSAGES[fault.kind].format(
        field=field,
        expected="或".join(_TYPES[name] for name in fault.expected if name in _TYPES),
        most="不小于" if fault.is_too_small else "不超过",
        bound=fault.bound,
    )
    return Refused("400", msg, f"{field}: {fault.keyword}", field)


def _name(path: tuple[str | int, ...]) -> str:
    """A path like `changes[3].id`, cut short and without control characters."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    return "".join(c if c.isprintable() else "?" for c in name)[:_MAX_NAME]
