"""Ids are UUIDs as everybody reads them."""

from __future__ import annotations

import uuid

from router.model.event import new_id


def test_an_id_is_a_uuid() -> None:
    """Of version 4 and the RFC's variant, in the usual writing, and never the same."""
    ids = [new_id() for _ in range(1000)]
    for text in ids:
        read = uuid.UUID(text)
        assert (read.version, read.variant, str(read)) == (4, uuid.RFC_4122, text)
    assert len(set(ids)) == 1000
