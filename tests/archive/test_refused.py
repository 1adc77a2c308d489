"""Refused callbacks: kept in a bound of their own, found by any id, and replayed at most once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from router.archive.segments import REFUSED
from tests.support.archived import archived
from tests.support.house import event
from tests.support.inprocess import Ran, ran
from tests.support.serving import Serving, Target, serving, target, with_door
from tests.support.waiting import wait_until

UNTYPED = event(event_type="", changes=["order-2"])


class Scene(NamedTuple):
    """A router whose only route matches nothing yet, its target, and how to ask it."""

    router: Serving
    ledger: Target
    folder: Path
    door: list[str]

    def refuse(self, body: bytes, code: str) -> None:
        before = len(self.kept())
        assert self.router.ask("POST", "/callback", body)[1] == code
        wait_until(lambda: len(self.kept()) > before)

    def kept(self) -> list[dict[str, Any]]:
        kinds = [archived(self.folder / "store.db-archive" / REFUSED, kind) for kind in KINDS]
        return [line for lines in kinds for line in lines]

    def correct(self) -> None:
        """Let the route match every event."""
        config = self.folder / "routes.yaml"
        config.write_text(config.read_text().replace("elsewhere.*", "*"))
        self.router.process.send_signal(signal.SIGHUP)
        self.router.wait_for(lambda: self.router.lines("reload"))

    def ask(self, *words: str) -> Ran:
        return ran(*words, *self.door)

    def replay(self, *words: str) -> Ran:
        return self.ask("archive", "replay", "--refused", "--rate", "1000/s", *words)


KINDS = ("refused", "unmatched")


@contextmanager
def scene(folder: Path, *options: str, **top: Any) -> Iterator[Scene]:
    own, door = with_door(folder)
    with (
        target() as ledger,
        serving(
            folder, {"ledger": ledger}, options=[*own, *options], **{"match": "elsewhere.*", **top}
        ) as router,
    ):
        yield Scene(router, ledger, folder, door)


def test_refused_callbacks_are_listed_and_replayed(tmp_path: Path) -> None:
    """By fault and key, a body once; those that are accepted now are delivered, and once only."""
    with scene(tmp_path) as here:
        for _ in range(3):
            here.refuse(event(changes=["order-1"]), "500")
        here.refuse(event(changes=["order-3"]), "500")
        here.refuse(UNTYPED, "400")
        listed = here.ask("archive", "list", "--refused", "--format", "json").json
        numbers = {
            (fault["why"], fault["event_key"]): (fault["callbacks"], fault["requests"])
            for fault in listed["faults"]
        }
        assert numbers == {
            ("no route matches", "a.gs.cert.1"): (2, 4),
            ("event_type: minLength", "a.gs.cert.1"): (1, 1),
        }
        assert here.replay("--dry-run").lines[-2] == "0 would be delivered now, 3 still refused"
        here.correct()
        preview = here.replay("--dry-run", "--format", "json").json
        assert {fault["now"]: fault["callbacks"] for fault in preview["faults"]} == {
            "": 2,
            "event_type: minLength": 1,
        }
        asked = here.replay()
        assert (asked.code, "to replay 2 callbacks needs --yes" in asked.err) == (2, True)
        assert "2 would be delivered now, 1 still refused" in asked.lines
        assert here.replay("--yes").lines[-1] == "2 callbacks replayed"
        wait_until(lambda: len(here.ledger.got) == 2)
        again = here.replay("--yes").lines
        assert again[-2:] == ["2 were replayed before, and left out", "0 callbacks replayed"]
    assert sorted(got.event for got in here.ledger.got) == ["order-1", "order-3"]
    assert {got.cause for got in here.ledger.got} == {"replay"}


def test_ebaas_gets_its_000_for_a_replayed_callback(tmp_path: Path) -> None:
    """Its next retry calls nobody, and the story has each request, the replay and the retry."""
    with scene(tmp_path) as here:
        here.refuse(event(changes=["order-1"]), "500")
        here.correct()
        assert here.replay("--yes").lines[-1] == "1 callback replayed"
        wait_until(lambda: here.ledger.got)
        here.router.wait_for(lambda: here.router.lines("retried"))
        assert here.router.post("order-1") == "000"
        wait_until(lambda: archived(tmp_path / "store.db-archive"))
        found = here.ask("trace", "order-1")
    assert len(here.ledger.got) == 1
    for text in (
        "a request: reply to EBaaS: 500",
        "no route matches",
        "replay by 'ops': ledger",
        "(replay): ledger acknowledged",
        "request 2 of 21: reply to EBaaS: 000",
        "skipped: acknowledged",
    ):
        assert text in found.out, text
