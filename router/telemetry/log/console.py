"""One line for people: an event in a few words, all else by its names and values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from router.model.secret import Secret

Level = Literal["info", "warning", "error"]
Fields = Mapping[str, Any]

#: What needs no quotes and no second look: most values.
_PLAIN = re.compile(r"[\w.:;/+*?!@#$%&|~^<>()'-]+", re.ASCII)
_NEEDS_QUOTES = re.compile(r'[\s="{}\[\],]')

#: What is told in a few words: what a caller was told of an event. A line about a target's attempt
#: has a `code` too, which is the target's.
_OF_REQUESTS = frozenset({"event", "unmatched"})

#: What the words are made of; and what they leave out, but for trouble.
_IN_ANY = frozenset({"event_key", "code", "ms"})
_IN_WORDS = _IN_ANY | {"request", "of"}
_TROUBLE = frozenset({"cause", "unrecorded", "unqueued", "cut"})

_DIM, _RED, _GREEN, _YELLOW = 2, 31, 32, 33
_LEVELS = {"info": 0, "warning": _YELLOW, "error": _RED}


class Console:
    """Renders lines for people."""

    def __init__(self, *, verbose: bool = False, colored: bool = False) -> None:
        """`verbose`: an event's line has all its fields as well."""
        self._verbose = verbose
        self._colored = colored

    def line(self, stamp: str, level: Level, happening: str, fields: Fields) -> str:
        parts = [self._in(_DIM, stamp), self._in(_LEVELS[level], f"{level:<7}"), happening]
        if happening in _OF_REQUESTS and fields.keys() >= _IN_ANY:
            parts.append(self._words(fields))
            left = fields.keys() - _IN_WORDS if self._verbose else _TROUBLE
            fields = {name: value for name, value in fields.items() if name in left}
        parts += [f"{name}={shown(value)}" for name, value in fields.items() if value != ""]
        return " ".join(parts).rstrip() + "\n"

    def _words(self, fields: Fields) -> str:
        """`a.gs.cert.1 500 in 31.2 ms, request 2 of 21: ledger timeout 3000 ms`."""
        code = shown(fields["code"]) if fields["code"] else "hung up"
        told = self._in(_GREEN if code == "000" else _RED, code)
        words = f"{shown(fields['event_key'])} {told} in {shown(fields['ms'])} ms"
        if fields.get("request", 1) != 1:
            words += f", request {shown(fields['request'])} of {shown(fields.get('of'))}"
        owing = "; ".join(_owing(fields.get("targets")))
        return f"{words}: {owing}" if owing else words

    def _in(self, color: int, text: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colored and color else text


def _owing(targets: Any) -> Iterator[str]:
    """Each target that did not acknowledge, with why."""
    for name, told in targets.items() if isinstance(targets, Mapping) else ():
        why = told.get("reason", told.get("skipped")) if isinstance(told, Mapping) else told
        if why == "acknowledged":
            continue
        words = [shown(name), shown(why)]
        if isinstance(told, Mapping):
            if told.get("as") == "optional":
                words.insert(1, "(optional)")
            words += [shown(told[each]) for each in ("status", "detail") if each in told]
            words += [f"{shown(told['ms'])} ms"] if "ms" in told else []
        yield " ".join(words)


def shown(value: Any) -> str:
    """A value on one line and without control sequences, quoted where it has blanks."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else _quoted(value)
    if isinstance(value, int | float | None):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + " ".join([f"{shown(k)}={shown(v)}" for k, v in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([shown(member) for member in value]) + "]"
    return str(kind(value))


def kind(value: Any) -> Any:
    """What stands for a value that is no plain data: an exception's text may hold a secret."""
    if isinstance(value, Secret):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else type(value).__name__


def _quoted(text: str) -> str:
    """In quotes, where it can't do without."""
    if not text or _NEEDS_QUOTES.search(text) or not text.isprintable():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{printable(escaped)}"'
    return text


def printable(text: str) -> str:
    r"""`text` with control and invisible characters as `\u001b`; in JSON it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
