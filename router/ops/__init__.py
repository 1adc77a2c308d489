"""The ops port: metrics, status, the console's API and its page; who shares the store."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.ops.heartbeat import Heartbeat, Identity, described
    from router.ops.insight import Insight
    from router.ops.report import Report, report_of
    from router.ops.status import WORST
    from router.ops.tokens import OpsTokens, secrets_in

__getattr__ = on_demand(__name__)
