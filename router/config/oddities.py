"""Patterns that can hardly be meant: what is special elsewhere stands for itself here. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Nearly all patterns are of these characters alone, and there is nothing odd in them.
_PLAIN = re.compile(r"[A-Za-z0-9_.*?-]+")


def _as_glob(match: re.Match[str]) -> str:
    return re.sub(r"\\(.?)|\.\*", lambda at: "*" if at[0] == ".*" else at[1], match[0])


#: What looks like more than a pattern is, why it is not, and what is to be in its stead.
_ODD: tuple[tuple[re.Pattern[str], str, str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^\s+|\s+$"), "has a blank at an end, which only a value with one has", ""),
    (
        re.compile("[\u201c\u201d\u201e\u2018\u2019«»]"),
        "has quotes of a text in it, which stand for themselves",
        "",
    ),
    (
        re.compile("[\uff01-\uff5e\u3002]"),
        "has a full-width character, which stands for itself",
        lambda match: "." if match[0] == "\u3002" else chr(ord(match[0]) - 0xFEE0),
    ),
    (re.compile(r"^\^|\$$"), "always is for the whole value: ^ and $ stand for themselves", ""),
    (re.compile(r".*\\.*"), r"is no regular expression: \ stands for itself", _as_glob),
    (
        re.compile("^!"),
        "excludes nothing: ! stands for itself, and only in a set, [!…], negates",
        "",
    ),
    (re.compile(r"\[\^"), "is no regular expression: ! negates a set, ^ does not", "[!"),
)

#: Alternatives as shells and regular expressions have them.
_GROUP = re.compile(r"\{([^{}]*,[^{}]*)\}|\((?:\?:)?([^()]*\|[^()]*)\)")

#: The most patterns that a list is spelled out for.
_SPELLED = 8


def oddity(pattern: str) -> tuple[str, list[str]] | None:
    """Why a pattern can hardly be meant, and what to write instead; one or a list, or nothing where
    that would be too much."""
    if _PLAIN.fullmatch(pattern):
        return None
    meant, why = pattern, ""
    for odd, because, instead in _ODD:
        if odd.search(meant):
            why = why or because
            meant = odd.sub(instead, meant)
    if _GROUP.search(meant):
        return why or "has no alternatives in it: they are a list of patterns", _spelled(meant)
    if "," in meant and not set("[({") & set(meant):
        parts = [part.strip() for part in meant.split(",")]
        return why or "is one pattern, the comma in it too: several are a list", _few(parts)
    if not why:
        return None
    # What was to be left out has no pattern in its stead.
    return why, [] if pattern.startswith("!") else [meant]


def _spelled(pattern: str) -> list[str]:
    """A pattern for each of the alternatives in it."""
    patterns = [pattern]
    while len(patterns) <= _SPELLED and (match := _GROUP.search(patterns[0])):
        parts = re.split("[,|]", match[1] or match[2])
        # It is the first group of each of them, for they differ before it alone.
        patterns = [each.replace(match[0], part, 1) for each in patterns for part in parts]
    return _few(patterns)


def _few(patterns: list[str]) -> list[str]:
    return patterns if len(patterns) <= _SPELLED else []
