"""`pause` and `resume` as people run them, on a real store of each kind."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from router.store.protocol import DeliveryRow, State
from tests.support.house import routes
from tests.support.inprocess import Ran, complaint, ran
from tests.support.shop import Shop, dead


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A routes.yaml with the target `ledger`."""
    path = tmp_path / "routes.yaml"
    path.write_text(json.dumps(routes({"ledger": "http://127.0.0.1:9/"})))
    return path


def run(shop: Shop, table: Path, *arguments: str) -> Ran:
    return ran(*arguments, "--store", shop.option, "--config", table)


def test_a_pause_is_made_shown_and_ended(shop: Shop, table: Path) -> None:
    """With who and why, as text and as JSON; `deliveries list` has it as long as it lasts."""
    saying = ("--until", "10m", "--because", "a move", "--as", "ops")
    (told,) = run(shop, table, "pause", "ledger", *saying).lines
    assert told.startswith("ledger is paused until 20")
    assert told.endswith("(in 10m) by 'ops': a move")
    (listed,) = (each for each in shop.lines("list") if each["kind"] == "pause")
    assert (listed["target"], listed["because"], listed["who"]) == ("ledger", "a move", "ops")
    assert "ledger is paused until 20" in shop.run("list").out
    ended = run(shop, table, "resume", "ledger", "--as", "night", "--format", "json").json
    assert (ended["who"], ended["resumed_by"]) == ("ops", "night")
    assert [each for each in shop.lines("list") if each["kind"] == "pause"] == []
    said = complaint(run(shop, table, "resume", "ledger"), 1)
    assert said == "ebaas-router: nobody has paused ledger"


def test_alone_it_lists_the_pauses(shop: Shop, table: Path) -> None:
    """Those in force; what would make one needs its target."""
    assert run(shop, table, "pause").lines == ["no pauses"]
    saying = ("--until", "10m", "--because", "a move")
    (made,) = run(shop, table, "pause", "ledger", *saying).lines
    (listed,) = run(shop, table, "pause").lines
    assert listed.partition("(")[0] == made.partition("(")[0]
    assert run(shop, table, "pause", "--format", "json").json["because"] == "a move"
    said = complaint(run(shop, table, "pause", "--until", "10m"), 2)
    assert "which target is to be paused?" in said


def test_an_event_is_shown_with_the_pause_of_its_target(shop: Shop, table: Path) -> None:
    """And with no other's."""
    shop.add("one")
    shop.add("two", dead("other"))
    run(shop, table, "pause", "ledger", "--until", "10m", "--because", "a move")
    assert "ledger is paused until 20" in shop.run("show", "one").out
    assert "is paused" not in shop.run("show", "two").out


def test_only_what_is_known_to_be_a_target_is_paused(shop: Shop, table: Path) -> None:
    """One that the store has is one, though nothing is sent to it; where there is no routes.yaml
    any other name may be mistyped, and the target itself would be called all the same."""
    shop.add("one", dead("gone"))
    saying = ("--until", "10m", "--because", "a move")
    assert "has no target 'gone'" in run(shop, table, "pause", "gone", *saying).err
    table.unlink()
    said = complaint(run(shop, table, "pause", "gnoe", *saying), 2)
    assert "did you mean gone? Whether it is a target can't be told" in said
    assert run(shop, table, "pause", "gone", *saying).code == 0


def test_a_paused_targets_retry_comes_after_its_pause(shop: Shop, table: Path) -> None:
    """As `trace` tells it, as text and as JSON; without one it is overdue by then."""
    shop.add("one", DeliveryRow("ledger", State.QUEUED, "code", time.time() - 90))
    where = ("trace", "one", "--archive", "none", "--store", shop.option)
    assert re.search(r"next: retry 1 of ledger, overdue by 1m 3\ds", ran(*where).out)
    run(shop, table, "pause", "ledger", "--until", "2h", "--because", "a move")
    assert re.fullmatch(
        r"next: retry 1 of ledger, in 1h 59m; it is paused until then", ran(*where).lines[-1]
    )
    (coming,) = ran(*where, "--format", "json").json["next"]
    assert coming["paused"] is True


def test_who_acts_is_whoever_runs_it(shop: Shop, table: Path) -> None:
    """Unless told otherwise."""
    saying = ("--until", "10m", "--because", "a move", "--format", "json")
    assert "@" in run(shop, table, "pause", "ledger", *saying).json["who"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ledgr", "--until", "1m", "--because", "x"], "did you mean ledger?"),
        (["ledger", "--because", "x"], "until when? --until TIME"),
        (["ledger", "--until", "1m"], "why? --because TEXT"),
        (["ledger", "--until", "31d", "--because", "x"], "more than 30 days away"),
        (["ledger", "--until", "1m", "--because", " "], "1 to 200 characters"),
        (["--until", "1m", "--because", "x"], "TARGET"),
    ],
)
def test_what_can_not_be_a_pause_is_refused(
    shop: Shop, table: Path, arguments: list[str], why: str
) -> None:
    """In one line, and nothing is kept."""
    assert why in complaint(run(shop, table, "pause", *arguments), 2)
    assert shop.lines("list") == []


def test_without_a_store_there_is_no_pause(table: Path) -> None:
    """There is nowhere to keep it."""
    saying = ("--until", "1m", "--because", "x", "--store", "none", "--config", table)
    said = complaint(ran("pause", "ledger", *saying), 3)
    assert "`paused` of routes.yaml needs no store" in said
