"""A worker process and its parent, each as the other sees it over the line between them.

Both say JSON, one message to a line: orders and questions go one way, answers and what happened the
other. A worker whose line breaks has lost its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import count
from subprocess import DEVNULL
from typing import Any, NamedTuple

from router.ops import Answers, Report, Topic, dumped
from router.process.running import STOPS

#: Seconds that a worker has for an answer.
ANSWER_WAIT = 0.5

#: The most questions of one kind each that a worker has not answered.
MOST_ASKED = 64

#: Seconds between two looks at whether a worker has ended that says nothing more.
GLANCE = 0.02

#: The longest message of a worker, in bytes: a parent can't read a longer one.
LONGEST = 64 * 1024 * 1024


class Order(StrEnum):
    """What a parent says."""

    RELOAD = "reload"
    STOP = "stop"
    HURRY = "hurry"


class Control:
    """A worker's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._writer: asyncio.StreamWriter | None = None

    def failed(self, why: str) -> None:
        """Say why there will be no service; before `obey`."""
        with contextlib.suppress(OSError):
            self._line.sendall(_message(failed=why))

    async def obey(
        self,
        deeds: Mapping[Order, Callable[[], Any]],
        answers: Answers,
        up: dict[str, Any],
        lost: Callable[[], None],
    ) -> None:
        """Say that the service is up, with what there is to tell about it, do what is ordered, and
        answer what is asked. `lost` is called when no more can come."""
        answering = set[asyncio.Task[None]]()
        try:
            reader, writer = await asyncio.open_connection(sock=self._line, limit=LONGEST)
            self._writer = writer
            writer.write(_message(up=up))
            async for line in reader:
                match json.loads(line):
                    case {"order": order}:
                        deeds[Order(order)]()
                    case {"ask": question, "what": what, "id": number}:
                        task = asyncio.create_task(_answer(answers, question, what, number, writer))
                        answering.add(task)
                        task.add_done_callback(answering.discard)
        except ConnectionError:
            pass
        finally:
            lost()

    def reloaded(self, successful: bool) -> None:
        """Say whether what routes.yaml says now is in force."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_message(reloaded=successful))


async def _answer(
    answers: Answers, question: str, what: Any, number: int, writer: asyncio.StreamWriter
) -> None:
    answer = await answers.answer(Topic(question), what)
    said = await asyncio.to_thread(dumped, answer)
    message = f'{{"id":{number},"answer":{said}}}\n'.encode()
    writer.write(message if len(message) <= LONGEST else _message(id=number, answer=None))


class Child:
    """One worker's process, as its parent sees it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        #: When it came up, on the loop's clock; None until then.
        self.since: float | None = None
        #: What it said of itself when it came up.
        self.facts: dict[str, Any] = {}
        #: Why it could not start, in its own words.
        self.failure = ""
        #: What it reported last; None until then.
        self.report: Report | None = None
        #: How often it was asked for a report since it last said anything.
        self.unheard = 0
        #: Whether it has yet to say how a reload went.
        self.is_reloading = False
        #: Whether what routes.yaml said at its last look is in force there.
        self.is_current = True
        self._process = process
        self._reader = reader
        self._writer = writer
        #: What it has not answered yet: a question is asked once, however many wait for it.
        self._asked: dict[tuple[Topic, str], _Asked] = {}
        self._numbers = count(1)

    @classmethod
    async def start(cls, command: Sequence[str], bound: socket.socket) -> Child:
        """`command` gets two file descriptors more: its socket, and its end of the line."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (bound.fileno(), theirs.fileno())
            process = _born(command, descriptors)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST)
        return cls(process, reader, writer)

    async def attend(self, on_up: Callable[[], None], on_reloaded: Callable[[], None]) -> str:
        """Take in what it says until it has ended; how it ended."""
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                if line.endswith(b"\n"):  # half a line is the last word of one that was killed
                    self._hear(json.loads(line), on_up, on_reloaded)
        for asked in list(self._asked.values()):
            self._hear({"id": asked.number, "answer": None}, on_up, on_reloaded)
        self._writer.close()
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - it has let go of the line
            await asyncio.sleep(GLANCE)
        return _ending(code)

    def _hear(
        self,
        message: dict[str, Any],
        on_up: Callable[[], None],
        on_reloaded: Callable[[], None],
    ) -> None:
        self.unheard = 0
        match message:
            case {"id": number, "answer": answer}:
                for key, asked in list(self._asked.items()):
                    if asked.number == number:
                        del self._asked[key]
                        asked.answer.set_result(answer)
                        if answer is not None and key[0] is Topic.REPORT:
                            self.report = answer
            case {"up": facts}:
                self.since, self.facts = asyncio.get_running_loop().time(), facts
                on_up()
            case {"reloaded": is_current}:
                self.is_current, self.is_reloading = is_current, False
                on_reloaded()
            case {"failed": why}:
                self.failure = why

    def say(self, order: Order) -> None:
        self._say(order=order)

    def reload(self) -> None:
        """One that is not up yet reads routes.yaml anyway."""
        self.is_reloading = self.since is not None
        self.say(Order.RELOAD)

    async def ask(self, topic: Topic, what: Any = None) -> Any:
        """Its answer; None where it gives none in time."""
        key = (topic, json.dumps(what))
        if self.since is None or (key not in self._asked and len(self._asked) >= MOST_ASKED):
            return None
        if key not in self._asked:
            asked = _Asked(next(self._numbers), asyncio.get_running_loop().create_future())
            self._asked[key] = asked
            self._say(ask=topic, what=what, id=asked.number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WAIT):
                return await asyncio.shield(self._asked[key].answer)
        return None

    def _say(self, **message: Any) -> None:
        if not self._writer.is_closing():
            self._writer.write(_message(**message))

    def kill(self) -> None:
        self._process.kill()


class _Asked(NamedTuple):
    """A question that is under way."""

    number: int
    answer: asyncio.Future[Any]


def _born(command: Sequence[str], descriptors: tuple[int, int]) -> subprocess.Popen[bytes]:
    """A process that no signal to the whole group stops, from its first moment on: these are
    blocked, which the loop's own subprocesses would undo. Such a signal counts once."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        return subprocess.Popen(  # noqa: S603 - what runs here, once more
            [*command, "{},{}".format(*descriptors)], stdin=DEVNULL, pass_fds=descriptors
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _message(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"{signal.Signals(-code).name} ended it"
    except ValueError:
        return f"signal {-code} ended it"
