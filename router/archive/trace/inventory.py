"""What an archive has: counted by looks for bytes; no line is read as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from router.archive.reading import Damage
from router.archive.segments import found
from router.telemetry.log.lines import utc

# Quotes within texts are escaped, so none of these can be met inside of one.
_CODES = (b'"happening":"event","code":"', b'"happening":"unmatched","code":"')
_LATER = ("retried", "dead_letter", "lost")
_TARGET = b'":{"as":"'
_BODY = b',"payload":"'


@dataclass(slots=True)
class Inventory:
    """Not frozen: it is being counted. Times are Unix time, in seconds."""

    #: From when to when there is anything; None where there is nothing.
    first: float | None = None
    last: float | None = None
    segments: int = 0
    #: On the disk, and as text, in bytes.
    size: int = 0
    text: int = 0
    #: Lines of requests, by the code of the reply, `""` where the caller was gone.
    codes: Counter[str] = field(default_factory=Counter)
    #: By the targets that their events were for.
    targets: Counter[str] = field(default_factory=Counter)
    #: Of what became of deliveries later, by happening.
    later: Counter[str] = field(default_factory=Counter)
    #: Lines with their event's body.
    bodies: int = 0
    damage: Damage = field(default_factory=Damage)


def inventory(
    folder: Path,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
) -> Inventory:
    """Raises OSError."""
    counted, segments = Inventory(), found(folder)
    for number, segment in enumerate(segments, 1):
        text, is_whole = segment.read(tell)
        counted.segments += 1
        counted.damage.segments += not is_whole
        counted.size += segment.size
        counted.text += len(text)
        for mark in _CODES:
            counted.codes.update(_texts(part[: part.find(b'"')] for part in text.split(mark)[1:]))
        parts = text.split(_TARGET)[:-1]
        counted.targets.update(_texts(part[part.rfind(b'"') + 1 :] for part in parts))
        for what in _LATER:
            counted.later[what] += text.count(b'"happening":"%b"' % what.encode("ascii"))
        counted.bodies += text.count(_BODY)
        progress(f"segment {number:,} of {len(segments):,}")
    if segments:
        counted.first = min(segment.first for segment in segments)
        counted.last = max(segment.newest for segment in segments)
    return counted


def _texts(found: Iterable[bytes]) -> Counter[str]:
    return Counter({each.decode("ascii"): count for each, count in Counter(found).items()})


class InventoryShape(TypedDict):
    """What an archive has: the earliest and the latest, and lines by what they say."""

    kind: Literal["archive"]
    first: str | None
    last: str | None
    requests: int
    #: Of the requests, how many have their event's body.
    bodies: int
    #: On the disk, and as text, in bytes.
    size: int
    text: int
    segments: int
    #: Segments of which a part can't be read.
    cut: int
    #: What could not be read, in words; `""` where all could.
    damage: str
    #: Requests by the code of the reply, `""` where the caller was gone.
    codes: dict[str, int]
    targets: dict[str, int]
    later: dict[str, int]


def inventory_shape(counted: Inventory) -> InventoryShape:
    return {
        "kind": "archive",
        "first": None if counted.first is None else utc(counted.first),
        "last": None if counted.last is None else utc(counted.last),
        "requests": counted.codes.total(),
        "bodies": counted.bodies,
        "size": counted.size,
        "text": counted.text,
        "segments": counted.segments,
        "cut": counted.damage.segments,
        "damage": str(counted.damage) if counted.damage else "",
        "codes": counted.codes,
        "targets": counted.targets,
        "later": counted.later,
    }
