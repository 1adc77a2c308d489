"""What may be in a tests file: its keys, their kinds, their descriptions.

The file is read by these declarations, and the editor's schema is made of them.
"""

from __future__ import annotations

from router.config.kinds import Boolean, ListOf, Located, Number, Text
from router.config.reader import Schema
from router.config.section import Key, Section


class LiteralBoolean(Boolean):
    """`true` or `false` as it is written: here no variable can stand for it."""

    def schema(self) -> Schema:
        return {"type": "boolean"}


_VALUE = Text("a string", longest=500)
_TARGETS = ListOf(Located(Text("a target's name")))


def _field(about: str) -> Key[str]:
    return Key(_VALUE, about, default="")


class EventSection(Section):
    """An event by its fields. What is left out comes from the key, or the key from the rest."""

    event_source = _field("Where the event comes from.")
    event_topic = _field("The event's topic.")
    event_type = _field("The event's type.")
    event_status = _field('The event\'s status; digits need quotes: "1".')
    event_key = _field("The event's key, like a.gs.cert.1.")


class CaseSection(Section):
    name = Key(Text("a string"), "What the case is about, in a few words.", default="")
    key = Key(
        _VALUE,
        "The event's key, like a.gs.cert.1. The other fields are the key's four parts.",
        default="",
    )
    event = Key(
        EventSection,
        "The event by its fields, instead of a key. Those left out come from event_key; without "
        "event_key, all four others are needed.",
        default=EventSection.blank(),
    )
    required = Key(_TARGETS, "The targets that have to acknowledge the event.", default=())
    optional = Key(_TARGETS, "The targets that get the event, and may fail.", default=())
    unmatched = Key(LiteralBoolean(), "true: no route matches the event.", default=False)
    exact = Key(
        LiteralBoolean(),
        "false: the event may have other targets too. Otherwise it has those of the case alone.",
        default=True,
    )

    @classmethod
    def schema(cls) -> Schema:
        about = [{"required": [key]} for key in ("key", "event")]
        expected = [{"required": [key]} for key in ("required", "optional", "unmatched")]
        return {**super().schema(), "oneOf": about, "anyOf": expected}


class CasesFile(Section):
    version = Key(Number(1, 1), "The version of this file's format.", default=1, required=True)
    cases = Key(
        ListOf(CaseSection),
        "Events, and the targets that routes.yaml has to give for each.",
        default=(),
        required=True,
    )
