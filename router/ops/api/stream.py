"""What happens, as it happens: server-sent events for as long as somebody reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.params import flag, keys, texts
from router.ops.api.rejected import Rejected
from router.ops.api.schema import EventStream
from router.ops.streams import Streams, Wanted


async def stream(asked: Asked) -> AsyncGenerator[bytes]:
    """Happenings as server-sent events: `event`, `retried`, `dead_letter`, `failing` and others as
    the log names them; `beat` where nothing happens, `dropped` for a reader that is too slow"""
    query, streams = asked.query, asked.parts.streams
    if count := streams.full_for(asked.holder):
        raise Rejected(503, f"{count} streams are open already")
    wanted = Wanted(
        asked.holder,
        targets=query["target"],
        keys=query["match"],
        failed=bool(query["failed"]),
        bodies=bool(query["bodies"]),
    )
    reading = _read(streams, wanted)
    await anext(reading)  # with no turn of the loop in between, in which others would come
    return reading


async def _read(streams: Streams, wanted: Wanted) -> AsyncGenerator[bytes]:
    """From its first step to its end it has its place."""
    with streams.open(wanted) as open_one:
        yield b""
        async for chunk in open_one.chunks():
            yield chunk


STREAM = (
    Endpoint(
        "GET",
        "/stream",
        stream,
        EventStream,
        params=(
            texts("target", "About these targets"),
            keys("match", "Events whose key matches a pattern, as in routes.yaml"),
            flag("failed", "No 000, a failed attempt, or another trouble"),
            flag("bodies", "With the events' bodies", needs="bodies"),
        ),
        problems=(503,),
    ),
)
