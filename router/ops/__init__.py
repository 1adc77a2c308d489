"""The ops port: metrics and status."""

from router.ops.heartbeat import Heartbeat, Identity, described
from router.ops.report import Report, report_of
from router.ops.status import Reports

__all__ = [
    "Heartbeat",
    "Identity",
    "Report",
    "Reports",
    "described",
    "report_of",
]
