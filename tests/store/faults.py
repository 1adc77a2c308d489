"""A router whose store has a fault, and the checks that hold for every fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from router.delivery.queue import LEASE_MARGIN
from tests.support.house import PATIENCE
from tests.support.rows import Store
from tests.support.serving import SOON, Code, Serving, Target, serving, states, target, unsettled
from tests.support.waiting import wait_until

#: Short, because a failure waits for the store, for at most a second.
REPLY_WITHIN: dict[str, Any] = {"ebaas": {"reply_within": "2s"}}


class Targets(NamedTuple):
    """Until they are `healed`, the required `weak` fails at `fails-…`, and the optional `aside` at
    `queues-…`."""

    strong: Target
    weak: Target
    aside: Target
    healed: threading.Event

    @contextmanager
    def router(self, folder: Path, store: Store, *options: str, **more: Any) -> Iterator[Serving]:
        required = {"strong": self.strong, "weak": self.weak}
        optional = {"aside": self.aside}
        with serving(folder, required, optional, store, options, queue=SOON, **more) as router:
            yield router


@contextmanager
def three_targets() -> Iterator[Targets]:
    healed = threading.Event()

    def fails(prefix: str) -> Code:
        return lambda name, _: "500" if name.startswith(prefix) and not healed.is_set() else "000"

    def after_aside(name: str, _: str) -> str:
        # Otherwise an optional target that is slower than the required ones would have to be
        # queued, for which a healthy event needs the store.
        if name.startswith("healthy"):
            wait_until(lambda: aside.of(name))
        return "000"

    with (
        target(fails("queues")) as aside,
        target(after_aside) as strong,
        target(fails("fails")) as weak,
    ):
        yield Targets(strong, weak, aside, healed)


class Scene(NamedTuple):
    """A router with three targets."""

    router: Serving
    store: Store
    strong: Target
    weak: Target
    aside: Target
    healed: threading.Event


@contextmanager
def scene(folder: Path, store: Store, *options: str) -> Iterator[Scene]:
    with (
        three_targets() as targets,
        targets.router(folder, store, *options, **REPLY_WITHIN) as router,
    ):
        yield Scene(router, store, *targets)


def during(at: Scene, words: set[str]) -> None:
    """Check the router during the fault. No words mean that failures can still be recorded."""
    assert at.router.post("healthy") == "000"
    codes = at_once(at.router, "fails-meanwhile", "queues-meanwhile", "healthy-beside")
    assert codes == ["500", "500" if words else "000", "000"], codes
    assert len(at.strong.of("fails-meanwhile")) == 1
    assert at.router.ready() == 200
    assert at.router.post("healthy-still") == "000"
    if words:
        line = line_of(at.router, "500", 2)
        assert line["unrecorded"] in words, line


def after(at: Scene) -> None:
    # Unrecorded events come back with EBaaS's retries, which succeed once the store works.
    wait_until(lambda: at.router.post("queues-meanwhile") == "000")
    wait_until(lambda: at.router.post("fails-after") == "500" and "fails-after" in states(at.store))
    at.healed.set()
    for name in ("fails-before", "fails-meanwhile", "fails-after"):
        assert at.router.post(name) == "000"
    # Deliveries taken from the queue before the fault are tried again when their leases end.
    wait_until(lambda: not unsettled(at.store), LEASE_MARGIN + PATIENCE)
    for name in ("queues-before", "queues-meanwhile"):
        assert at.aside.of(name)[-1].code == "000"


def at_once(router: Serving, *names: str) -> list[str]:
    """Post events at the same time, and return their codes."""
    with ThreadPoolExecutor(len(names)) as threads:
        return list(threads.map(router.post, names))


def line_of(router: Serving, code: str, number: int) -> dict[str, Any]:
    """Return the log line of the `number`-th event with this reply."""

    def found() -> list[dict[str, Any]]:
        return [line for line in router.lines("event") if line["code"] == code]

    router.wait_for(lambda: len(found()) >= number)
    return found()[number - 1]
