"""`deliveries` on a real store of each kind, beside a router or without one."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from router.cli import deliveries as listing
from router.model.event import Attempt, Reason
from router.store.protocol import DeliveryRow, Stage, State, Tried
from router.store.sqlite import file as sqlite_file
from tests.support.command import PATIENCE, ROOT, command, environment, receiver, running
from tests.support.inprocess import Ran, complaint, ran
from tests.support.queueing import NO, opened
from tests.support.serving import with_door
from tests.support.shop import PostgresShop, Shop, SqliteShop, dead
from tests.support.waiting import wait_until

#: How many deliveries the large store has, if not as many as is quick. The long form, minutes, is
#: `TEST_ROWS=1000000 pytest -o faulthandler_timeout=0 tests/cli/test_deliveries.py -k in_steps`.
MANY = int(os.environ.get("TEST_ROWS", "0"))


def cells(finished: Ran) -> list[list[str]]:
    """The words of each line of a result."""
    assert finished.code == 0, finished.err
    return [line.split() for line in finished.lines]


# Listing.


def test_groups_come_first(shop: Shop) -> None:
    """By target, state and reason: dead letters before the rest, and the largest groups first, with
    the ages of the oldest and the newest and the last answer. What is settled is shown where it is
    asked for."""
    failed = Attempt(Reason.STATUS, True, 0.25, 503, "", None, 7200.0, "", "down for repair")
    said = replace(dead("audit", "status"), tried=Tried(failed, retry=2))
    shop.add("one", dead(), DeliveryRow("audit", State.QUEUED), ago=3 * 3600 + 120)
    shop.add("four", said, ago=7200)
    shop.add("two", dead(), DeliveryRow("ledger2", State.ACKNOWLEDGED), ago=3600)
    shop.add("three", DeliveryRow("ledger", State.AWAITING), stage=Stage.OPEN, ago=7200)
    shop.acknowledged_later("two")
    settled = cells(shop.run("list", "--state", "acknowledged"))
    assert settled[1] == ["ledger2", "acknowledged", "1", "1h", "1h"]
    assert shop.run().lines[0] == shop.run("list").lines[0]  # the default verb
    assert [" ".join(line) for line in cells(shop.run("list"))[1:]] == [
        "ledger dead timeout 2 3h 2m 1h 1 acknowledged later",
        "audit dead status 1 2h 2h HTTP 503: down for repair",
        "audit queued 1 3h 2m 3h 2m",
        "ledger awaiting 1 2h 2h",
    ]
    lines = [line for line in shop.lines("list") if line["kind"] == "group"]
    assert [line["example"]["said"] for line in lines][1] == "HTTP 503: down for repair"


def test_many_groups_are_cut(shop: Shop) -> None:
    """With the number of deliveries in the smaller ones; as JSON all come."""
    with shop.at_once():
        for n in range(25):
            shop.add(f"event-{n}", dead(f"target-{n}"), dead("common"), body=b'{"n":%d}' % n)
    reported = shop.run("list").lines
    assert reported[1].split()[:4] == ["common", "dead", "timeout", "25"]
    assert reported[21] == "6 deliveries in 6 smaller groups: --target shows them"
    assert sum(line["kind"] == "group" for line in shop.lines("list")) == 26


def test_an_empty_store_has_no_deliveries(shop: Shop) -> None:
    """An empty store is not a fault."""
    assert cells(shop.run("list")) == [["no", "deliveries"]]
    assert cells(shop.run("list", "--state", "dead")) == [["no", "deliveries"]]
    assert shop.lines("list") == []
    assert cells(shop.run("replay", "--match", "*"))[-1] == ["0", "deliveries", "replayed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--state dead", "one ledger, one audit, four ledger"),
        ("--state queued --state awaiting", "two ledger, three ledger"),
        ("--target audit", "one audit"),
        ("--reason dns --reason tls", "three ledger"),
        ("--match a.gs.*", "one ledger, one audit, three ledger"),
        ("--match *.[!4] --match nothing", "one ledger, one audit, two ledger, three ledger"),
        ("--event four --event one --target ledger", "one ledger, four ledger"),
        ("--older-than 1h", "three ledger, four ledger"),
        ("--newer-than 3h --older-than 1h", "three ledger"),
        ("--acknowledged-later only", "four ledger"),
        ("--acknowledged-later exclude --state dead", "one ledger, one audit"),
        ("--target certificates", ""),
    ],
)
def test_what_is_selected_is_listed(shop: Shop, options: str, expected: str) -> None:
    """Every filter has to fit; one that is repeated fits with any of its values."""
    shop.add("one", dead(), dead("audit"))
    shop.add("two", DeliveryRow("ledger", State.QUEUED), key="b.gs.cert.2")
    awaiting = DeliveryRow("ledger", State.AWAITING, "dns")
    shop.add("three", awaiting, stage=Stage.OPEN, key="a.gs.key.3", ago=2 * 3600)
    shop.add("four", key="c.gs.cert.4", ago=4 * 3600)
    shop.acknowledged_later("four")
    assert set(shop.listed(*options.split())) == {each for each in expected.split(", ") if each}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "new ledger, new audit, old ledger, old audit"),
        ("--sort oldest", "old audit, old ledger, new audit, new ledger"),
        ("--sort target", "new audit, old audit, new ledger, old ledger"),
    ],
)
def test_the_newest_come_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, options: str, expected: str
) -> None:
    """Or in another order, over several pages too."""
    monkeypatch.setattr(listing, "_PAGE", 3)
    for name, ago in (("old", 60.0), ("new", 5.0)):
        shop.add(name, dead("ledger"), dead("audit"), ago=ago)
    listed = shop.listed("--state", "dead", *options.split())
    assert listed == expected.split(", ")
    text = shop.run("list", "--state", "dead", *options.split()).out
    assert re.findall("  (old|new)  ", text) == [each.split()[0] for each in listed]


def test_a_long_list_is_cut_and_says_so(shop: Shop) -> None:
    """As text; as JSON everything comes, one line each."""
    shop.add_many(120)
    reported = cells(shop.run("list", "--state", "dead"))
    assert reported[-1] == ["70", "more:", "--limit"]
    assert sum({"target-0", "dead"} <= {*line} for line in reported) == 1 + 12
    assert len(shop.listed("--state", "dead")) == 120
    assert len(shop.listed("--state", "dead", "--limit", "7")) == 7


def test_a_limit_holds_over_several_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of more than one page has exactly as many deliveries as were asked for."""
    monkeypatch.setattr(listing, "_PAGE", 3)
    shop.add_many(20)
    for limit in (5, 6, 7, 19, 21):
        assert len(shop.listed("--state", "dead", "--limit", f"{limit}")) == min(limit, 20)


def traced(shop: Shop, *options: str) -> str:
    return ran("trace", "one", "--store", shop.option, "--archive", "none", *options).out


def test_the_last_attempts_words_are_listed(shop: Shop) -> None:
    """The receiver's, else ours, so that a page of dead letters says why."""
    output = Attempt(Reason.CODE, True, 0.25, 200, "", None, 7200.0, "700", "库存不足")
    down = Attempt(Reason.CONNECT_REFUSED, False, 0.0, None, "Connection refused", None, 7200.0)
    rows = {"ledger": output, "audit": down}
    shop.add("one", *[replace(dead(to), tried=Tried(at, retry=2)) for to, at in rows.items()])
    listed = [line for line in shop.lines("list", "--match", "*") if line["kind"] == "delivery"]
    words = {"ledger": "700: 库存不足", "audit": "Connection refused"}
    assert {line["target"]: line["said"] for line in listed} == words
    lines = shop.run("list", "--match", "*").lines
    for text in words.values():
        assert any(line.endswith(f" {text}") for line in lines)


# Acting.


def test_replayed_dead_letters_are_queued(shop: Shop) -> None:
    """Only the selected ones. The store keeps who replayed them, when, and by which selection."""
    shop.add("one", dead(), dead("audit"))
    shop.add("two", key="b.gs.cert.1")
    finished = shop.run("replay", "--target", "ledger", "--match", "a.*", "--as", "alice")
    assert cells(finished)[-1] == ["1", "delivery", "replayed"]
    assert shop.states() == {
        "one ledger": "queued timeout",
        "one audit": "dead timeout",
        "two ledger": "dead timeout",
    }
    assert shop.actions() == [("replay", "alice", "--target ledger --match 'a.*'", 1)]
    assert "replayed by 'alice'" in traced(shop)
    assert "--match 'a.*'" in shop.run("list").out


def test_discarded_deliveries_are_settled_and_restored(shop: Shop) -> None:
    """Dead letters, unless other states are named; restored ones are as before. By default the
    user acts."""
    superseded = DeliveryRow("other", State.SUPERSEDED, "code")
    shop.add("one", dead("ledger", "dns"), DeliveryRow("audit", State.QUEUED, "code"), superseded)
    before = shop.states()
    assert cells(shop.run("discard", "--event", "one"))[-1] == ["1", "delivery", "discarded"]
    assert shop.states() == {**before, "one ledger": "superseded discarded"}
    assert cells(shop.run("restore", "--event", "one"))[-1] == ["1", "delivery", "restored"]
    assert shop.states() == before
    shop.run("discard", "--event", "one", "--state", "queued", "--as", "mia")
    assert shop.states() == {**before, "one audit": "superseded discarded"}
    verbs, whos, _, _ = zip(*shop.actions(), strict=True)
    assert verbs == ("discard", "restore", "discard")
    assert whos[0].endswith(f"@{os.uname().nodename}")
    assert whos[2] == "mia"


def test_without_a_router_nothing_is_sent_now(shop: Shop) -> None:
    """`retry` is refused, and changes nothing."""
    shop.add("one", DeliveryRow("ledger", State.QUEUED, "code"))
    finished = shop.run("retry", "--match", "*")
    assert complaint(finished, 3).startswith("ebaas-router: nothing sends while no router runs")
    assert shop.actions() == []


def test_a_dry_run_changes_nothing(shop: Shop) -> None:
    """It counts, and asks nothing."""
    shop.add_many(30)
    finished = shop.run("replay", "--match", "*", "--dry-run")
    assert cells(finished)[-1] == ["30", "deliveries", "would", "be", "replayed"]
    assert shop.count(State.DEAD) == 30
    assert shop.actions() == []
    (result,) = shop.lines("discard", "--match", "*", "--dry-run")
    assert (result["dry_run"], result["selected"], result["deliveries"]) == (True, 30, 0)


def test_what_was_acknowledged_later_is_left_out_of_a_replay(shop: Shop) -> None:
    """Unless asked for; what is left out is told."""
    shop.add("one")
    shop.add("two", body=b"[]")
    shop.acknowledged_later("one")
    finished = shop.run("replay", "--match", "*")
    assert "1 left out, whose body was acknowledged later" in finished.out
    assert shop.states() == {"one ledger": "dead timeout", "two ledger": "queued timeout"}
    shop.run("replay", "--match", "*", "--acknowledged-later", "include")
    assert shop.states()["one ledger"] == "queued timeout"


def test_deliveries_that_came_after_the_preview_stay(shop: Shop) -> None:
    shop.add("one")
    shop.add("later", ago=-3600)
    assert cells(shop.run("replay", "--match", "*"))[-1] == ["1", "delivery", "replayed"]
    assert shop.states() == {"one ledger": "queued timeout", "later ledger": "dead timeout"}


def test_many_need_a_confirmation(shop: Shop) -> None:
    """Without a terminal it has to be in the command line; ten are done without."""
    shop.add_many(11)
    finished = shop.run("replay", "--match", "*")
    assert finished.code == 2
    assert "to replay 11 deliveries needs --yes" in finished.err
    assert shop.count(State.DEAD) == 11
    assert shop.run("discard", "--event", "event-0").code == 0
    assert shop.run("replay", "--match", "*").code == 0
    assert shop.count(State.QUEUED) == 10


@pytest.mark.parametrize(
    ("answer", "code", "queued"), [(b"y\n", 0, 11), (b"n\n", 1, 0), (b"\n", 1, 0)]
)
def test_a_person_is_asked(shop: Shop, answer: bytes, code: int, queued: int) -> None:
    """On a terminal; anything but a yes is a no."""
    shop.add_many(11)
    mine, theirs = pty.openpty()
    try:
        os.write(mine, answer)
        finished = process(*replay_all(shop)[:-1], stdin=theirs)
    finally:
        os.close(mine)
        os.close(theirs)
    assert finished.returncode == code
    assert b"replay 11 deliveries? [y/N]" in finished.stderr
    assert shop.count(State.QUEUED) == queued


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("replay", "--match '*' for all"),
        ("discard --yes", "--match '*' for all"),
        ("replay --state queued --match *", "a delivery that is queued is retried anyway"),
        ("discard --state acknowledged --match *", "that is acknowledged is settled already"),
        ("list --yes", "--yes is for replay, discard, restore, retry only"),
        ("replay --limit 3 --match *", "--limit is for list only"),
        ("list --match [a", "has no end"),
        ("list --older-than 5", "is not a duration"),
        ("list --reason tiemout", "reason: is none of acknowledged, code, "),
        ("replay --sort oldest --match *", "--sort is for list only"),
        ("lst", "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_one_line(file: SqliteShop, line: str, why: str) -> None:
    """It changes nothing."""
    file.add("one")
    assert why in complaint(file.run(*line.split()), 2)
    assert file.count(State.DEAD) == 1


def test_an_unknown_target_is_a_mistake(shop: Shop, tmp_path: Path) -> None:
    """Known are those in the store or in routes.yaml."""
    shop.add("one", dead("ledger"))
    config = tmp_path / "routes.yaml"
    config.write_text('targets: {audit: {headers: {x: "${NOT_SET}"}}}')
    options = ("discard", "--config", str(config), "--target")
    assert "did you mean ledger?" in complaint(shop.run(*options, "ledgre"), 2)
    assert "did you mean audit?" in complaint(shop.run(*options, "audti"), 2)
    assert shop.run(*options, "audit").code == 0
    config.unlink()
    assert "can't be read (--config), did you mean ledger?" in complaint(
        shop.run(*options, "ledgre"), 2
    )
    assert shop.count(State.DEAD) == 1


def test_an_attempt_in_flight_is_not_a_retry_to_come(shop: Shop) -> None:
    """It has until its time to end. After that its process has died, and it is overdue."""
    shop.add("one", DeliveryRow("ledger", State.QUEUED, "code"))
    for left, reported in (
        (50, r"attempt in flight, again in [34]\ds if nothing is heard of it"),
        (-50, r"overdue by 5\ds"),
    ):
        due = time.time() + left
        shop.query(f"UPDATE deliveries SET lease = 'x', due_at = {due} RETURNING 1")
        for output in (shop.run("list", "--event", "one").out, traced(shop)):
            assert re.search(f"[; ,]{reported}(; |$)", output, re.MULTILINE), output
    (entry,) = [each for each in shop.lines("list", "--event", "one") if "event_id" in each]
    assert entry["in_flight"] is True


def test_a_removed_target_gets_nothing(shop: Shop, tmp_path: Path) -> None:
    """Its dead letters can be replayed, for it may come back; a note says that nothing is sent."""
    shop.add("one", dead("ledger"), dead("gone"))
    config = tmp_path / "routes.yaml"
    config.write_text("targets: {ledger: {}}")
    replayed = shop.run("replay", "--match", "*", "--config", str(config))
    assert replayed.lines[-1] == "2 deliveries replayed"
    reported = f"ebaas-router: {config} has no target 'gone': nothing is sent to it"
    assert replayed.err.splitlines() == [reported]


def test_each_verb_has_a_help_of_its_own() -> None:
    """With its arguments and examples, and nothing of the others."""
    listed, replay = (ran("deliveries", verb, "--help").out for verb in ("list", "replay"))
    assert "usage: ebaas-router deliveries list" in listed
    assert "--limit" in listed
    for other in ("--yes", "deliveries discard", "deliveries replay"):
        assert other not in listed
    assert "--dry-run" in replay
    assert "--limit" not in replay
    assert "restore" not in replay


# Refusals.


def refused(path: Path | str) -> str:
    """Return the one line that says why a store can't be used; it names the store as given."""
    line = complaint(ran("deliveries", "list", "--store", path), 3)
    assert str(path) in line
    return line


def test_no_store_has_no_deliveries() -> None:
    assert "--store none" in refused("none")


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """A mistyped name must not look like a store where all is well."""
    assert "there is no such file" in refused(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []


# Beside a running router, and with faults.


def test_a_running_router_sends_what_was_replayed(shop: Shop, tmp_path: Path) -> None:
    """Byte for byte, each once and under its own id; then it is acknowledged."""
    bodies = {f"event-{n}": f'{{"n": {n}}}' for n in range(40)}
    for event_id, body in bodies.items():
        shop.add(event_id, body=body.encode())
    with receiver("--format", "json") as ledger:
        routes = tmp_path / "routes.yaml"
        target = {"url": f"{ledger.url}/callback"}
        route = {"name": "all", "match": "*", "required": ["ledger"]}
        routes.write_text(
            json.dumps({"version": 1, "targets": {"ledger": target}, "routes": [route]})
        )
        own, asking = with_door(tmp_path)
        options = ("--config", str(routes), "--store", shop.option, "--port", "0", *own)
        with running("serve", *options) as router:
            router.wait_for(lambda: any("serving" in line for line in router.stdout))
            assert ran("deliveries", "replay", "--match", "*", "--yes", *asking).code == 0
            wait_until(lambda: shop.count(State.ACKNOWLEDGED) == 40)
            assert router.interrupt() == 0
        came = [json.loads(line) for line in ledger.stdout]
    assert sorted(one["headers"]["webhook-id"] for one in came) == sorted(bodies)
    assert all(one["body"] == bodies[one["headers"]["webhook-id"]] for one in came)


@pytest.mark.anyio
async def test_the_queue_knows_what_a_person_has_queued(file: SqliteShop, tmp_path: Path) -> None:
    """A replay's attempts say their cause, all of them; the router's own retries have none."""
    file.add("own", DeliveryRow("one", State.QUEUED))
    file.add("replayed", dead("one"))
    process(*replay_all(file))
    async with opened(tmp_path, "one") as scene:
        scene.answers["one"] = NO
        for count in (2, 4):
            scene.time = time.time() + 1000 * count
            await scene.until(count)
        causes = [(retry.due.event_id, retry.due.replayed) for retry in scene.retries]
    assert sorted(causes) == [("own", False)] * 2 + [("replayed", True)] * 2


def test_many_are_done_in_steps_with_exact_counts(shop: Shop) -> None:
    """Some thousands here, a million in the long form; what is left is nothing."""
    many = MANY or shop.many
    shop.add_many(many)
    result = json.loads(process(*replay_all(shop), "--format", "json").stdout)
    assert (result["selected"], result["deliveries"]) == (many, many)
    assert (shop.count(State.QUEUED), shop.count(State.DEAD)) == (many, 0)
    (counted,) = [line["deliveries"] for line in shop.lines("list") if line["kind"] == "action"]
    assert counted == many
    listing = ("deliveries", "list", "--state", "queued", "--format", "json")
    listed = process(*listing, "--store", shop.option).stdout
    assert listed.count(b'"kind": "delivery"') == many


def test_a_killed_replay_is_counted(shop: Shop) -> None:
    """Its changes stay and are counted; run again, it does the rest."""
    shop.add_many(shop.many)
    with running(*replay_all(shop)) as killed:
        wait_until(lambda: shop.count(State.QUEUED) > 0)
        killed.process.send_signal(signal.SIGKILL)
        killed.wait()
    wait_until(shop.is_alone)
    done = shop.count(State.QUEUED)
    assert [row[3] for row in shop.actions()] == [done]
    assert shop.run("replay", "--match", "*", "--yes").code == 0
    assert shop.count(State.QUEUED) == shop.many


def test_ctrl_c_stops_between_two_steps(shop: Shop) -> None:
    """At once, with a line that says how far it got."""
    shop.add_many(shop.many)
    with running(*replay_all(shop)) as replaying:
        wait_until(lambda: shop.count(State.QUEUED) > 0)
        with shop.locked():
            if shop.count(State.QUEUED) == shop.many:
                return
            replaying.process.send_signal(signal.SIGINT)
            replaying.wait_for(lambda: any("stopped: " in line for line in replaying.stderr))
        assert replaying.wait() == 130
    wait_until(shop.is_alone)
    assert shop.count(State.QUEUED) < shop.many
    assert [row[3] for row in shop.actions()] == [shop.count(State.QUEUED)]


def test_a_store_that_stays_locked_is_one_line(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a wait; nothing is changed."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.2)
    shop.add("one")
    with shop.locked():
        finished = shop.run("replay", "--event", "one")
    assert finished.code == 1
    assert "the store failed: locked" in finished.err
    assert shop.count(State.DEAD) == 1


@pytest.mark.postgresql
def test_a_store_that_does_not_answer_is_noted(tables: PostgresShop) -> None:
    """Somebody has locked its tables. The command goes on as soon as they are free."""
    tables.clear()
    tables.add("one")
    with ExitStack() as stack:
        with tables.unreadable():
            listing = stack.enter_context(running("deliveries", "list", "--store", tables.option))
            listing.wait_for(lambda: listing.stderr)
        assert (listing.wait(), len(listing.stdout)) == (0, 2)
        assert listing.stderr[0] == "ebaas-router: the store has not answered for 2 s"


def replay_all(shop: Shop) -> list[str]:
    return ["deliveries", "replay", "--match", "*", "--store", shop.option, "--yes"]


def process(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
    """A whole run of its own, which gets the more time the more rows there are."""
    return subprocess.run(
        command(*arguments),
        stdin=stdin,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
        timeout=PATIENCE + MANY / 1000,
        check=False,
    )
