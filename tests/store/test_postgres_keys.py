"""Patterns of keys in PostgreSQL match the same keys as in routes."""

from __future__ import annotations

from random import Random

from router.routing.index import Glob, GlobInvalid
from router.store.postgres.encoding import KEY_TEXT, escaped, regex
from tests.support.postgres import Server

#: Characters that are special in a glob, a regular expression, SQL or a terminal.
ALPHABET = "ab.-]^!\\\\\0\0[*?{}()+|$\n\u00e9\U0001f600'\"%_0"

COUNT = 300


def case(random: Random) -> tuple[Glob, str]:
    """A pattern, and a value that has a chance to fit it."""
    while True:
        text = "".join(random.choices(ALPHABET + "**??[[]]--", k=random.randrange(9)))
        try:
            pattern = Glob(text)
        except GlobInvalid:
            continue
        if random.random() < 0.5:
            return pattern, text.replace("*", "ab").replace("?", random.choice(ALPHABET))
        return pattern, "".join(random.choices(ALPHABET, k=random.randrange(7)))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_a_pattern_fits_the_same_keys_as_in_routes(postgresql: Server) -> None:
    """No pattern matches more or fewer keys than its route would, whatever characters it has."""
    random = Random(7)
    cases = [case(random) for _ in range(COUNT)]
    rows = ", ".join(f"({quoted(escaped(text))}, {quoted(regex(glob))})" for glob, text in cases)
    sql = f"SELECT {KEY_TEXT} ~ l.regex FROM (VALUES {rows}) AS l (event_key, regex)"
    fits = [word == "t" for (word,) in postgresql.rows(sql)]
    expected = [pattern.matches(value) for pattern, value in cases]
    assert COUNT / 5 < sum(expected) < COUNT * 4 / 5
    assert fits == expected
