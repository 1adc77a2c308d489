"""What goes wrong that is no target's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class RouterError(Exception):
    """The base of every error that the router raises on purpose; its text is for people."""


class Refused(RouterError):
    """A callback that the contract does not allow; nothing of it is forwarded."""

    def __init__(self, code: str, msg: str, why: str, field: str = "", caller: str = "") -> None:
        super().__init__(why)
        #: The contract code of the reply, which is its HTTP status too.
        self.code = code
        #: What the caller is told, in the voice of the platform's page.
        self.msg = msg
        #: The same for the log, in English, with nothing of the body in it.
        self.why = why
        #: The faulty field, where one field is at fault.
        self.field = field
        #: The caller's address, where it was denied access.
        self.caller = caller


class StartFailed(RouterError):
    """The router can't start: a taken port, a broken schema file (exit code 3)."""


class SettingInvalid(RouterError):
    """A setting on the command line or in the environment that can't be used (exit code 2)."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong, or dubious, in a file, with its place. Problems sort by place."""

    #: The file's path as the user gave it.
    file: str
    #: From 1; 0 where the file as a whole is meant.
    line: int
    column: int
    #: Where in the document's structure, for instance `routes[2].required`; may be empty.
    path: str
    #: What is wrong and, where one is likely, what was meant. Never a secret's value.
    message: str
    #: Who answers for the file, where it says so.
    owner: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = [place, self.path, self.message]
        whose = f" ({self.owner})" if self.owner else ""
        return ": ".join(filter(None, parts)) + whose


class ConfigInvalid(RouterError):
    """A configuration that can't be used; it has every problem, sorted by place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
