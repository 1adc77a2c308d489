"""Log lines: as JSON for programs, as text for a console."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii as encoded
from typing import Any, Final, Literal, NamedTuple

import orjson

from router.model.secret import Secret

Level = Literal["info", "warning", "error"]
Fields = Mapping[str, Any]

#: Texts that need no quotes: most values.
_PLAIN = re.compile(r"[\w.:;/+*?!@#$%&|~^<>()'-]+")

#: Happenings that a console shows as a sentence, the fields that it needs and has, and the fields
#: shown besides. A line about a single attempt is not among them: its `code` is the target's.
_SENTENCES = frozenset({"event", "unmatched"})
_NEEDED = frozenset({"event_key", "code", "ms"})
_BESIDE = frozenset({"cause", "unrecorded", "unqueued", "cut"})


def _console_line(stamp: str, level: Level, happening: str, fields: Fields) -> str:
    """Render a line for people."""
    parts = [stamp, f"{level:<7}", happening]
    if happening in _SENTENCES and fields.keys() >= _NEEDED:
        parts.append(_sentence(fields))
        fields = {name: value for name, value in fields.items() if name in _BESIDE}
    parts += [f"{name}={shown(value)}" for name, value in fields.items() if value != ""]
    return " ".join(parts).rstrip() + "\n"


def _sentence(fields: Fields) -> str:
    """Format `a.gs.cert.1 500 in 31.2 ms, request 2 of 21: ledger timeout 3000 ms`."""
    code = shown(fields["code"]) if fields["code"] else "hung up"
    sentence = f"{shown(fields['event_key'])} {code} in {shown(fields['ms'])} ms"
    if fields.get("request", 1) != 1:
        sentence += f", request {shown(fields['request'])} of {shown(fields.get('of'))}"
    owing = "; ".join(_owing(fields.get("targets")))
    return f"{sentence}: {owing}" if owing else sentence


def _owing(targets: Any) -> Iterator[str]:
    """Yield each target that did not acknowledge, and why."""
    for name, result in targets.items() if isinstance(targets, Mapping) else ():
        if not isinstance(result, Mapping):
            yield f"{shown(name)} {shown(result)}"
            continue
        why = result.get("reason", result.get("skipped"))
        if why != "acknowledged":
            words = [shown(name), *(["(optional)"] if result.get("as") == "optional" else [])]
            words += [shown(why), *(shown(result[n]) for n in ("status", "detail") if n in result)]
            yield " ".join([*words, *([f"{shown(result['ms'])} ms"] if "ms" in result else [])])


def shown(value: Any) -> str:
    """Format a value on one line, without control characters, as JSON if it is not a plain text."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return printable(json.dumps(value, ensure_ascii=False, default=kind))


def kind(value: Any) -> Any:
    """Return a substitute for a value that JSON has no type for: never the value's text, because
    an exception's may contain a secret."""
    if isinstance(value, Secret):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else type(value).__name__


def printable(text: str) -> str:
    r"""Replace control and invisible characters by their escapes in JSON, like `\u001b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else encoded(c)[1:-1] for c in text)


Format = Literal["console", "json"]

#: The longest line, in bytes: Docker and the runtimes of Kubernetes split longer ones. And the
#: longest text in a line, in characters.
MAX_LINE: Final = 16 * 1024
MAX_TEXT: Final = 1024
_LONGEST: Final = (MAX_LINE, MAX_TEXT)

#: The limits for a line that would be too long, tried in turn: the longest text, in characters, and
#: the most members of a list or mapping. Every target's result stays longest; its own words go
#: first.
_LIMITS: Final = ((128, sys.maxsize), (128, 64), (16, 4), (0, 0))
_OWN_WORDS: Final = ("msg", "detail")

#: Names that the line itself uses.
_RESERVED: Final = frozenset({"time", "level", "happening", "cut"})


class RawLine(NamedTuple):
    """A line to be rendered."""

    at: float
    level: Level
    happening: str
    #: Not changed after this point.
    fields: Fields


class Lines:
    """Renders lines in one format."""

    def __init__(
        self, format: Format, encoding: str = "utf-8", limits: tuple[int, int] = _LONGEST
    ) -> None:
        """`encoding` is for people. JSON is ASCII. `limits` are those of a line and of a text."""
        self.is_json = format == "json"
        self._encoding = encoding
        self._max_line, self._max_text = limits
        #: The second of the last line, as Unix time and as text: most lines share it.
        self._second = (0, "1970-01-01T00:00:00")

    def line(self, now: float, level: Level, happening: str, fields: Fields) -> bytes:
        """Return a line with its end, within the limits; `cut` names the fields that were cut.

        Never raises: a log line is not worth a failure.
        """
        stamp, longest = self.stamp(now), self._max_text
        try:
            if fields.keys().isdisjoint(_RESERVED):
                line = self._line(stamp, level, happening, fields)
                # A line shorter than the longest text does not contain a longer one.
                if len(line) <= longest or (
                    len(line) <= self._max_line and not _has_long(fields, longest)
                ):
                    return line
            named = {f"{name}_" if name in _RESERVED else name: v for name, v in fields.items()}
            for characters, members in ((longest, sys.maxsize), *_LIMITS):
                without = () if characters == longest else _OWN_WORDS
                short = {n: _shortened(v, characters, members, without) for n, v in named.items()}
                cut = [name for name, value in named.items() if short[name] != value]
                line = self._line(stamp, level, happening, {**short, "cut": cut} if cut else short)
                if len(line) <= self._max_line:
                    break
        except Exception:  # noqa: BLE001 - a value that cannot be rendered, for any reason
            line = self._line(stamp, level, happening, {"cut": [*map(str, fields)]})
        return line

    def with_body(self, line: bytes | RawLine, body: bytes) -> bytes:
        """Return a line of JSON with its event's body, which is UTF-8, if there is one."""
        rendered = line if isinstance(line, bytes) else self.line(*line)
        if not body:
            return rendered
        text = body.decode()
        is_plain = body.isascii() and b"\x7f" not in body
        payload = orjson.dumps(text) if is_plain else encoded(text).encode()
        return b'%b,"payload":%b}\n' % (rendered[:-2], payload)

    def stamp(self, now: float) -> str:
        """Format Unix time as ISO 8601 in UTC, to the millisecond."""
        second, text = self._second
        if int(now) != second:
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        # Twice as fast as a format specification with a width.
        return f"{text}.{str(1000 + int((now - second) * 1000))[1:]}Z"

    def _line(self, stamp: str, level: Level, happening: str, fields: Fields) -> bytes:
        if self.is_json:
            members = {"time": stamp, "level": level, "happening": happening, **fields}
            return _quickly(members) or _ENCODER.encode(members).encode("ascii") + b"\n"
        line = _console_line(stamp, level, happening, fields)
        return line.encode(self._encoding, "backslashreplace")


#: Shared by all threads: its last second is read and replaced as a whole.
_STAMPS: Final = Lines("json")


def stamp(at: float) -> str:
    """Format Unix time as in lines. It is rounded, so that a time read from a line comes out."""
    return _STAMPS.stamp(at + 0.0005)


def utc(at: float) -> str:
    """Format Unix time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _has_long(fields: Fields, longest: int) -> bool:
    """Return whether a field is a longer text."""
    for value in fields.values():  # noqa: SIM110 - three times as fast as any()
        if type(value) is str and len(value) > longest:
            return True
    return False


def _shortened(value: Any, characters: int, members: int, without: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "…"
    if isinstance(value, Mapping):
        few = [item for item in value.items() if item[0] not in without][:members]
        return {name: _shortened(member, characters, members, without) for name, member in few}
    if isinstance(value, list | tuple):
        short = [_shortened(member, characters, members, without) for member in value[:members]]
        return short if isinstance(value, list) else tuple(short)
    return value


_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=kind)


def _quickly(members: dict[str, Any]) -> bytes | None:
    """Encode as orjson does, in a tenth of the time of `_ENCODER`. None if it cannot, or if the
    line is not printable ASCII: orjson does not escape other characters, which a terminal may obey.
    """
    try:
        line = orjson.dumps(members, kind, orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a key that is not a text, or an integer of more than 64 bits
        return None
    return line if line.isascii() and b"\x7f" not in line else None
