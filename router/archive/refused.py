"""Refused callbacks in the archive: their lines, and the callbacks that nobody has delivered since.

EBaaS retries a refused callback with the same bytes, so a body is one callback, whose id is made of
the body's hash. A replay uses the same id for the event, so that the store and the lines of retries
say which targets have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypedDict
from uuid import UUID

from router.archive.reading import Question, Sources, scalars_in
from router.archive.segments import REFUSED, segments_in
from router.archive.trace.lines import CallerInfo, parse_line
from router.archive.writer import MAX_ARCHIVE_LINE
from router.model.event import FIELDS, MAX_CHANGES, SUCCESS, digest_of
from router.store.admin import Admin, Selection
from router.telemetry.log.lines import Lines, RawLine

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


class RefusedLines:
    """Renders the lines of refused callbacks, in the archive's thread."""

    def __init__(self, *, bodies: bool) -> None:
        self._bodies = bodies
        self._lines = Lines("json", max_line=MAX_ARCHIVE_LINE, max_text=MAX_ARCHIVE_LINE)

    def line(self, line: bytes | RawLine, body: bytes) -> bytes:
        """Return the line of a callback, with all that can be read from its body as an event's line
        has it, and with the body's beginning if bodies are kept."""
        assert not isinstance(line, bytes)
        text = body[:KEPT].decode("utf-8", "replace")
        fields = {**line.fields, **_facts(body, text), **line.fields}
        if text.encode() != body:
            fields["clipped"] = True
        return self._lines.with_body(
            line._replace(fields=fields), text.encode() if self._bodies else b""
        )


def _facts(body: bytes, text: str) -> dict[str, Any]:
    """Return what a search finds a callback by, as far as it can be read."""
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
    return fields, [*scalars_in(content.get("changes"))]


# Reading.

#: The most callbacks that one search returns, the newest.
MOST: Final = 20_000

#: The most events of a question to the store, and bytes of bodies in one answer, without its last.
_PAGE, _PAGE_BYTES = 500, 4 * 1024 * 1024

#: The first twelve digits of a body's hash in a line of an event, or in the id of a replayed one.
#: Quotes within texts are escaped, so no text contains this.
_MARK = re.compile(rb'"(?:body|event_id)":"([0-9a-f]{8}-?[0-9a-f]{4})')


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
    #: The body was kept, and is whole.
    is_whole: bool
    #: The targets that have it already, by a replay.
    had: list[str]


class RefusedAnswer(TypedDict):
    #: Those that were not accepted since, the first one first.
    callbacks: list[RefusedCallback]
    #: The number of others that were accepted since: EBaaS has sent them again.
    accepted: int
    #: The number of others that are older than the archive's events, so that nobody knows.
    unknown: int
    #: There are more than MOST.
    more: bool
    #: Parts that could not be read; `""` for none.
    damage: str


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
    question: Question, schedule: float, sources: Sources, admin: Admin | None
) -> RefusedAnswer | None:
    """Return the refused callbacks whose last request fits the question; None without an archive.
    EBaaS retries for `schedule` seconds: a later request with the same bytes is a new event."""
    if sources.archive is None:
        return None
    refused = Sources(sources.archive / REFUSED)
    groups, more = _grouped(refused, question)
    _add_evidence(sources, sources.archive, groups, schedule)
    if admin is not None:
        await _add_stored(admin, groups)
    begins = _begins(sources.archive)
    damage = refused.damage or sources.damage
    answer = RefusedAnswer(callbacks=[], accepted=0, unknown=0, more=more, damage=damage)
    for event_id, group in groups.items():
        replayed = max(group.had.values(), default=0.0)
        if replayed and group.times[0] > replayed + schedule:
            group.had, group.accepted = {}, max(group.accepted, replayed + schedule)
        times = [at for at in group.times if at > group.accepted]
        if not times:
            answer["accepted"] += 1
        elif times[0] < begins:
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
        why=view["why"] or "no route matches",
        requests=len(times),
        first=times[-1],
        last=times[0],
        request_id=view["request_id"],
        is_whole=group.is_whole,
        had=sorted(group.had),
    )


def _grouped(refused: Sources, question: Question) -> tuple[dict[str, _Group], bool]:
    """Return the callbacks by their ids, and whether there are more."""
    groups: dict[str, _Group] = {}
    more = False
    everything = replace(question, since=None, until=None)
    for line in refused.look(everything):
        if not isinstance(line, CallerInfo) or not line.event_id:
            continue
        group = groups.get(line.event_id)
        if group is None:
            if question.until is not None and line.at >= question.until:
                continue
            if question.since is not None and line.at < question.since:
                continue
            if len(groups) == MOST:
                more = True
                continue
            is_whole = line.body is not None and not line.clipped
            group = groups[line.event_id] = _Group(replace(line, body=None), is_whole)
        group.times.append(line.at)
    return groups, more


def _add_evidence(
    sources: Sources, archive: Path, groups: dict[str, _Group], schedule: float
) -> None:
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
                _add_line(line, event_id, groups[event_id], schedule)


def _add_line(text: bytes, event_id: str, group: _Group, schedule: float) -> None:
    try:
        line = parse_line(text)
    except ValueError:
        return
    if isinstance(line, CallerInfo):
        # An event that has got no `000` is in the store, for as long as EBaaS retries it.
        until = line.at + (0.0 if line.view["code"] == SUCCESS else schedule)
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


async def find_bodies(ids: Sequence[str], sources: Sources, _: Admin | None) -> dict[str, str]:
    """Return the bodies of callbacks, of the first of these ids whose bodies are few MiB."""
    if sources.archive is None or not ids:
        return {}
    bodies: dict[str, str] = {}
    needle = re.compile("|".join(map(re.escape, ids)).encode())
    for text in Sources(sources.archive / REFUSED).lines((needle,)):
        with suppress(ValueError):
            line = parse_line(text)
            if isinstance(line, CallerInfo) and line.body is not None and not line.clipped:
                bodies.setdefault(line.event_id, line.body)
    return dict(_few(ids, bodies))


def _few(ids: Sequence[str], bodies: dict[str, str]) -> Iterator[tuple[str, str]]:
    size = 0
    for event_id in ids:
        if size > _PAGE_BYTES:
            return
        if event_id in bodies:
            size += len(bodies[event_id])
            yield event_id, bodies[event_id]
