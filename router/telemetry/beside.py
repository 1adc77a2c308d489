"""What goes on beside everything else: a fault in it is told, and it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of

#: Seconds after which what a fault has ended begins anew.
AGAIN_AFTER = 1.0


async def lasting(work: Callable[[], Awaitable[None]], log: Log) -> None:
    """Until it returns or is cancelled; a fault on its way out does not begin it anew."""
    task = asyncio.current_task()
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - nobody looks at a task that has ended
            log.error("fault", at=place_of(error))
        if task is not None and task.cancelling():
            return None
        await asyncio.sleep(AGAIN_AFTER)
