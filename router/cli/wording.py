"""A command's words for people, in English and in Chinese."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping

LANGUAGES = ("en", "zh")

#: A text in each of the languages. `{name}` is a value, `{name|one|many}` a word by a number.
Table = Mapping[str, tuple[str, str]]

_SLOT = re.compile(r"\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}")

#: The variables that choose the language, by POSIX: the first that is not empty counts.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


class Wording:
    """The texts of a table in one language."""

    def __init__(self, table: Table, language: str = "en") -> None:
        self._table = table
        self._column = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: int | str) -> str:
        def fill(slot: re.Match[str]) -> str:
            name, one, many = slot.groups()
            value = values[name]
            if one is not None:
                return str(one if value == 1 else many)
            return f"{value:,}" if isinstance(value, int) else value

        return _SLOT.sub(fill, self._table[key][self._column])

    def of(self, english: str) -> str:
        """What has been said already by the English of a `why.` key, in this language."""
        for key, (text, _) in self._table.items():
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(text))
            if key.startswith("why.") and (found := re.fullmatch(pattern, english)):
                return self(key, **found.groupdict())
        return english

    def get(self, key: str) -> str:
        """The text of a key that some have none for, `""` there."""
        return self(key) if key in self._table else ""


def add_language(parser: argparse.ArgumentParser) -> None:
    """What `read_language` reads."""
    parser.add_argument(
        "--lang",
        choices=LANGUAGES,
        help="the language of what people read (default zh where LC_ALL, LC_MESSAGES or LANG "
        "begins with it, else en)",
    )


def read_language(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """What `--lang` says, else the locale."""
    locale = next(filter(None, map(environ.get, _VARIABLES)), "")
    by_locale = "zh" if locale.startswith("zh") else "en"
    return by_locale if args.lang is None else str(args.lang)
