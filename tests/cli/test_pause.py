"""`pause` and `resume` on a real store of each kind."""

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

PAUSE = ("--until", "10m", "--because", "a move")


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
    (line,) = run(shop, table, "pause", "ledger", *PAUSE, "--as", "ops").lines
    assert re.fullmatch(r"ledger is paused until 20\S+ \(in 10m\) by 'ops': a move", line)
    (listed,) = (each for each in shop.lines("list") if each["kind"] == "pause")
    assert (listed["target"], listed["because"], listed["who"]) == ("ledger", "a move", "ops")
    assert "ledger is paused until 20" in shop.run("list").out
    (again,) = run(shop, table, "pause").lines
    assert again in (line, line.replace("in 10m", "in 9m 59s"))
    assert run(shop, table, "pause", "--format", "json").json == listed
    ended = run(shop, table, "resume", "ledger", "--as", "night", "--format", "json").json
    assert (ended["who"], ended["resumed_by"]) == ("ops", "night")
    assert [each for each in shop.lines("list") if each["kind"] == "pause"] == []
    assert run(shop, table, "pause").lines == ["no pauses"]
    again = complaint(run(shop, table, "resume", "ledger"), 1)
    assert again == "ebaas-router: ledger is not paused"


def test_only_a_known_target_is_paused(shop: Shop, table: Path) -> None:
    """A target of the store is known, though nothing is sent to it. Without routes.yaml any other
    name may be mistyped, and the target itself would be called all the same."""
    shop.add("one", dead("gone"))
    assert "has no target 'gone'" in run(shop, table, "pause", "gone", *PAUSE).err
    table.unlink()
    refused = complaint(run(shop, table, "pause", "gnoe", *PAUSE), 2)
    assert "can't be read (--config), did you mean gone?" in refused
    assert run(shop, table, "pause", "gone", *PAUSE).code == 0


def test_a_paused_targets_retry_comes_after_its_pause(shop: Shop, table: Path) -> None:
    """As `trace` shows it; without a pause it is overdue."""
    shop.add("one", DeliveryRow("ledger", State.QUEUED, "code", time.time() - 90))
    trace = ("trace", "one", "--archive", "none", "--store", shop.option)
    assert re.search(r"next: retry 1 of ledger, overdue by 1m 3\ds", ran(*trace).out)
    run(shop, table, "pause", "ledger", "--until", "2h", "--because", "a move")
    assert re.fullmatch(
        r"next: retry 1 of ledger, in 1h 59m; it is paused until then", ran(*trace).lines[-1]
    )
    (coming,) = ran(*trace, "--format", "json").json["next"]
    assert coming["paused"] is True


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ledgr", "--until", "1m", "--because", "x"], "did you mean ledger?"),
        (["ledger", "--until", "10m"], "--because TEXT"),
        (["ledger", "--until", "31d", "--because", "x"], "more than 30 days away"),
        (["ledger", "--until", "1m", "--because", " "], "1 to 200 characters"),
        (["--until", "1m", "--because", "x"], "which target? pause TARGET"),
    ],
)
def test_a_wrong_pause_is_refused(shop: Shop, table: Path, arguments: list[str], why: str) -> None:
    """In one line, and nothing is kept."""
    assert why in complaint(run(shop, table, "pause", *arguments), 2)
    assert shop.lines("list") == []


def test_without_a_store_there_is_no_pause(table: Path) -> None:
    refused = complaint(ran("pause", "ledger", *PAUSE, "--store", "none", "--config", table), 3)
    assert "`paused` of routes.yaml needs no store" in refused
