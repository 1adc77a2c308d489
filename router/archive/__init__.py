"""What was handled, kept for a while, a line each. Nothing that is promised depends on it."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.archive.reading import Damage
    from router.archive.shelf import Shelf
    from router.archive.trace.again import Again, resend, resumed, words_of
    from router.archive.trace.events import events
    from router.archive.trace.finding import Match, matches, name_of, story_of
    from router.archive.trace.happenings import EventLine, ToldCaller, happening
    from router.archive.trace.inventory import (
        Inventory,
        InventoryShape,
        inventory,
        inventory_shape,
    )
    from router.archive.trace.question import Question, Word
    from router.archive.trace.rows import EventRows, Row, rows
    from router.archive.trace.shapes import (
        ActedShape,
        AtTargetShape,
        KeptMatch,
        LateMatch,
        LateShape,
        MatchShape,
        MissedShape,
        NextShape,
        RequestShape,
        StepShape,
        StoryShape,
        match_shape,
        row_shape,
        story_shape,
    )
    from router.archive.trace.sources import Sources
    from router.archive.writer import Archive

__getattr__ = on_demand(__name__)
