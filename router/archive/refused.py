"""Refused callbacks in the archive: their lines, and the callbacks that nobody has delivered since.

EBaaS retries a refused callback with the same bytes, so a body is one callback, whose id is made of
the body's hash. A replay uses the same id for the event, so that the store and the lines of retries
say which targets have it.
"""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, NotRequired, TypedDict
from uuid import UUID

from router.archive.reading import Question, Sources, scalars_in
from router.archive.segments import REFUSED, segments_in
from router.archive.trace.lines import CallerInfo, parse_line
from router.archive.writer import MAX_ARCHIVE_LINE
from router.model.event import FIELDS, MAX_CHANGES, SUCCESS, digest_of
from router.store.admin import Admin, Selection
from router.telemetry.log.lines import Lines, RawLine, utc

#: The fault of an event that no route matches.
NO_ROUTE: Final = "no route matches"

#: The most bytes of a body that are kept.
KEPT: Final = 64 * 1024

#: Bytes that may wait to be written. A flood loses lines of its own, and none of events.
REFUSED_BOUND: Final = 8 * 1024 * 1024

#: The longest field and the longest id in a line, in characters.
_MAX_FIELD, _MAX_ID = 1024, 64

#: A field, and the beginning of `changes`, in a body that is not JSON.
_FIELD = re.compile(r'"(event_(?:source|topic|type|status|key))"\s*:\s*"((?:[^"\\]|\\.){1,1024})"')
_CHANGES = re.compile(r'"changes"\s*:([^\]]{1,4096})')
_WORDS = re.compile(r"[\w.:/@+-]+")


_LINES: Final = Lines("json", limits=(MAX_ARCHIVE_LINE, MAX_ARCHIVE_LINE))


def refused_line(line: bytes | RawLine, body: bytes, *, bodies: bool) -> bytes:
    """Render the line of a refused callback, in the archive's thread. It has all that can be read
    from the body under the names of an event's line, and the body's beginning if bodies are kept.
    """
    assert not isinstance(line, bytes)
    kept = body[:KEPT].decode("utf-8", "replace")
    fields = {**line.fields, **_facts(body, kept), **line.fields}
    if kept.encode() != body:
        fields["clipped"] = True
    return _LINES.with_body(line._replace(fields=fields), kept.encode() if bodies else b"")


def _facts(body: bytes, text: str) -> dict[str, Any]:
    """Return the fields by which a search finds a callback, as far as they can be read."""
    digest = digest_of(body)
    fields, changes = _read(text)
    four = [fields.get(name, "") for name in FIELDS[:4]]
    key = fields.get("event_key") or (".".join(four) if any(four) else "")
    return {
        "event_id": str(UUID(bytes=digest[:16], version=4)),
        "event_key": key,
        **dict(zip(FIELDS, four, strict=False)),
        "bytes": len(body),
        "body": digest[:6].hex(),
        "changes": [word[:_MAX_ID] for word in changes[:MAX_CHANGES]],
    }


def _read(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the fields and the ids in a body of any types, and also if it is not JSON."""
    content: Any = None
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
    if content is None:
        changes = _CHANGES.search(text)
        return dict(_FIELD.findall(text)), _WORDS.findall(changes[1]) if changes else []
    if not isinstance(content, dict):
        return {}, []
    fields = {name: next(scalars_in(content.get(name)), "")[:_MAX_FIELD] for name in FIELDS}
    return fields, [*islice(scalars_in(content.get("changes")), MAX_CHANGES)]


# Reading.

#: The most callbacks that one search returns, the newest, and the most rows of an answer.
MOST, MOST_FAULTS = 5000, 500

#: The most events of a question to the store.
_PAGE = 500

#: The first twelve digits of a body's hash in a line of an event, or in the id of a replayed one.
#: Quotes within texts are escaped, so no text contains this.
_MARK = re.compile(rb'"(?:body|event_id)":"([0-9a-f]{8}-?[0-9a-f]{4})')


class Retries(NamedTuple):
    """EBaaS's retries, in seconds after its first request."""

    #: When each is due.
    due: tuple[float, ...] = ()
    #: When it has surely made its last one; 0 if no router runs, and nobody knows.
    end: float = 0.0

    def next_at(self, first: float, last: float) -> float | None:
        """Return when the request after the last one is due, None if EBaaS gives up."""
        made = bisect_right(self.due, last - first)
        return first + self.due[made] if made < len(self.due) else None


class RefusedCallback(TypedDict):
    """A callback that was refused, with all of its requests."""

    event_id: str
    event_key: str
    code: str
    #: The fault.
    why: str
    requests: int
    #: When its first and its last request arrived, in Unix time.
    first: float
    last: float
    request_id: str
    #: The size of its body, and whether that was kept, and is whole.
    bytes: int
    is_whole: bool
    #: The targets that have it already, by a replay.
    had: list[str]


class _OtherCounts(TypedDict):
    #: The number of others that were accepted since: EBaaS has sent them again.
    accepted: int
    #: The number of others whose next request may have been accepted: the archive has no events of
    #: that time any more.
    unknown: int
    #: There are more than are listed.
    more: bool
    #: Parts that could not be read; `""` for none.
    damage: str


class RefusedAnswer(_OtherCounts):
    #: The callbacks that were not accepted since, in the order of their first requests.
    callbacks: list[RefusedCallback]


@dataclass(slots=True)
class _Group:
    """The requests of one body."""

    #: The last one, without its body.
    line: CallerInfo
    is_whole: bool
    #: When they arrived, the last one first.
    times: list[float] = field(default_factory=list)
    #: When an event with this body was accepted last, and by target the last attempt of a replay.
    accepted: float = 0.0
    had: dict[str, float] = field(default_factory=dict)


async def find_refused(
    question: Question, retries: Retries, sources: Sources, admin: Admin | None
) -> RefusedAnswer | None:
    """Return the refused callbacks whose last request fits the question; None without an archive.
    A request that comes after EBaaS has given up a replayed callback is a new event."""
    if sources.archive is None:
        return None
    refused = Sources(sources.archive / REFUSED)
    groups, more = _grouped(refused, question)
    _add_evidence(sources, sources.archive, groups, retries.end)
    if admin is not None:
        await _add_stored(admin, groups)
    begins, now = _begins(sources.archive), time.time()
    damage = refused.damage or sources.damage
    answer = RefusedAnswer(callbacks=[], accepted=0, unknown=0, more=more, damage=damage)
    for event_id, group in groups.items():
        replayed = max(group.had.values(), default=0.0)
        if replayed and group.times[0] > replayed + retries.end:
            group.had, group.accepted = {}, max(group.accepted, replayed + retries.end)
        times = [at for at in group.times if at > group.accepted]
        if not times:
            answer["accepted"] += 1
        elif times[0] < begins and (retries.next_at(times[-1], times[0]) or now) < now:
            answer["unknown"] += 1
        else:
            answer["callbacks"].append(_callback(event_id, group, times))
    answer["callbacks"].sort(key=lambda callback: (callback["first"], callback["event_id"]))
    return answer


def _callback(event_id: str, group: _Group, times: Sequence[float]) -> RefusedCallback:
    view = group.line.view
    return RefusedCallback(
        event_id=event_id,
        event_key=view["event_key"],
        code=view["code"],
        why=view["why"] or NO_ROUTE,
        requests=len(times),
        first=times[-1],
        last=times[0],
        request_id=view["request_id"],
        bytes=group.line.bytes or 0,
        is_whole=group.is_whole,
        had=sorted(group.had),
    )


def _grouped(refused: Sources, question: Question) -> tuple[dict[str, _Group], bool]:
    """Return the callbacks by their ids, and whether there are more."""
    groups: dict[str, _Group] = {}
    #: Callbacks whose last request came too late.
    later: set[str] = set()
    more = False
    for line in refused.look(replace(question, since=None, until=None)):
        if not isinstance(line, CallerInfo) or not line.event_id:
            continue
        group = groups.get(line.event_id)
        if group is None:
            if question.until is not None and line.at >= question.until:
                later.add(line.event_id)
            too_old = question.since is not None and line.at < question.since
            if too_old or line.event_id in later:
                continue
            if len(groups) == MOST:
                more = True
                continue
            is_whole = line.body is not None and not line.clipped
            group = groups[line.event_id] = _Group(replace(line, body=None), is_whole)
        group.times.append(line.at)
    return groups, more


def _add_evidence(sources: Sources, archive: Path, groups: dict[str, _Group], end: float) -> None:
    """Read from the archive's events which callbacks were accepted since, or replayed."""
    if not groups:
        return
    marks = {(event_id[:8] + event_id[9:13]).encode(): event_id for event_id in groups}
    oldest = min(group.times[-1] for group in groups.values())
    segments = [s for s in segments_in(archive) if s.last is None or s.last >= oldest]
    for _, text in sources.texts(segments):
        for match in _MARK.finditer(text):
            event_id = marks.get(match[1].replace(b"-", b""))
            if event_id is not None:
                start = text.rfind(b"\n", 0, match.start()) + 1
                line = text[start : text.find(b"\n", start)]
                _add_line(line, event_id, groups[event_id], end)


def _add_line(text: bytes, event_id: str, group: _Group, end: float) -> None:
    try:
        line = parse_line(text)
    except ValueError:
        return
    if isinstance(line, CallerInfo):
        # An event that has got no `000` is in the store, for as long as EBaaS retries it.
        until = line.at + (0.0 if line.view["code"] == SUCCESS else end)
        group.accepted = max(group.accepted, until)
    elif line is not None and line.event_id == event_id:
        target = line.view["target"]
        group.had[target] = max(group.had.get(target, 0.0), line.at)


async def _add_stored(admin: Admin, groups: dict[str, _Group]) -> None:
    """Read from the store which targets have a delivery, settled or not."""
    ids = [*groups]
    for at in range(0, len(ids), _PAGE):
        selection = Selection(event_ids=tuple(ids[at : at + _PAGE]))
        async for page in admin.pages(selection, _PAGE):
            for entry in page:
                group = groups[entry.event_id]
                group.had[entry.row.target] = max(group.times[0], entry.changed_at)


def _begins(archive: Path) -> float:
    """Return when the oldest event was handled that the archive must still have: 0 as long as no
    segment was deleted."""
    segments = segments_in(archive)
    if min((segment.number for segment in segments), default=1) <= 1:
        return 0.0
    return min(segment.first for segment in segments)


class RefusedFault(TypedDict):
    """Callbacks with the same fault and key. A body is one callback, however often it came."""

    code: str
    #: The fault as the log has it.
    why: str
    #: As far as it can be read.
    event_key: str
    callbacks: int
    requests: int
    first: str
    last: str
    #: When EBaaS gives up the last of them; null if it has, and if no router runs.
    retried_until: str | None
    #: The id of the last of them, for `/events`.
    event_id: str
    #: In a preview: the fault now; `""` for callbacks that would be delivered.
    now: NotRequired[str]


class RefusedView(_OtherCounts):
    """Refused callbacks that were not accepted since."""

    #: The latest ones first.
    faults: list[RefusedFault]
    callbacks: int
    requests: int


def refused_view(
    answer: RefusedAnswer,
    callbacks: Iterable[tuple[RefusedCallback, str | None]],
    retries: Retries,
) -> RefusedView:
    """Group callbacks, each with its fault now or None, by fault and key, the latest ones first."""
    groups: dict[tuple[str | None, ...], list[RefusedCallback]] = {}
    for callback, now in callbacks:
        key = (now, callback["code"], callback["why"], callback["event_key"])
        groups.setdefault(key, []).append(callback)
    rows = sorted(groups.items(), key=lambda row: -max(each["last"] for each in row[1]))
    faults = [_fault(several, now, retries.end) for (now, *_), several in rows[:MOST_FAULTS]]
    every = [callback for several in groups.values() for callback in several]
    return RefusedView(
        faults=faults,
        callbacks=len(every),
        requests=sum(callback["requests"] for callback in every),
        accepted=answer["accepted"],
        unknown=answer["unknown"],
        more=answer["more"] or len(rows) > MOST_FAULTS,
        damage=answer["damage"],
    )


def _fault(callbacks: Sequence[RefusedCallback], now: str | None, end: float) -> RefusedFault:
    latest = max(callbacks, key=lambda callback: callback["last"])
    until = max(callback["first"] for callback in callbacks) + end
    fault = RefusedFault(
        code=latest["code"],
        why=latest["why"],
        event_key=latest["event_key"],
        callbacks=len(callbacks),
        requests=sum(callback["requests"] for callback in callbacks),
        first=utc(min(callback["first"] for callback in callbacks)),
        last=utc(latest["last"]),
        retried_until=utc(until) if end and until > time.time() else None,
        event_id=latest["event_id"],
    )
    return fault if now is None else {**fault, "now": now}


async def find_bodies(ids: Sequence[str], sources: Sources, _: Admin | None) -> dict[str, str]:
    """Return the bodies of these callbacks that were kept whole."""
    if sources.archive is None or not ids:
        return {}
    bodies: dict[str, str] = {}
    needle = re.compile("|".join(map(re.escape, ids)).encode())
    for text in Sources(sources.archive / REFUSED).lines((needle,)):
        with suppress(ValueError):
            line = parse_line(text)
            if isinstance(line, CallerInfo) and line.body is not None and not line.clipped:
                bodies.setdefault(line.event_id, line.body)
    return bodies
