"""The durable rows of what is not wholly settled: SQLite, PostgreSQL, none."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.store.attempts import Tried, said_by
    from router.store.filters import (
        FILTERS,
        Filters,
        acted_on,
        filter_texts,
        filter_words,
        mind_states,
        selection_of,
    )
    from router.store.nodes import BEAT, Node, Nodes, Trouble
    from router.store.opening import kind_of, look_into, open_store, opened
    from router.store.ops import (
        DISCARDED,
        START,
        STEP,
        Action,
        Count,
        Dossier,
        Entry,
        Later,
        Ops,
        Resend,
        Resent,
        Selection,
        Step,
        Verb,
        carry_out,
    )
    from router.store.pauses import Pause, pause, paused, resume
    from router.store.promises import (
        ADVICE,
        UNSETTLED,
        DeliveryRow,
        Due,
        Ended,
        Kept,
        Notice,
        Record,
        Settlement,
        Stage,
        State,
        Store,
        StoreFailed,
        StoreFull,
        StoreLimits,
        Usage,
    )
    from router.store.shapes import (
        ActionShape,
        CountShape,
        DossierShape,
        EntryShape,
        NodeShape,
        PauseShape,
        TriedEntryShape,
        TriedShape,
        action_shape,
        count_shapes,
        dossier_shape,
        entry_shape,
        node_shape,
        pause_shape,
    )
    from router.store.url import Database, parse_database

__getattr__ = on_demand(__name__)
