"""Bytes → Event: the contract's own schema first and always, then the operator's."""

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

#: The order of the platform's page: of several faulty fields the first one is named.
_PAGE_ORDER: Final = {name: place for place, name in enumerate((*FIELDS, "changes"))}

#: The page's message is the one of `absent`; the others speak in its voice.
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

#: The longest name of a field that is repeated to the caller; it may come from the body.
_MAX_NAME: Final = 64

# What one event may take of the loop. docs/security.md has the table of every step's bound.

#: The most characters that the fields which routes match have together: these are matched, encoded
#: and logged on the loop. 16 KiB take up to 7 ms of it; real ones have under 1 KiB.
MAX_NAMES: Final = 16 * 1024

#: Bodies up to this size, in bytes, are read on the loop, whatever is wrong with them: 5 ms for
#: 500 ids of which an operator's schema allows none.
SMALL: Final = 1024

#: Bodies up to this size are read on the loop where the quick validator finds nothing wrong: 1 ms.
LARGE: Final = 16 * 1024


class Intake:
    """Reads callbacks by the contract's schema and, where there are more, by each of those."""

    def __init__(self, *schemas: Schema) -> None:
        self._schemas = schemas

    @classmethod
    def of(cls, own: Path | None) -> Intake:
        """By the contract's schema always; an operator's `own` adds to it and can't take away.

        Raises StartFailed for a schema that can't be used."""
        return cls(Schema.shipped(), *([] if own is None else [Schema.load(own)]))

    def read(self, body: bytes) -> Event:
        """The event in a callback's body. Raises Refused (code 400) for any other bytes.

        The reply names the first faulty field in the order of the platform's page, whatever its
        fault, of the first thousand faults; fields that the page does not have come after those. It
        may take seconds: where others wait, only what `read_at_once` leaves is for this, in a
        thread.
        """
        callback = _parsed(body)
        for schema in self._schemas:
            if not schema.passes(callback):
                raise _refusal(min(schema.faults(callback), key=_order))
        return _event(callback, body)

    def read_at_once(self, body: bytes) -> Event | None:
        """The same, where it takes but milliseconds; None where it may take longer."""
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
    # A shorter body can't have longer names: a character is a byte of it at the least.
    if len(body) > MAX_NAMES:
        _check_names({name: callback.get(name) or "" for name in FIELDS})
    key = callback.get("event_key") or f"{source}.{topic}.{kind}.{status}"
    if source == OWN_SOURCE or key.startswith(OWN_KEYS):
        raise _forged("event_source" if source == OWN_SOURCE else "event_key")
    return Event(source, topic, kind, status, key, body, callback["changes"][:MAX_CHANGES])


def _forged(field: str) -> Refused:
    """Events of the router's own come from nobody else."""
    why = f"{field}: {OWN_SOURCE} is the router itself"
    return Refused("400", _MESSAGES["value"].format(field=field), why, field)


def _check_names(names: dict[str, str]) -> None:
    """Raises Refused, which names the longest, for names that are too long together."""
    if sum(map(len, names.values())) > MAX_NAMES:
        field = max(names, key=lambda name: len(names[name]))
        why = f"{field}: the fields that routes match have more than {MAX_NAMES} characters"
        raise Refused("400", _LONG_NAMES.format(field=field, most=MAX_NAMES), why, field)


def _order(fault: SchemaFault) -> tuple[int, int]:
    """Its field's place on the page; deeper faults of one field come after shallower ones."""
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
    """`changes[3].id`; it may come from the body: cut short, and without control characters."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    return "".join(c if c.isprintable() else "?" for c in name)[:_MAX_NAME]
