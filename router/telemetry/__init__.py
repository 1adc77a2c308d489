"""What the router tells of itself: log lines, metrics, traces, marks, the loop's lag."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.telemetry.beside import lasting
    from router.telemetry.lag import Watchdog
    from router.telemetry.log import Log
    from router.telemetry.log.console import Fields, Level, printable
    from router.telemetry.log.foreign import place_of, take_library_lines
    from router.telemetry.log.lines import Format, Lines, stamp, utc, with_payload
    from router.telemetry.marks import Alarm
    from router.telemetry.metrics import Metrics, Snapshot
    from router.telemetry.metrics.instruments import RECENT_GAP, Recent
    from router.telemetry.minutes import (
        ATTEMPT_BOUNDS,
        EVENT_BOUNDS,
        HOUR,
        MINUTE,
        Minute,
        Minutes,
        TargetMinute,
        summed_target,
    )
    from router.telemetry.tracing import NO_TRACES, Tracing, tracing_by

__getattr__ = on_demand(__name__)
