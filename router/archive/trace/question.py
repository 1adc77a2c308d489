"""What is asked for: by which words an event is known, and which of its happenings count."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from router.archive.trace.lines import AtTarget, CallerInfo, EventLine
from router.model.event import SUCCESS
from router.routing.index import Glob, GlobInvalid

if TYPE_CHECKING:
    from router.archive.reading import Needle

#: The shortest beginning of a body's hash that is looked for.
_SHORTEST = 6


@dataclass(frozen=True)
class Word:
    """One WHAT: an event's id, its request's or its trace's, its key or a pattern of keys, an id in
    `changes`, or how the SHA-256 of its body begins."""

    text: str

    @cached_property
    def keys(self) -> Glob:
        """The same as a pattern of keys; an id that can be none is the key that is spelled so."""
        try:
            return Glob(self.text)
        except GlobInvalid:
            return Glob(self.text.replace("[", "[[]"))

    @cached_property
    def needle(self) -> bytes:
        """Bytes that every line has that it fits; there may be none."""
        if self._is_digest:
            return self.text[:_DIGEST].encode("ascii")
        return _needle_of(self.keys) if len(self.keys.parts) > 1 else _as_written(self.text)

    @property
    def _is_digest(self) -> bool:
        return len(self.text) >= _SHORTEST and not set(self.text) - set("0123456789abcdef")

    def fits(self, each: EventLine) -> bool:
        known = self.text == each.event_id or self.keys.matches(each.event_key)
        return known or (isinstance(each, CallerInfo) and self._fits_request(each))

    def _fits_request(self, told: CallerInfo) -> bool:
        text = self.text
        if text in (told.request_id, told.trace_id) or text in told.changes:
            return True
        if self._is_digest and told.digest and told.digest.startswith(text[: len(told.digest)]):
            return True
        return told.body is not None and text in told.body and text in set(ids_in(told.body))


#: How much of a body's hash a line has, in characters.
_DIGEST = 12

#: What every line has that `failed` fits: a happening that does not go well by itself, or a reason
#: of an attempt that no other begins like. Within a collector's line quotes are escaped.
_FAILED = tuple(
    re.compile(pattern.replace(b'"', rb'\\*"'))
    for pattern in (
        b'happening":"(?!(?:event|unmatched)","code":"000"|retried")',
        rb'reason":"[^a\\]',
    )
)


def _needle_of(keys: Glob) -> bytes:
    return _as_written(max(keys.literals, key=len))


def _as_written(text: str) -> bytes:
    """What every line has that has this text in it: its longest part without an escape, which
    collectors escape once more."""
    return max(json.dumps(text)[1:-1].split("\\"), key=len).encode("ascii")


@dataclass(frozen=True)
class Question:
    """Happenings that fit any of the words, and all of the rest; what is empty fits all."""

    words: tuple[Word, ...] = ()
    #: The one event of this id; a request's id where no route has matched it. Empty for all.
    event_id: str = ""
    #: Its key fits any of them.
    keys: tuple[Glob, ...] = ()
    since: float | None = None
    until: float | None = None
    targets: tuple[str, ...] = ()
    #: The reply's, or a receiver's, or the HTTP status of its answer.
    codes: tuple[str, ...] = ()
    failed: bool = False
    #: What came of an event at other targets than these does not count for it; empty for all.
    seen: tuple[str, ...] = ()

    @property
    def needles(self) -> tuple[Needle, ...]:
        """Every line that fits has one of them; none where all have to be looked at."""
        # What has failed is rarer than what is of a target, or has a key.
        return _FAILED if self.failed else self._named

    @cached_property
    def _named(self) -> tuple[bytes, ...]:
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

    def may_fit(self, line: bytes) -> bool:
        """Of a line with any of the needles: false where it need not be read as JSON."""
        return not (self.failed and self._named) or any(name in line for name in self._named)

    def fits(self, each: EventLine) -> bool:
        tried = each.targets if isinstance(each, CallerInfo) else (each.tried,)
        if self.seen:
            tried = tuple(one for one in tried if one.target in self.seen)
        return (
            (not self.event_id or self.event_id == _name_of(each))
            and (not self.words or any(word.fits(each) for word in self.words))
            and (not self.keys or any(keys.matches(each.event_key) for keys in self.keys))
            and (not self.targets or any(one.target in self.targets for one in tried))
            and (not self.codes or self._has_code(each, tried))
            and (not self.failed or _has_failed(each, tried))
        )

    def _has_code(self, each: EventLine, tried: tuple[AtTarget, ...]) -> bool:
        said = {one.code for one in tried} | {str(one.status or "") for one in tried}
        return not said.isdisjoint(self.codes) or (
            isinstance(each, CallerInfo) and each.code in self.codes
        )


def _name_of(each: EventLine) -> str:
    return each.event_id or (each.request_id if isinstance(each, CallerInfo) else "")


def _has_failed(each: EventLine, tried: tuple[AtTarget, ...]) -> bool:
    if isinstance(each, CallerInfo):
        return each.code != SUCCESS or any(one.failed for one in tried)
    return each.failed


def ids_in(body: str) -> Iterator[str]:
    """Whatever is named in a body's `changes`, however deep; none in a body that can't be read."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return
    waiting: list[Any] = [found.get("changes")] if isinstance(found, dict) else []
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            yield each
        elif each is not None:
            yield json.dumps(each)
