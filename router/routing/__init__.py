"""Event → Plan: targets, routes, and the table that matches."""

from router.routing.glob import Glob, GlobInvalid
from router.routing.nearest import nearest_routes
from router.routing.table import Plan, Role, Route, RouteMatch, RouteTable
from router.routing.target import BreakerPolicy, Rate, Target

__all__ = [
    "BreakerPolicy",
    "Glob",
    "GlobInvalid",
    "Plan",
    "Rate",
    "Role",
    "Route",
    "RouteMatch",
    "RouteTable",
    "Target",
    "nearest_routes",
]
