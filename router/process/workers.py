"""Several processes at one port, and the parent that starts them, asks them and stops them.

Each worker is a fresh `python -m router` and no fork: one that crashed is replaced while the parent
has a loop and threads, which no fork survives soundly. It takes orders from its parent alone, so
that a signal to the whole group counts once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from router.model import StartFailed
from router.net import SharedPort, happens
from router.ops import Reports, Topic
from router.process.child import Child, Order
from router.telemetry import Log, Snapshot, lasting, merged

#: Seconds before a worker that ended is replaced: after its first end, its second, and so on. One
#: that ends once more, and never served for STEADY seconds, is not: see `Workers._tend`.
BACK_OFF = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY = 60.0

#: Seconds between two reports that are kept, in case they are the last.
REPORT_EVERY = 1.0

#: Seconds that a worker has beyond its own time to stop; then it is killed.
KILL_AFTER = 15.0


class Workers:
    """All workers at one port: a Service."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        port: SharedPort | socket.socket,
        log: Log,
        *,
        stop_within: float,
        silence: float | None,
        back_off: Sequence[float] = BACK_OFF,
    ) -> None:
        """`command` starts a worker, which gets a duplicate of the `port`; `stop_within` is how
        long one may take to stop, and `silence` how long one may answer nothing, in seconds."""
        self._command = command
        self._count = count
        self._port = port
        self._log = log
        self._stop_within = stop_within
        self._silence = silence
        self._back_off = back_off
        #: The ones that live.
        self._workers: list[Child] = []
        #: The numbers of those that don't, as one.
        self._retired: list[Snapshot] = []
        #: Is told, once all have looked at routes.yaml, whether what it says is in force in all.
        self.on_look: Callable[[bool], None] = lambda _: None
        self._up = asyncio.Event()
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        """Raises StartFailed for a worker that can't start, or can't be kept running."""
        tending = [asyncio.create_task(self._tend()) for _ in range(self._count)]
        polling = asyncio.create_task(lasting(self._poll, self._log))
        try:
            _, others = await asyncio.wait(tending, return_when=asyncio.FIRST_EXCEPTION)
            self.stop()
            if others:
                await asyncio.wait(others)
            for task in tending:
                task.result()
        finally:
            polling.cancel()
            self._port.close()
            self._up.set()

    async def up(self) -> None:
        await self._up.wait()

    def stop(self) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._order(Order.STOP)
            self._kill_after(self._stop_within + KILL_AFTER)

    def hurry(self) -> None:
        self.stop()
        self._order(Order.HURRY)
        self._kill_after(KILL_AFTER)

    def reload(self) -> None:
        for worker in self._workers:
            worker.reload()
        self._note_reloaded()

    @property
    def facts(self) -> dict[str, Any]:
        """What a worker that is up says of itself."""
        return next((worker.facts for worker in self._workers if worker.facts), {})

    async def gather(self) -> Reports:
        """What all workers report now. One that does not answer is left out, and counted; what it
        has counted so far is not lost."""
        workers = list(self._workers)
        asked = (worker.ask(Topic.REPORT) for worker in workers)
        reports = await asyncio.gather(*asked)
        silent = [worker for worker, report in zip(workers, reports, strict=True) if report is None]
        told = [worker.report for worker in silent if worker.report is not None]
        return Reports(
            [report for report in reports if report is not None],
            [*self._retired, *(report["metrics"] for report in told)],
            len(silent),
        )

    async def ask(self, topic: Topic, what: Any = None) -> list[Any]:
        """The answers of all workers that give one in time."""
        answers = await asyncio.gather(*(each.ask(topic, what) for each in self._workers))
        return [answer for answer in answers if answer is not None]

    async def ask_one(self, topic: Topic, what: Any = None) -> Any:
        """The answer of one of them, for what all would answer alike; None where none does."""
        for worker in list(self._workers):
            if (answer := await worker.ask(topic, what)) is not None:
                return answer
        return None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            for worker in self._workers:
                worker.unheard += 1
            await self.gather()
            if self._silence is not None:
                self._end_silent(self._silence)

    def _end_silent(self, silence: float) -> None:
        """Kill who is up and says nothing, so that it is replaced. Counted in questions and not in
        time: if this process was held up itself, that is nobody's silence."""
        for worker in self._workers:
            if worker.since is not None and worker.unheard * REPORT_EVERY > silence:
                worker.failure = f"it did not answer for {silence:g} s"
                worker.kill()

    async def _tend(self) -> None:
        """Keep one worker running.

        Raises StartFailed when the first one does not come up and nobody else is, and when its
        successors keep ending. One that can't start is no reason while others serve: a routes.yaml
        that was broken since all were up changes nothing but the alarm.
        """
        ends = 0
        while not self._stopped.is_set():
            worker, ending = await self._run_one()
            if self._stopped.is_set():
                return
            failure = "" if worker is None else worker.failure
            has_served = worker is not None and worker.since is not None
            if not (self._up.is_set() or has_served or self._any_up):
                raise StartFailed(failure or f"a worker did not come up: {ending}")
            ends = 1 if self._was_steady(worker) else ends + 1
            goes_on = self._up.is_set() and self._any_up and not has_served
            if ends > len(self._back_off) and not goes_on:
                how = failure or ending
                raise StartFailed(f"a worker ended {ends} times in a row; the last time: {how}")
            wait = self._back_off[min(ends, len(self._back_off)) - 1]
            pid = None if worker is None else worker.pid
            self._log.error("worker_ended", pid=pid, how=failure or ending, again_in=wait)
            await happens(self._stopped, wait)

    async def _run_one(self) -> tuple[Child | None, str]:
        """One worker from its start to its end, and how it ended; None where the system has not
        let it start."""
        try:
            with self._port.dup() as bound:
                worker = await Child.start(self._command, bound)
        except OSError as error:
            return None, f"it can't be started: {error.strerror or 'the system refused'}"
        self._workers.append(worker)
        if self._stopped.is_set():
            worker.say(Order.STOP)
        ending = await worker.attend(lambda: self._note_up(worker), self._note_reloaded)
        self._workers.remove(worker)
        if worker.is_reloading:
            self._note_reloaded()
        if worker.report is not None:
            self._retired = [merged([], [*self._retired, worker.report["metrics"]])]
        return worker, ending

    def _note_up(self, worker: Child) -> None:
        if self._up.is_set():
            self._log.info("worker_up", pid=worker.pid)
        elif sum(each.since is not None for each in self._workers) == self._count:
            self._up.set()

    def _note_reloaded(self) -> None:
        if not any(worker.is_reloading for worker in self._workers):
            self.on_look(all(worker.is_current for worker in self._workers))

    def _was_steady(self, worker: Child | None) -> bool:
        if worker is None or worker.since is None:
            return False
        return asyncio.get_running_loop().time() - worker.since > STEADY

    @property
    def _any_up(self) -> bool:
        return any(worker.since is not None for worker in self._workers)

    def _order(self, order: Order) -> None:
        for worker in self._workers:
            worker.say(order)

    def _kill_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._kill)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
