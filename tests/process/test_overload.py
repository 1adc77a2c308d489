"""An overloaded router refuses at once, and finishes everything that it has begun."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.house import event
from tests.support.serving import Gate, Serving, gated, serving, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until
from tests.support.wire import Line, answer_on, post

#: Enough that each one holds less than its share of the room.
TARGETS = 16


@contextmanager
def scene(folder: Path, room: int) -> Iterator[tuple[Serving, Gate]]:
    """Run a router with room for some callbacks. One server, which holds its answers back, is all
    targets, and the key chooses among them."""
    names = [f"t{number}" for number in range(TARGETS)]
    config = folder / "routes.yaml"
    with gated() as (endpoint, gate):
        table = {
            "version": 1,
            "targets": {name: {"url": f"{endpoint.url}/{name}"} for name in names},
            "routes": [{"name": n, "match": f"{n}.*", "required": [n]} for n in names],
        }
        config.write_text(json.dumps(table))
        router = Serving(config, folder / "store.db", ("--max-requests", str(room)), {})
        try:
            yield router, gate
        finally:
            gate.open()
            router.close()


def say(line: Line, name: str, to: int = 0) -> None:
    line.say(post(body=event(event_key=f"t{to % TARGETS}.x", changes=[name])))


def test_an_overloaded_router_refuses_at_once_and_finishes_its_requests(tmp_path: Path) -> None:
    """Four fifths of five times too many callers get 503 at once; the others are served."""
    with scene(tmp_path, room=8) as (router, gate), ExitStack() as stack:
        lines = [stack.enter_context(Line(router.port)) for _ in range(40)]
        for number, line in enumerate(lines):
            say(line, f"event {number}", to=number)
        with ThreadPoolExecutor(len(lines)) as pool:
            replies = [pool.submit(answer_on, line) for line in lines]
            wait_until(lambda: sum(reply.done() for reply in replies) == 32)
            refused = [reply.result() for reply in replies if reply.done()]
            gate.open()
            codes = Counter(reply.result().says["code"] for reply in replies)
    assert {(reply.status, reply.says["code"]) for reply in refused} == {(503, "503")}
    assert codes == {"503": 32, "000": 8}
    assert len(gate.come) == 8


def test_callers_may_keep_four_connections_for_each_request(tmp_path: Path) -> None:
    """Balancers keep connections open; the limit is a metric."""
    ops = free_port()
    options = ("--max-requests", "7", "--ops-port", str(ops))
    with target() as one, serving(tmp_path, {"one": one}, options=options):
        scraped = httpx.get(f"http://127.0.0.1:{ops}/metrics", **PLAIN).text
    assert "\nebaas_router_connections_limit 28.0\n" in scraped


def test_a_hang_up_makes_room_at_once(tmp_path: Path) -> None:
    """A caller that hangs up leaves its room to the next one before its target has answered."""
    with scene(tmp_path, room=2) as (router, gate), ExitStack() as stack:
        stays, goes = (stack.enter_context(Line(router.port)) for _ in range(2))
        say(stays, "stays", to=1)
        say(goes, "goes", to=2)
        wait_until(lambda: len(gate.come) == 2)
        goes.reset()
        with ThreadPoolExecutor(1) as pool:
            code = pool.submit(insist, router)
            wait_until(lambda: "follows" in gate.come)
            gate.open()
            assert code.result() == "000"
        assert answer_on(stays).says["code"] == "000"


def insist(router: Serving) -> str:
    """Send an event until it is not refused; return its code."""
    code = "503"
    while code == "503":
        with Line(router.port) as line:
            say(line, "follows", to=3)
            code = answer_on(line).says["code"]
    return code
