"""What happens, as it happens: server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.params import flag, keys, texts
from router.ops.api.rejected import Rejected
from router.ops.streams import STREAMS, Wanted


async def stream(asked: Asked) -> AsyncIterator[bytes]:
    """What the log is told, as server-sent events; `dropped` counts what came too fast"""
    query, streams = asked.query, asked.parts.streams
    if query["bodies"] and "bodies" not in asked.holder.may:
        raise Rejected(403, "the token does not allow this: bodies=true needs bodies")
    if streams.is_full:
        raise Rejected(503, f"{STREAMS} streams are open, and no more may be")
    wanted = Wanted(
        asked.holder,
        targets=query["target"],
        keys=query["match"],
        failed=bool(query["failed"]),
        bodies=bool(query["bodies"]),
    )

    async def chunks() -> AsyncIterator[bytes]:
        with streams.open(wanted) as opened:
            async for chunk in opened.chunks():
                yield chunk

    return chunks()


STREAM = (
    Endpoint(
        "GET",
        "/stream",
        stream,
        str,
        params=(
            texts("target", "Of this target."),
            keys("match", "Of events whose key matches."),
            flag("failed", "No 000, or a failed attempt."),
            flag("bodies", "The events' bodies too."),
        ),
        problems=(503,),
    ),
)
