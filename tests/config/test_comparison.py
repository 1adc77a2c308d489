"""What two configurations do differently with an event."""

from __future__ import annotations

import pytest

from router.config.comparison import Move
from router.routing.table import Role


@pytest.mark.parametrize(
    ("before", "after", "is_loss"),
    [
        ("required", "optional", True),
        ("required", None, True),
        ("optional", None, True),
        ("optional", "required", False),
        (None, "required", False),
        (None, "optional", False),
    ],
)
def test_a_loss_is_where_fewer_wait_for_a_target(
    before: Role | None, after: Role | None, is_loss: bool
) -> None:
    """Nobody waits for it any more, or it does not get the event at all."""
    assert Move("ledger", before, after).is_loss is is_loss
