"""Reading values out of a document's nodes, with every problem kept on the way."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from router.config.document import Node, Problems, ScalarNode, shown
from router.config.variables import Unresolved, Variables

T = TypeVar("T")
D = TypeVar("D")
T_co = TypeVar("T_co", covariant=True)

#: A fragment of JSON Schema.
Schema = dict[str, Any]

#: How many characters may be compared to find what was meant. Each costs up to 2 µs.
MAX_COMPARED = 500_000

_FILE = re.compile(r"\$\{file:([^{}]*)\}")


class Fault(Exception):
    """Why a node is not what is meant; the text is a problem's message.

    Where `word`, as it is written, is none of a few `words`, one of them may have been meant.
    `once`: only the first of the places that it is true of is told.
    """

    def __init__(
        self, message: str, word: str = "", words: Collection[str] = (), *, once: bool = False
    ) -> None:
        super().__init__(message)
        self.word = word
        self.words = words
        self.once = once


class Kind(Protocol[T_co]):
    """A kind of value: how it is read, and how an editor is told about it."""

    def read(self, node: Node, path: str, reader: Reader) -> T_co:
        """The value of `node`, which is at `path`. Raises Fault where it has none.

        A list or a mapping reports the faults of its parts to `reader` and leaves them out.
        """
        ...

    def schema(self) -> Schema: ...


class Guesses:
    """Finds what was meant by a word, up to `MAX_COMPARED` for all files of a configuration."""

    def __init__(self) -> None:
        self._compared = 0

    def likely(self, word: str, names: Collection[str]) -> str | None:
        self._compared += len(names) * len(word)
        if self._compared > MAX_COMPARED:
            return None
        near = [name for name in names if abs(len(name) - len(word)) <= 5]
        return next(iter(get_close_matches(word, near, n=1)), None)


class Reader:
    """What all kinds share while one file is read."""

    def __init__(
        self,
        problems: Problems,
        variables: Variables,
        warnings: Problems,
        guesses: Guesses | None = None,
    ) -> None:
        self.problems = problems
        self.variables = variables
        self.warnings = warnings
        self._guesses = guesses or Guesses()

    def read(self, kind: Kind[T], node: Node, path: str, default: D) -> T | D:
        """The value of `node`, or `default` and a problem in its stead."""
        try:
            return kind.read(node, path, self)
        except Fault as fault:
            likely = did_you_mean(self.likely(fault.word, fault.words))
            self.problems.add(node, path, f"{fault}{likely}", once=fault.once)
            return default

    def resolve(self, node: ScalarNode, path: str, *, may_be_secret: bool) -> str:
        """A scalar's text with its variables replaced."""
        if "$" not in node.text:
            return node.text
        try:
            text = self.variables.resolve(node.text, may_be_secret=may_be_secret)
        except Unresolved as error:
            raise Fault(str(error), once=error.once) from None
        for name in _FILE.findall(node.text):
            if name in self.variables.exposed:
                message = (
                    f"everybody on this machine can read the file {shown(name)}: chmod 600; it has "
                    "to belong to the user that the router runs as"
                )
                self.warnings.add(node, path, message)
        return text

    def likely(self, word: str, names: Collection[str]) -> str | None:
        """The name that was probably meant by `word`."""
        return self._guesses.likely(word, names)


def did_you_mean(name: str | None) -> str:
    return f", did you mean {shown(name)}?" if name else ""
