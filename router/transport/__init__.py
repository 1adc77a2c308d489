"""Bytes over HTTP: one POST to one target, by interchangeable engines."""

from router.transport.engine import (
    Answer,
    Engine,
    Failure,
    Pool,
    TargetExchange,
    as_it_came,
    lines_of,
)

__all__ = [
    "Answer",
    "Engine",
    "Failure",
    "Pool",
    "TargetExchange",
    "as_it_came",
    "lines_of",
]
