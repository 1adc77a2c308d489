"""What a route matches: patterns, and the fields they are for."""

from __future__ import annotations

import re

from router.config.document import MapNode, Node, ScalarNode, shown
from router.config.kinds import ListOf, Located, Placed, Text
from router.config.oddities import oddity
from router.config.reader import Fault, Reader, Schema, did_you_mean
from router.model.event import FIELDS
from router.routing.index import Glob, GlobInvalid

#: Patterns by field.
Match = dict[str, tuple[Placed, ...]]

#: What a pattern without a field is for.
_KEY = "event_key"

#: The fields by what is special in their names.
_SHORT = {field.removeprefix("event_"): field for field in FIELDS}

_ABOUT_FIELD = {
    "event_source": "Where the event comes from.",
    "event_topic": "The event's topic.",
    "event_type": "The event's type.",
    "event_status": 'The event\'s status; digits need quotes: "1".',
    "event_key": "source.topic.type.status, like a.gs.cert.1.",
}


#: As the patterns of regular expressions end.
_END = re.compile(r"(?<!\$)\$$")


def _anchored(text: str) -> Fault:
    found = oddity(text)
    meant = found[1] if found else []
    likely = did_you_mean(meant[0] if len(meant) == 1 else None)
    return Fault(f"a pattern is a glob for the whole value, and no regular expression{likely}")


class Pattern(Text):
    """A glob over a whole value."""

    def __init__(self) -> None:
        super().__init__("a pattern", longest=500)

    def value(self, text: str, node: ScalarNode) -> str:
        pattern = super().value(text, node)
        try:
            Glob(pattern)
        except GlobInvalid as error:
            # The error quotes the pattern, which a variable may be part of.
            raise Fault(str(error) if text == node.text else "a set in it is not right") from None
        return pattern


class LocatedPattern(Located):
    """The same with its place. What a regular expression ends in is no variable gone wrong."""

    def read(self, node: Node, path: str, reader: Reader) -> Placed:
        try:
            return super().read(node, path, reader)
        except Fault:
            if isinstance(node, ScalarNode) and _END.search(node.text):
                raise _anchored(node.text) from None
            raise


class MatchKind:
    """A pattern for the key, a list of them, or a mapping from fields to patterns."""

    def __init__(self) -> None:
        self._patterns = ListOf(LocatedPattern(Pattern()), alone=True)

    def read(self, node: Node, path: str, reader: Reader) -> Match:
        if not isinstance(node, MapNode):
            return {_KEY: self._patterns.read(node, path, reader)}
        if not node.entries:
            raise Fault('is an empty mapping; "*" matches every event')
        match: Match = {}
        for key, value in node.entries:
            key.judge(True)
            if key.text in FIELDS:
                patterns = reader.read(self._patterns, value, f"{path}.{key.text}", ())
                match[key.text] = patterns
            else:
                likely = _SHORT.get(reader.likely(key.text.removeprefix("event_"), _SHORT) or "")
                hint = did_you_mean(likely) or f"; there are {', '.join(FIELDS)}"
                message = f"no field {shown(key.text)}{hint}"
                reader.problems.add(key, path, message)
        return match

    def schema(self) -> Schema:
        patterns = self._patterns.schema()
        fields = {
            field: {"description": about, **patterns} for field, about in _ABOUT_FIELD.items()
        }
        mapping = {
            "type": "object",
            "additionalProperties": False,
            "properties": fields,
            "minProperties": 1,
        }
        return {"anyOf": [*patterns["anyOf"], mapping]}
