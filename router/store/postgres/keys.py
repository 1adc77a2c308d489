"""Patterns of keys as PostgreSQL's regular expressions."""

from __future__ import annotations

from router.glob import Glob


def regex(glob: Glob) -> str:
    """What fits the pattern fits this, by the operator `~` in a database in UTF-8, and nothing
    else. Every character is written by its number, so that none has a meaning of its own."""
    text, *rest = glob.parts
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return f"^{_literal(text)}{''.join(_wildcard(w) + _literal(t) for w, t in pairs)}$"


def _literal(text: str) -> str:
    return "".join(f"\\U{ord(character):08x}" for character in text)


def _wildcard(text: str) -> str:
    if text[0] == "*":
        return ".*"
    return "." if text == "?" else _set(text[1:-1])


def _set(members: str) -> str:
    excluded = members.startswith("!")
    left = members[1:] if excluded else members
    said = ""
    while left:
        if len(left) > 2 and left[1] == "-":
            said += f"{_literal(left[0])}-{_literal(left[2])}"
            left = left[3:]
        else:
            said += _literal(left[0])
            left = left[1:]
    return f"[{'^' if excluded else ''}{said}]"
