"""A search's question: which events, and which of their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from router.archive.trace.lines import AtTargetView, CallerInfo, EventLine, has_failed
from router.model.event import SUCCESS
from router.routing.index import Glob, GlobInvalid

#: Bytes, or a pattern, that every line of interest contains.
Needle = bytes | re.Pattern[bytes]

#: The shortest prefix of a body's hash that is searched for, and the length of it that a line has.
_SHORTEST, _DIGEST = 6, 12

#: Contained in every line that `failed` fits: a happening other than a success, or a reason of an
#: attempt other than `acknowledged`, the only one that begins with an "a".
_FAILED = (
    re.compile(rb'"happening":"(?!(?:event|unmatched)","code":"000"|retried")'),
    re.compile(rb'"reason":"[^a]'),
)


@dataclass(frozen=True)
class Word:
    """One WHAT: the id of an event, a request or a trace, a key or a pattern of keys, an id in
    `changes`, or a prefix of the SHA-256 of the body."""

    text: str

    @cached_property
    def keys(self) -> Glob:
        """The text as a pattern of keys; an invalid pattern stands for the key spelled like it."""
        try:
            return Glob(self.text)
        except GlobInvalid:
            return Glob(self.text.replace("[", "[[]"))

    @cached_property
    def needle(self) -> bytes:
        """Bytes in every line that fits; may be empty."""
        if self._is_digest:
            return self.text[:_DIGEST].encode("ascii")
        return _needle_of(self.keys) if len(self.keys.parts) > 1 else _as_written(self.text)

    @property
    def _is_digest(self) -> bool:
        return len(self.text) >= _SHORTEST and not set(self.text) - set("0123456789abcdef")

    def fits(self, line: EventLine) -> bool:
        known = self.text == line.event_id or self.keys.matches(line.event_key)
        return known or (isinstance(line, CallerInfo) and self._fits_request(line))

    def _fits_request(self, request: CallerInfo) -> bool:
        text, digest, body = self.text, request.digest, request.body
        if text in (request.view["request_id"], request.trace_id) or text in request.changes:
            return True
        if self._is_digest and digest and digest.startswith(text[: len(digest)]):
            return True
        return body is not None and text in body and text in set(ids_in(body))


def _needle_of(keys: Glob) -> bytes:
    return _as_written(max(keys.literals, key=len))


def _as_written(text: str) -> bytes:
    """Return the longest part of a text that lines have unescaped."""
    return max(json.dumps(text)[1:-1].split("\\"), key=len).encode("ascii")


@dataclass(frozen=True)
class Question:
    """Fits a line that meets every condition given. An empty field is no condition."""

    #: Any of the words fits.
    words: tuple[Word, ...] = ()
    #: The event's id, or the request's id if no route matched.
    event_id: str = ""
    #: Any of the patterns matches the event's key.
    keys: tuple[Glob, ...] = ()
    since: float | None = None
    until: float | None = None
    targets: tuple[str, ...] = ()
    #: The reply's code, or a target's code or HTTP status.
    codes: tuple[str, ...] = ()
    failed: bool = False
    #: The only targets whose results count.
    seen: tuple[str, ...] = ()

    @property
    def needles(self) -> tuple[Needle, ...]:
        """Every line that fits contains one of these; none if all lines have to be read."""
        if self.failed:
            # Failures are rarer than lines of a target or with a key.
            return _FAILED
        needles: tuple[bytes, ...]
        if self.event_id:
            needles = (_as_written(self.event_id),)
        elif self.words:
            needles = tuple(word.needle for word in self.words)
        elif self.keys:
            needles = tuple(map(_needle_of, self.keys))
        else:
            needles = tuple(map(_as_written, self.targets or self.codes))
        return needles if all(needles) else ()

    def fits(self, line: EventLine) -> bool:
        """Return whether a line fits, except for its time."""
        results = line.results
        if self.seen:
            results = [result for result in results if result["target"] in self.seen]
        return (
            (not self.event_id or self.event_id == name_of(line))
            and (not self.words or any(word.fits(line) for word in self.words))
            and (not self.keys or any(keys.matches(line.event_key) for keys in self.keys))
            and (not self.targets or any(result["target"] in self.targets for result in results))
            and (not self.codes or self._has_code(line, results))
            and (not self.failed or _has_failed(line, results))
        )

    def _has_code(self, line: EventLine, results: list[AtTargetView]) -> bool:
        codes = {line.view["code"], *(result["code"] for result in results)}
        codes.update(str(result["status"] or "") for result in results)
        return not codes.isdisjoint(self.codes)


def name_of(line: EventLine) -> str:
    """Return the event's id; the request's id if no route matched."""
    return line.event_id or (line.view["request_id"] if isinstance(line, CallerInfo) else "")


def _has_failed(line: EventLine, results: list[AtTargetView]) -> bool:
    if isinstance(line, CallerInfo):
        return line.view["code"] != SUCCESS or any(map(has_failed, results))
    return line.failed


def ids_in(body: str) -> Iterator[str]:
    """Yield every scalar in a body's `changes`, at any depth; nothing for an unreadable body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    waiting: list[Any] = [content.get("changes")] if isinstance(content, dict) else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            yield value
        elif value is not None:
            yield json.dumps(value)
