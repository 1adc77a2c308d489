"""Pauses that end: a person holds a target back for a while, beside `paused` of routes.yaml.

What a person can do is a function here, which says what is wrong in a ValueError, and prints
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from router.contract.replies import harmless
from router.contract.schedule import parse_time

#: The longest pause, in seconds: what is to go on is `paused: true` in routes.yaml.
MAX_PAUSE = 30 * 86400.0

#: The most of a reason, and of a name, in characters.
MAX_BECAUSE, MAX_WHO = 200, 100


@dataclass(frozen=True, slots=True)
class Pause:
    """The last pause of a target. Its optional deliveries wait, its required ones fail at once."""

    target: str
    since: float
    #: It is over by itself then; who ends it sooner puts that moment here.
    until: float
    because: str
    who: str
    #: Who has ended it before its time; `""` where nobody has.
    resumed_by: str = ""


class Pauses(Protocol):
    """The part of a store's Ops that is about them."""

    def now(self) -> float: ...

    async def pauses(self) -> tuple[Pause, ...]:
        """The last one of each target; one that is over is kept for as long as what is settled."""
        ...

    async def put_pause(self, pause: Pause) -> None:
        """Let it be the target's, in place of any other."""
        ...

    async def end_pause(self, target: str, who: str) -> Pause | None:
        """End the target's pause now; None, and nothing written, where it has none."""
        ...


def _end(until: str, now: float) -> float:
    try:
        return parse_time(until, now, ahead=True)
    except ValueError:
        raise ValueError(
            f"{until!r} is neither a time from now (like 10m, 2h, 3d) nor one like "
            "2026-11-26T13:00:00Z"
        ) from None


async def pause(ops: Pauses, target: str, until: str, because: str, who: str) -> Pause:
    """Pause a target until then, so long from now or a time as `parse_time` reads them, which every
    process that shares the store knows within a second. A pause that it has already ends with this
    one."""
    now = ops.now()
    end = _end(until, now)
    if end <= now:
        raise ValueError(f"{until!r} is over already")
    if end > now + MAX_PAUSE:
        raise ValueError(
            f"{until!r} is more than 30 days away; what has no end is `paused: true` in routes.yaml"
        )
    said = harmless(because, MAX_BECAUSE)
    if not said or len(because) > MAX_BECAUSE:
        raise ValueError(f"the reason has to have 1 to {MAX_BECAUSE} characters")
    new = Pause(target, now, end, said, harmless(who, MAX_WHO))
    await ops.put_pause(new)
    return new


async def resume(ops: Pauses, target: str, who: str) -> Pause | None:
    """End a target's pause; None where it has none. What routes.yaml pauses stays paused."""
    return await ops.end_pause(target, harmless(who, MAX_WHO))


async def paused(ops: Pauses) -> tuple[Pause, ...]:
    """The pauses that are in force, by target."""
    now = ops.now()
    return tuple(sorted((p for p in await ops.pauses() if p.until > now), key=lambda p: p.target))
