"""The endpoint that delivers archived events to a target again: counted, then step by step."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict

from router.archive.trace.replay import resend, resumed, words_of
from router.model.event import new_id
from router.ops.api.endpoint import (
    Asked,
    Endpoint,
    Rejected,
    nothing_there,
    parse_moment,
    read_glob,
    read_text,
)
from router.ops.api.parts import Replaying
from router.ops.searching import AgainFor, AgainFound, SearchedFor
from router.store.admin import STEP, Action, Admin, Verb
from router.store.protocol import StoreFull
from router.store.views import ActionView, action_view
from router.telemetry.log.lines import stamp, utc

#: For how long a replay that was stopped can be resumed, in seconds; and among how many actions of
#: people it is looked for.
_RESUMABLE, _LAST = 86400.0, 1000

#: How old a line is, in seconds, before it is sure to have been written.
_WRITTEN = 1.0

#: For how many seconds an archive may be looked through for its first event, or to count all.
_COUNTED_WITHIN = 600.0


class ReplayView(TypedDict):
    """A preview, `dry_run`, of which events for which target; or the token of one, which queues the
    next of those."""

    target: NotRequired[str]
    match: NotRequired[list[str]]
    since: NotRequired[str]
    until: NotRequired[str]
    #: The events that the target was in no plan of, in place of those that it was.
    backfill: NotRequired[Literal[True]]
    #: Do not resume the same replay that was stopped.
    anew: NotRequired[Literal[True]]
    dry_run: NotRequired[Literal[True]]
    token: NotRequired[str]
    #: At most so many with this request.
    most: NotRequired[int]


class ReplayPreview(TypedDict):
    """What would be queued."""

    token: str
    action: ActionView
    number: int
    #: When the first and the last of them came.
    first: str | None
    last: str | None
    #: Lines that are left out: why, and how many.
    left_out: dict[str, int]
    #: What could not be read; empty for nothing.
    damage: str
    #: What is known of the same replay; empty for nothing.
    before: str


class ReplayStep(TypedDict):
    """How far one request came."""

    taken: int
    #: Those of them that were queued; the others are still being retried, or were queued before.
    changed: int
    more: bool
    #: The target's share of the store is full.
    is_full: bool


async def replay(asked: Asked) -> ReplayPreview | ReplayStep:
    """Deliver archived events to a target again: a preview of which, then those, step by step; a
    team may not, for the archive has everybody's events"""
    if asked.holder.owner:
        raise nothing_there("such thing for a team")
    if "token" in asked.body:
        return await _step(asked)
    if "dry_run" not in asked.body:
        raise Rejected(400, "a preview comes first: dry_run, whose token then acts")
    return await _preview(asked)


async def _preview(asked: Asked) -> ReplayPreview:
    body = asked.body
    again = _read(body)
    if body.get("backfill") and asked.parts.is_running:
        view = asked.view()
        if again["target"] not in view.targets:
            raise Rejected(400, f"target: routes.yaml has no target {again['target']!r}")
    async with asked.parts.stored.asked() as ops:
        again["until"] = min(again["until"], ops.now() - _WRITTEN)
        action, before = await _begun(ops, again, body, asked.holder.name or "")
    found = await _found(asked, again)
    return ReplayPreview(
        token=asked.parts.replays.put(Replaying(action, again, asked.holder.name or "", [])),
        action=action_view(action),
        number=found["number"],
        first=None if found["first"] is None else utc(found["first"]),
        last=None if found["last"] is None else utc(found["last"]),
        left_out=found["left_out"],
        damage=found["damage"],
        before=before,
    )


def _read(body: Mapping[str, Any]) -> AgainFor:
    """Raises Rejected for what can't be meant."""
    if "target" not in body or not ({"match", "since"} & body.keys()):
        raise Rejected(400, "replay which events to which target? target, and since or match")
    name = ""
    try:
        for name in ("target", "match", "since", "until"):
            for text in body.get(name, []) if name == "match" else [body.get(name, "-")]:
                (read_glob if name == "match" else read_text)(text)
        name = "since"
        since = parse_moment(body["since"]) if "since" in body else None
        name = "until"
        until = parse_moment(body["until"]) if "until" in body else float("inf")
    except ValueError as error:
        raise Rejected(400, f"{name}: {error}") from None
    return AgainFor(
        target=body["target"],
        match=body.get("match", []),
        since=since,
        until=until,
        backfill="backfill" in body,
        after=None,
        page=0,
    )


async def _begun(
    ops: Admin, again: AgainFor, body: Mapping[str, Any], who: str
) -> tuple[Action, str]:
    """A new replay, or the one of the same words that was stopped, which `again` then resumes; and
    what is known of it."""
    now, what, before = ops.now(), _words(body), ""
    for action in () if "anew" in body else await ops.actions(_LAST):
        is_recent = now - action.at < _RESUMABLE
        found = resumed(what, action.what) if is_recent else None
        if found is not None:
            again["since"], place = found
            again["after"] = place.at, place.event_id
            before = (
                f"going on with what {action.who} began at {utc(action.at)}, "
                f"after {stamp(place.at)}; --anew begins anew"
            )
            return replace(action, what=words_of(what, again["since"])), before
        if action.what.startswith(f"archive {what} from "):
            # The last one of these words was finished.
            if is_recent:
                before = f"{action.who} has done the same at {utc(action.at)}: this does it anew"
            break
    return Action(new_id(), Verb.REPLAY, who, words_of(what, again["since"]), now), before


def _words(body: Mapping[str, Any]) -> str:
    """The selection as it was asked for: a time ago stays one."""
    said = ["--target", body["target"]]
    for pattern in body.get("match", []):
        said += ["--match", pattern]
    for name in ("since", "until"):
        if name in body:
            said += [f"--{name}", body[name]]
    return shlex.join([*said, *(["--backfill"] if "backfill" in body else [])])


async def _found(asked: Asked, again: AgainFor) -> AgainFound:
    wanted = SearchedFor(
        what=[], targets=[], seen=[], codes=[], since=None, until=None, failed=False, limit=0,
        body=True, again=again,
    )  # fmt: skip
    found = (await asked.parts.search.run(wanted, within=_COUNTED_WITHIN)).get("again")
    if found is None:
        raise nothing_there("archive")
    return found


async def _step(asked: Asked) -> ReplayStep:
    replaying = asked.parts.replays.get(asked.body["token"])
    if replaying is None or replaying.who != asked.holder.name:
        raise Rejected(409, "token: is of no preview of this router's run; preview again")
    most = max(1, min(asked.body.get("most", STEP), STEP))
    async with replaying.turn:
        if not replaying.pending and replaying.has_more:
            await _fill(asked, replaying)
        batch, target = replaying.pending[:most], replaying.again["target"]
        async with asked.parts.stored.asked() as ops:
            try:
                resent = await ops.resend(replaying.action, target, batch)
            except StoreFull:
                return ReplayStep(taken=0, changed=0, more=True, is_full=True)
        del replaying.pending[: resent.taken]
    is_full = resent.taken < len(batch)
    return ReplayStep(taken=resent.taken, changed=resent.queued, more=bool(batch), is_full=is_full)


async def _fill(asked: Asked, replaying: Replaying) -> None:
    """Read the next events from the archive."""
    found = await _found(asked, {**replaying.again, "page": STEP})
    events = found["events"]
    made = await asyncio.to_thread(lambda: [resend(**each) for each in events])
    replaying.pending = [each for each in made if each is not None]
    replaying.has_more = found["more"]
    if events:
        replaying.again["after"] = events[-1]["at"], events[-1]["event_id"]


REPLAY = (
    Endpoint(
        "POST",
        "/archive/replay",
        replay,
        ReplayPreview | ReplayStep,
        may=("replay",),
        takes=ReplayView,
        problems=(404, 409, 503),
    ),
)
