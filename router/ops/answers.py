"""What one process answers to whoever owns the ops port: itself, or its parent over a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from router.ops.report import Report
from router.ops.status import Reports
from router.telemetry import Log, place_of


class Topic(StrEnum):
    """What can be asked of a process."""

    #: How it is: a Report.
    REPORT = "report"
    #: The configuration in force, as far as it may be shown.
    TABLE = "table"
    #: How the last reloads went.
    RELOADS = "reloads"
    #: How it is, as a node of those that share a store.
    NODE = "node"
    #: What it would do with an event.
    EXPLAIN = "explain"
    #: What it has counted in each minute of the last hour.
    MINUTES = "minutes"
    #: What its log has had since it was asked for last; whether bodies are wanted.
    HEARD = "heard"


#: Gives a value that JSON has, None for none, to what is asked.
Answer = Callable[[Any], Any]


class Answers:
    """A process's table of answers."""

    def __init__(
        self, here: Mapping[Topic, Answer], aside: Mapping[Topic, Answer], log: Log
    ) -> None:
        """Those that are given `here` take no time; what may take some is found in a thread."""
        self._here = here
        self._aside = aside
        self._log = log

    async def answer(self, topic: Topic, what: Any = None) -> Any:
        """None where there is none; a fault of ours is logged, and is none either."""
        try:
            if topic in self._here:
                return self._here[topic](what)
            return await asyncio.to_thread(self._aside[topic], what)
        except Exception as error:  # noqa: BLE001 - whoever asks must not end the process
            self._log.error("fault", at=place_of(error))
            return None


class Processes(Protocol):
    """All processes of the service. Nothing here takes longer than whoever asks waits, nor fails
    because one of them does not answer."""

    async def gather(self) -> Reports: ...

    async def ask(self, topic: Topic, what: Any = None) -> list[Any]:
        """The answers of all that give one in time."""
        ...

    async def ask_one(self, topic: Topic, what: Any = None) -> Any:
        """The answer of one of them, for what all would answer alike; None where none does."""
        ...


class Alone:
    """The only process there is."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def gather(self) -> Reports:
        report: Report | None = await self._answers.answer(Topic.REPORT)
        return Reports([] if report is None else [report], silent=int(report is None))

    async def ask(self, topic: Topic, what: Any = None) -> list[Any]:
        answer = await self.ask_one(topic, what)
        return [] if answer is None else [answer]

    async def ask_one(self, topic: Topic, what: Any = None) -> Any:
        return await self._answers.answer(topic, what)


def dumped(value: Any) -> str:
    """As JSON; a long list or mapping piece by piece, so that in a thread it holds up no other for
    longer than one piece takes."""
    if isinstance(value, dict):
        members = (f"{_piece(name)}:{_piece(each)}" for name, each in value.items())
        return "{" + ",".join(members) + "}"
    return _piece(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _piece(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_ENCODER.encode, value)) + "]"
    return _ENCODER.encode(value)
