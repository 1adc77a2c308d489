"""Events out of lines: of the router's own JSON log as it is, of events, of keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from router.contract.strictjson import Unreadable, parse_json
from router.model.event import FIELDS, Event

#: The longest line that is looked at, in bytes; twice the largest callback by default.
MAX_EVENT_LINE = 2 * 1024 * 1024

#: How many different events are held at a time, in number and in characters of their fields.
_MAX_HELD, _MAX_CHARACTERS = 50_000, 16 * 1024 * 1024

#: The lines of the router's log that are about an event.
_HAPPENINGS = ("event", "unmatched")

#: The fields as the log writes them, where nothing in them is escaped. Looking for these alone
#: takes a fifth of the time that the whole line would.
_LOGGED = re.compile(
    rb'"happening":"(?:event|unmatched)",.*"event_key":"T","event_source":"T",'
    rb'"event_topic":"T","event_type":"T","event_status":"T"'.replace(b"T", rb"([ !#-\[\]-~]+)")
)

#: A line of the log that stands for many alike.
_SUM = re.compile(rb'"happening":"unmatched",.*"count":([0-9]{1,12}),"first":')

_Values = tuple[str, ...]


class Traffic:
    """The events in a stream, each with how many times it came, in bounded memory.

    A line is an event as EBaaS sends it, a line of the router's log, or a key alone, as JSON or as
    it is. Before a `{` there may be what collectors put there: a time, a container's name.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        #: Lines that are none of these, by now. Blank ones and the log's others don't count.
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        """The same event may come again later, where there are many different ones."""
        held: Counter[_Values] = Counter()
        characters = 0
        for values, times in self._read():
            if values not in held:
                characters += sum(map(len, values))
            held[values] += times
            if len(held) >= _MAX_HELD or characters >= _MAX_CHARACTERS:
                yield from _events(held)
                held.clear()
                characters = 0
        yield from _events(held)

    def _read(self) -> Iterator[tuple[_Values, int]]:
        while line := self._stream.readline(MAX_EVENT_LINE):
            if len(line) == MAX_EVENT_LINE and not line.endswith(b"\n"):
                self._pass_over()
                continue
            values = _values(line)
            if values:
                summed = _SUM.search(line)
                yield values, int(summed[1]) if summed else 1
            elif values is None:
                self.skipped += 1

    def _pass_over(self) -> None:
        """The rest of a line that is too long."""
        self.skipped += 1
        while (rest := self._stream.readline(MAX_EVENT_LINE)) and not rest.endswith(b"\n"):
            pass


def _events(held: Counter[_Values]) -> Iterator[tuple[Event, int]]:
    for values, times in held.items():
        yield Event.of(dict(zip(FIELDS, values, strict=True))), times


def _values(line: bytes) -> _Values | None:
    """An event's five fields, those that are not said empty; `()` where there is nothing to say
    of the line, None where it is not understood."""
    if logged := _LOGGED.search(line):
        key, *four = logged.groups()
        return (*(value.decode() for value in four), key.decode())
    start = line.find(b"{")
    if start < 0 or line.lstrip().startswith(b'"'):
        return _key(line)
    try:
        said = parse_json(line[start:])
    except Unreadable:
        return None
    if not isinstance(said, dict):
        return None
    if said.get("happening", "event") not in _HAPPENINGS:
        return ()
    values = tuple(said.get(name) or "" for name in FIELDS)
    return values if _routable(values) else None


def _routable(values: tuple[Any, ...]) -> bool:
    """Whether these are strings of which the key is known: its own, or by all four others."""
    return all(isinstance(value, str) for value in values) and bool(values[4] or all(values[:4]))


def _key(line: bytes) -> _Values | None:
    text = line.decode("utf-8", "replace").strip()
    if text.startswith('"'):
        try:
            text = parse_json(text.encode())
        except Unreadable:
            return None
    elif len(text.split()) > 1 or text.startswith("["):
        return None
    return ("", "", "", "", text) if text else ()
