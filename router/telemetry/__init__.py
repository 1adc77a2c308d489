"""What the router tells of itself: log lines, metrics, traces, marks, the loop's lag."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.telemetry.lag import Watchdog
    from router.telemetry.log import (
        Fields,
        Format,
        Level,
        Lines,
        Log,
        place_of,
        printable,
        stamp,
        take_library_lines,
        utc,
        with_payload,
    )
    from router.telemetry.marks import Alarm
    from router.telemetry.metrics import Metrics, Snapshot, merged
    from router.telemetry.minutes import (
        ATTEMPT_BOUNDS,
        EVENT_BOUNDS,
        HOUR,
        MINUTE,
        Minute,
        Minutes,
        TargetMinute,
        summed,
        summed_target,
    )
    from router.telemetry.tracing import NO_TRACES, Tracing, tracing_by

__all__ = [
    "ATTEMPT_BOUNDS",
    "EVENT_BOUNDS",
    "HOUR",
    "MINUTE",
    "NO_TRACES",
    "Alarm",
    "Fields",
    "Format",
    "Level",
    "Lines",
    "Log",
    "Metrics",
    "Minute",
    "Minutes",
    "Snapshot",
    "TargetMinute",
    "Tracing",
    "Watchdog",
    "merged",
    "place_of",
    "printable",
    "stamp",
    "summed",
    "summed_target",
    "take_library_lines",
    "tracing_by",
    "utc",
    "with_payload",
]

__getattr__ = on_demand(__name__)
