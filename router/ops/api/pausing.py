"""A target held back for a while, and let go on again."""

from __future__ import annotations

from typing import TypedDict

from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.rejected import Rejected, nothing_there
from router.ops.api.target_shapes import PausedByPerson, PausedByRoutes
from router.ops.api.targets import by_person
from router.ops.table import TargetFacts
from router.store.pauses import pause, paused, resume
from router.store.shapes import PauseShape, pause_shape


class PauseForShape(TypedDict):
    """Until when, and why: for all who see it."""

    #: From now on, like 10m; or a moment.
    until: str
    because: str


class ResumeShape(TypedDict):
    """Nothing."""


class PausedShape(TypedDict):
    """How the target is held back from now on; null where it is not."""

    paused: PausedByPerson | PausedByRoutes | None
    #: The one that was made or ended; null where there was none to end.
    pause: PauseShape | None


class PausesShape(TypedDict):
    """The pauses that are in force, by target."""

    pauses: list[PauseShape]


async def pauses(asked: Asked) -> PausesShape:
    """The pauses of people that are in force"""
    view = await asked.view()
    async with asked.parts.stored.asked() as ops:
        found = await paused(ops)
    return PausesShape(pauses=[pause_shape(each) for each in found if view.has(each.target)])


async def pause_target(asked: Asked) -> PausedShape:
    """Hold a target back for a while: its optional deliveries wait, its required ones fail at once;
    in force in all processes within a second"""
    name = asked.path["name"]
    await _known(asked, name)
    async with asked.parts.stored.asked() as ops:
        try:
            made = await pause(
                ops, name, asked.body["until"], asked.body["because"], asked.holder.name or ""
            )
        except ValueError as error:
            raise Rejected(400, str(error)) from None
    return PausedShape(
        paused=by_person(made.since, made.until, made.because, made.who), pause=pause_shape(made)
    )


async def resume_target(asked: Asked) -> PausedShape:
    """End a target's pause before its time; what routes.yaml pauses stays paused"""
    name = asked.path["name"]
    target = await _known(asked, name)
    async with asked.parts.stored.asked() as ops:
        ended = await resume(ops, name, asked.holder.name or "")
    return PausedShape(
        paused=PausedByRoutes(by="routes.yaml") if target["paused"] else None,
        pause=None if ended is None else pause_shape(ended),
    )


async def _known(asked: Asked, name: str) -> TargetFacts:
    view = await asked.view()
    if name not in view.targets:
        raise nothing_there("such target")
    return view.targets[name]


PAUSING = (
    Endpoint("GET", "/pauses", pauses, PausesShape, problems=(404, 503)),
    Endpoint(
        "POST",
        "/targets/{name}/pause",
        pause_target,
        PausedShape,
        may=("pause",),
        takes=PauseForShape,
        problems=(404,),
    ),
    Endpoint(
        "POST",
        "/targets/{name}/resume",
        resume_target,
        PausedShape,
        may=("pause",),
        takes=ResumeShape,
        problems=(404,),
    ),
)
