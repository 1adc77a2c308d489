"""Event → Plan: targets, routes, and the table that matches."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.routing.glob import Glob, GlobInvalid
    from router.routing.nearest import nearest_routes
    from router.routing.table import Plan, Role, Route, RouteMatch, RouteTable
    from router.routing.target import BreakerPolicy, Rate, Target

__getattr__ = on_demand(__name__)
