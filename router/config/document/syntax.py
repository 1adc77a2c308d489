"""Syntax errors in the words of those who edit the file."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    """What the parsers say, as `construct: problem`, and what is meant by it."""

    said: re.Pattern[str]
    meaning: str
    #: Whether the construct's first character has to be changed, or where the parser gave up.
    at_begin: bool
    #: What is meant besides, where a `${` is in what was read of the construct.
    by_variable: str = ""


def _mistake(said: str, meaning: str, *, at_begin: bool = False, by_variable: str = "") -> Mistake:
    return Mistake(re.compile(said), meaning, at_begin, by_variable)


#: The first that fits counts.
MISTAKES = [
    _mistake(
        "quoted scalar: found unexpected",
        "this quote is never closed",
        at_begin=True,
    ),
    _mistake(
        "quoted scalar: ",
        "a \\ in double quotes begins an escape, and this one is none: use single quotes",
        at_begin=True,
    ),
    _mistake(
        "an alias: ",
        "a value that starts with * has to be in quotes",
        at_begin=True,
    ),
    _mistake(
        "an anchor: ",
        "a value that starts with & has to be in quotes",
        at_begin=True,
    ),
    _mistake(
        "flow (sequence|mapping): ",
        "this bracket is not closed, or a comma is missing, or a value needs quotes",
        at_begin=True,
        by_variable=', as "${NAME}" does here',
    ),
    _mistake(
        "block (mapping|collection): ",
        "does not belong to what is above: check the indentation; a value that only begins with "
        "a bracket or a quote has to be in quotes as a whole",
    ),
    _mistake(
        "mapping values are not allowed",
        "no ':' can be here: check the indentation; a value with ': ' in it has to be in quotes",
    ),
    _mistake(
        "simple key: ",
        "this has no ':' behind it, which makes it a key",
        at_begin=True,
    ),
    _mistake(
        "(entries|keys) are not allowed",
        "a list can't begin behind its key: put it on the next line",
    ),
    _mistake(
        "cannot start any token|node content",
        "no value can begin like this: put it in quotes",
    ),
    _mistake(
        "document start",
        "a second document begins: a file has only one",
    ),
    _mistake(
        "nesting depth",
        "is nested too deep",
    ),
]

#: Whatever is too rare to be explained.
UNKNOWN = Mistake(re.compile(""), "is not valid YAML", at_begin=False)


def mistake(construct: str | None, problem: str | None) -> Mistake:
    """What a parser means that gave up with `problem` within `construct`."""
    said = f"{construct or ''}: {problem or ''}"
    return next((mistake for mistake in MISTAKES if mistake.said.search(said)), UNKNOWN)
