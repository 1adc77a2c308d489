"""The callback port: HTTP in, the contract's replies out."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.web.callbacks import Callbacks
    from router.web.paths import Refusals, Straight, routes
    from router.web.probes import Probes

__getattr__ = on_demand(__name__)
