"""Where a syntax error was made, which is often above where the parser gives up.

Like `composer` and `writer`, a part of the door to PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from router.config.document.lookalikes import LOOKALIKE, meant, told
from router.config.document.problems import WHOLE_FILE, Spot
from router.config.document.syntax import mistake
from router.config.document.text import spots

#: How many characters may be tried for another, each by parsing the text once more; and the
#: longest text in which they are, in characters: a second in all.
_MOST_TRIED = 8
_LONGEST = 1024 * 1024

#: What may be behind the quote that ends a value.
_BEHIND = re.compile(r"[\s,\]}:]|\Z")


def blame(error: yaml.MarkedYAMLError, text: str, parser: Any) -> tuple[Spot, str]:
    """The place to look at, and what is wrong there."""
    construct, begin = error.context, error.context_mark
    end: Any = error.problem_mark
    if character := _lookalike(text, end, parser):
        return spots(text)(character.start()), told(character[0])
    # Where a value is missing in an open bracket, the parsers forget that and blame what is next.
    if construct == "while parsing a flow node" and not text.startswith(",", end.index):
        construct, begin = "while parsing a flow sequence", _open_bracket(text, end.index, parser)
    found = mistake(construct, error.problem)
    mark = begin if found.at_begin else end
    stop = begin if found.at_begin and "flow" not in (construct or "") else end
    if quote := _quote(text, stop, parser):
        place = f"line {quote.end_mark.line + 1}, column {quote.end_mark.column}"
        message = f"this quote is closed in {place}, where more follows: close it behind its value"
        return spot_of(quote.start_mark), message
    has_variable = begin is not None and "${" in text[begin.index : end.index + 1]
    return spot_of(mark), found.meaning + (found.by_variable if has_variable else "")


def spot_of(mark: Any) -> Spot:
    return Spot(mark.line + 1, mark.column + 1) if mark else WHOLE_FILE


def _lookalike(text: str, end: Any, parser: Any) -> re.Match[str] | None:
    """The character before `end` that is to blame: with what it looks like in its place the parser
    gets further."""
    if len(text) > _LONGEST:
        return None
    line_end = text.find("\n", end.index)
    near = list(LOOKALIKE.finditer(text, 0, line_end + 1 or len(text)))[-_MOST_TRIED:]
    for match in reversed(near):
        instead = meant(match[0])
        longer = len(instead) - len(match[0])
        changed = text[: match.start()] + instead + text[match.end() :]
        if _reach(changed, parser) > end.index + longer:
            return match
    return None


def _reach(text: str, parser: Any) -> float:
    """How far the parser gets, as an offset."""
    events = parser(text)
    try:
        while events.check_event():
            events.get_event()
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.index if error.problem_mark else 0
    except (yaml.YAMLError, ValueError, OverflowError):
        return 0
    finally:
        events.dispose()
    return float("inf")


def _quote(text: str, stop: Any, parser: Any) -> Any:
    """The token of the quoted value that ends in the line of `stop`, in the wrong place: above it
    begins, or more of it follows."""
    found = None
    # Cut off: the scanner looks ahead, and where it stumbles it keeps back what it has.
    for token in _tokens(text[: stop.index], parser):
        if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
            over_lines = token.start_mark.line < token.end_mark.line
            odd = over_lines or not _BEHIND.match(text, token.end_mark.index)
            if odd and token.end_mark.line == stop.line:
                found = token
    return found


def _open_bracket(text: str, end: int, parser: Any) -> Any:
    """The mark of the innermost bracket that is open at the offset `end`."""
    opened = []
    for token in _tokens(text, parser):
        if token.start_mark.index >= end:
            break
        if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
            opened.append(token.start_mark)
        elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken):
            opened.pop()
    return opened[-1]


def _tokens(text: str, parser: Any) -> Iterator[Any]:
    """As many as there are before the first that is wrong."""
    scanner = parser(text)
    try:
        while scanner.check_token():
            yield scanner.get_token()
    except yaml.YAMLError:
        return
    finally:
        scanner.dispose()
