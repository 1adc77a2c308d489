"""Log lines: as JSON for programs, as text for a console."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii as encoded
from typing import Any, Final, Literal

import orjson

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


Format = Literal["console", "detailed", "json"]

#: The longest line, in bytes: Docker and the runtimes of Kubernetes split what is longer.
MAX_LINE: Final = 16 * 1024

#: The longest text that a line repeats, in characters.
MAX_TEXT: Final = 1024

#: What targets said in their own words. It goes first: their names and reasons are worth more.
_SAID: Final = ("msg", "detail")

#: The longest text of a line that would still be too long, and how many members of a list or
#: mapping it repeats.
_FEW_CHARACTERS, _FEW_MEMBERS = 128, 64

#: What a line takes besides the values of its fields, in bytes; with a margin.
_FRAME: Final = 1024

#: The fields that every line has, or may have, of its own.
_OWN: Final = frozenset({"time", "level", "happening", "cut"})


class Lines:
    """Renders lines in one format."""

    def __init__(
        self,
        format: Format,
        encoding: str = "utf-8",
        *,
        colored: bool = False,
        max_line: int = MAX_LINE,
        max_text: int = MAX_TEXT,
    ) -> None:
        """Encoding and colour are for people; JSON is ASCII. JSON and `detailed` have everything
        that `max_line`, in bytes, and `max_text`, in characters, leave room for."""
        self.is_json = format == "json"
        self._encoding = "ascii" if format == "json" else encoding
        self._max_line, self._max_text = max_line, max_text
        self._console = Console(verbose=format == "detailed", colored=colored)
        #: A second of Unix time, and how it is written: most lines are in that of the line before.
        self._second = (0, "1970-01-01T00:00:00")

    def line(self, now: float, level: Level, happening: str, fields: Fields) -> bytes:
        """A line with its end, no longer than it may be; its field `cut` names what had to go.

        Never raises: no log line is worth a failure of its own.
        """
        stamp, longest = self.stamp(now), self._max_text
        try:
            if not _has_own(fields):
                line = self._line(stamp, level, happening, fields)
                # What is no longer than a text may be has no longer text in it.
                if len(line) <= longest or (
                    len(line) <= self._max_line and not _has_long(fields, longest)
                ):
                    return line
            fields = _tamed(fields, longest)
            line = self._line(stamp, level, happening, fields)
            if len(line) > self._max_line:
                fields = _terse(fields)
                line = self._line(stamp, level, happening, fields)
            if len(line) > self._max_line:
                line = self._line(stamp, level, happening, self._fitted(fields))
        except Exception:  # noqa: BLE001 - a value that can't be shown, whatever it is
            line = self._line(stamp, level, happening, {"cut": [*map(str, fields)]})
        return line

    def stamp(self, now: float) -> str:
        """Unix time as ISO 8601 in UTC, to the millisecond."""
        second, text = self._second
        if int(now) != second:
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        # In half the time of a format with its width.
        return f"{text}.{str(1000 + int((now - second) * 1000))[1:]}Z"

    def _line(self, stamp: str, level: Level, happening: str, fields: Fields) -> bytes:
        if self.is_json:
            members = {"time": stamp, "level": level, "happening": happening, **fields}
            return _quickly(members) or _ENCODER.encode(members).encode("ascii") + b"\n"
        line = self._console.line(stamp, level, happening, fields)
        return line.encode(self._encoding, "backslashreplace")

    def _fitted(self, fields: Fields) -> dict[str, Any]:
        """As much of the fields as goes into one line."""
        room = self._max_line - _FRAME
        fitted: dict[str, Any] = {}
        cut: list[str] = list(fields.get("cut", ()))
        for name, value in fields.items():
            if name == "cut":
                continue
            # Targets stay whole where they can, however many they are.
            short = value if name == "targets" else _shortened(value, _FEW_CHARACTERS)
            size = len(self._line("", "info", "", {name: short}))
            if size > room:
                short, size = "…", 0
            room -= size
            fitted[name] = short
            if short != value:
                cut.append(name)
        return {**fitted, "cut": cut}


def with_payload(line: bytes, body: bytes) -> bytes:
    """A line of JSON with the body as well, which is UTF-8."""
    text = body.decode()
    is_plain = body.isascii() and b"\x7f" not in body
    payload = orjson.dumps(text) if is_plain else encoded(text).encode()
    return b'%b,"payload":%b}\n' % (line[:-2], payload)


def stamp(at: float) -> str:
    """Unix time as lines have it, to the nearest millisecond: what was read from one comes out."""
    return Lines("json").stamp(at + 0.0005)


def utc(at: float) -> str:
    """Unix time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _has_own(fields: Fields) -> bool:
    return not fields.keys().isdisjoint(_OWN)


def _has_long(fields: Fields, longest: int) -> bool:
    """Whether there is a text so long that even looking at it takes time."""
    for value in fields.values():  # noqa: SIM110 - three times as fast as any()
        if type(value) is str and len(value) > longest:
            return True
    return False


def _tamed(fields: Fields, longest: int) -> dict[str, Any]:
    """With texts cut to the longest, and with names of the fields' own."""
    named = {f"{name}_" if name in _OWN else name: value for name, value in fields.items()}
    tamed = {
        name: _shortened(value, longest) if isinstance(value, str) else value
        for name, value in named.items()
    }
    cut = [name for name, value in named.items() if tamed[name] is not value]
    return {**tamed, "cut": cut} if cut else tamed


def _terse(fields: Fields) -> Fields:
    """With what came of an event at its targets, but not what they said."""
    targets = fields.get("targets")
    if not isinstance(targets, Mapping):
        return fields
    terse = {name: _unsaid(each) for name, each in targets.items()}
    if terse == targets:
        return fields
    said = [
        f"targets.{name}"
        for name in _SAID
        if any(name in each for each in targets.values() if isinstance(each, Mapping))
    ]
    return {**fields, "targets": terse, "cut": [*fields.get("cut", ()), *said]}


def _unsaid(outcome: Any) -> Any:
    if not isinstance(outcome, Mapping):
        return outcome
    return {name: value for name, value in outcome.items() if name not in _SAID}


def _shortened(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + "…"
    if isinstance(value, Mapping):
        few = [*value.items()][:_FEW_MEMBERS]
        return {name: _shortened(member, longest) for name, member in few}
    if isinstance(value, list | tuple):
        return [_shortened(member, longest) for member in value[:_FEW_MEMBERS]]
    return value


_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=True,
    allow_nan=False,
    check_circular=False,
    separators=(",", ":"),
    default=kind,
)


def _quickly(members: dict[str, Any]) -> bytes | None:
    """JSON in printable ASCII and a line break, in a tenth of `_ENCODER`'s time, where orjson can:
    it leaves DEL and what is not ASCII as it is, and among that may be what a terminal obeys."""
    try:
        line = orjson.dumps(members, kind, orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a key that is no text, an integer of more than 64 bits
        return None
    return line if line.isascii() and b"\x7f" not in line else None
