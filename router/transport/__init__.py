"""Bytes over HTTP: one POST to one target, by interchangeable engines."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.transport.engine import (
        Answer,
        Engine,
        Failure,
        Pool,
        TargetExchange,
        as_it_came,
        lines_of,
    )

__getattr__ = on_demand(__name__)
