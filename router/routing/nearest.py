"""Which routes came nearest to an event that they do not match. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest

from router.routing.table import FieldMatch, RouteMatch

#: The most of a value or pattern that is compared, in characters.
_COMPARED = 64


def nearest_routes(routes: Iterable[RouteMatch], count: int) -> list[RouteMatch]:
    """Of the routes that don't match, the `count` that were probably meant, likeliest first.

    A field that matches speaks for its route, and so does likeness where one doesn't.
    """
    return nlargest(count, (route for route in routes if not route.matched), key=_nearness)


def _nearness(route: RouteMatch) -> float:
    """From 0 to 1."""
    return sum(map(_likeness, route.fields)) / len(route.fields)


def _likeness(field: FieldMatch) -> float:
    if field.matched:
        return 1.0
    pairs = (SequenceMatcher(None, p[:_COMPARED], field.value[:_COMPARED]) for p in field.patterns)
    return max((pair.ratio() for pair in pairs), default=0.0)
