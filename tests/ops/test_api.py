"""The console's API as a real router serves it."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from router.ops.api.application import ENDPOINTS
from router.ops.api.view import MAX_PREVIEWS, Previews
from router.ops.problems import Rejected
from tests.support.archived import event_line, keep
from tests.support.command import PATIENCE
from tests.support.console import HOLDERS, Console, bearer, console
from tests.support.house import event
from tests.support.postgres import Server
from tests.support.serving import always
from tests.support.waiting import wait_until


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
)
def router(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """One for all of these tests: each uses its own keys or deliveries."""
    folder = tmp_path_factory.mktemp("router")
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        kept = ("--archive", str(folder / "archive"))
        with server.database() as database, console(folder, *kept, store=database) as started:
            yield started
        return
    with console(folder) as started:
        yield started


def event_of(router: Console, key: str, name: str) -> str:
    """Wait until a search finds an event, and return its id."""

    def find() -> list[str]:
        events = router.get("/events", what=name)["events"]
        return [each["event_id"] for each in events if each["event_key"] == key]

    wait_until(find)
    return find()[-1]


# Who may.


def test_a_token_shows_its_permissions(router: Console) -> None:
    """With its name and its owner."""
    you = router.get("/you", who="ledger")
    assert (you["name"], you["owner"], you["tokens"]) == ("ledger", "team ledger", True)
    assert you["may"] == ["read", "replay", "discard", "pause"]


def test_a_request_without_a_token_is_refused(router: Console) -> None:
    """As a problem document. The page's files have no data, and need no token."""
    answer = router.ask("GET", "/targets", who="")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Unauthorized"


# What is wrong with a request.

JSON = {"content-type": "application/json"}

#: Nested too deeply.
DEEP: dict[str, Any] = reduce(lambda inner, _: {"a": inner}, range(100), {})

LONG = "a" * 1025
INVISIBLE = "is not a text of 1 to 1024 visible characters"
REPLAY = "POST /deliveries/replay"


@pytest.mark.parametrize(
    ("request_line", "options", "status", "detail"),
    [
        ("GET /nothing", {}, 404, "no such endpoint"),
        ("POST /targets", {}, 405, "does not have this method"),
        ("GET /targets?x=1", {}, 400, "no parameter is named 'x'"),
        ("GET /deliveries?state=gone", {}, 400, "state: is none of acknowledged, awaiting"),
        ("GET /deliveries?limit=0", {}, 400, "limit: is not a whole number from 1 to 500"),
        ("GET /deliveries?limit=0000000019999", {}, 400, "limit: is not a whole number"),
        ("GET /deliveries?limit=1&limit=2", {}, 400, "limit: is given twice"),
        ("GET /deliveries?older_than=1", {}, 400, "older_than: is not a time span like"),
        ("GET /deliveries?match=[", {}, 400, "match: "),
        ("GET /deliveries?after=x~y", {}, 410, "begin anew"),
        ("GET /events?since=yesterday", {}, 400, "since: is neither"),
        ("GET /events?what=", {}, 400, "what: is not a text of"),
        ("GET /events?" + "what=a&" * 330, {}, 400, "what: is not a list of at most 64"),
        ("GET /events/%00", {}, 400, f"id: {INVISIBLE}"),
        ("POST /targets/%00/resume", {"json": {}}, 400, f"name: {INVISIBLE}"),
        ("POST /explain", {"content": b"{}"}, 415, "application/json"),
        ("POST /explain", {"json": []}, 400, "the body: it is not an object"),
        ("POST /explain", {"json": {}}, 400, "key or event"),
        ("POST /explain", {"json": {"key": 1}}, 400, "key: is not a text"),
        ("POST /explain", {"json": {"key": LONG}}, 400, "key: is not a text of 1 to 1024"),
        (
            "POST /explain",
            {"json": {"event": {"event_topic": LONG}}},
            400,
            "event: is not an object, or has",
        ),
        ("POST /explain", {"json": {"kee": "a"}}, 400, "no parameter is named 'kee'; known: key"),
        ("POST /explain", {"json": {"event": DEEP}}, 400, "nested more than 64 deep"),
        (
            "POST /explain",
            {"content": b"[" * 2**19, "headers": JSON},
            400,
            "nested more than 64 deep",
        ),
        ("POST /explain", {"content": b" " * 2**21, "headers": JSON}, 413, "1024 KiB"),
        (REPLAY, {"json": {"target": ["x"]}}, 400, "a preview first"),
        (REPLAY, {"json": {"dry_run": True}}, 400, "deliveries to replay"),
        (REPLAY, {"json": {"event": "e", "dry_run": True}}, 400, "event: is not a list of at most"),
        (REPLAY, {"json": {"event": ["e"] * 65}}, 400, "event: is not a list of at most 64"),
        (REPLAY, {"json": {"dry_run": 1}}, 400, "dry_run: is neither true nor false"),
        (REPLAY, {"json": {"token": "x"}}, 409, "preview again"),
        (REPLAY, {"json": {"token": "x", "event": ["e"]}}, 400, "no other member"),
        (REPLAY, {"json": {"state": ["queued"], "dry_run": True}}, 400, "is retried anyway"),
    ],
)
def test_a_bad_request_gets_a_problem_document(
    router: Console, request_line: str, options: dict[str, Any], status: int, detail: str
) -> None:
    """As in RFC 9457, with the parameter or member that is at fault."""
    answer = router.ask(*request_line.split(), **options)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert detail in problem["detail"]
    assert problem["type"] == "about:blank"
    assert answer.headers.get("allow") == ("GET" if status == 405 else None)


# What is read.


def test_a_failing_target_is_shown_with_its_own_words(router: Console) -> None:
    """Its state, last failure, attempts of the hour and routes; the most urgent target first."""
    router.targets["billing"].code = always("700")
    router.send("p.x.fails.1", "billing-fails")
    wait_until(lambda: router.get("/targets/billing")["state"] == "failing")
    router.targets["billing"].code = always("000")
    billing = router.get("/targets/billing")
    assert billing["last_failure"]["code"] == "700"
    assert billing["hour"]["failed"] >= 1
    assert sum(billing["minutes"]["failed"]) == billing["hour"]["failed"]
    assert [(each["name"], each["as"]) for each in billing["routes"]] == [
        ("what p has", "optional")
    ]
    assert billing["optional_by"] == ["what p has"]
    assert billing["url"].startswith("http://127.0.0.1:")
    names = [each["name"] for each in router.get("/targets")["targets"]]
    assert names[0] == "billing"
    assert set(names) == {"ledger", "auditors", "billing"}


def test_the_hour_counts_events(router: Console) -> None:
    """In sixty minutes, of which the last is not over."""
    before = sum(router.get("/minutes")["events"])
    assert router.send("p.x.hour.1", "hour") == "000"
    wait_until(lambda: sum(router.get("/minutes")["events"]) == before + 1)
    assert len(router.get("/minutes")["events"]) == 60


def test_the_routes_in_force(router: Console) -> None:
    """Each with its name and targets."""
    shown = router.get("/routes")
    own = [f"what {letter} has" for letter in "lubp"]
    assert [each["name"] for each in shown["routes"]] == [*own, "the auditors' own"]
    assert shown["routes"][2]["optional"] == ["ledger", "auditors"]
    assert shown["hash"] == router.get("/status")["configuration"]["hash"]


def test_a_reload_is_shown_with_its_changes(router: Console) -> None:
    """A refused one with its problems; the newest first. A team sees none."""
    before = router.config.read_text()
    changed = json.loads(before)
    changed["targets"]["auditors"]["timeout"] = "6s"
    for number, content in enumerate(("{}", json.dumps(changed, indent=1), before), 1):
        router.config.write_text(content)
        router.router.process.send_signal(signal.SIGHUP)
        wait_until(lambda count=number: len(router.get("/routes")["reloads"]) == count)  # type: ignore[misc]
    _, taken, refused = router.get("/routes")["reloads"]
    assert (taken["result"], taken["problems"]) == ("taken", [])
    assert taken["changes"] == ["target 'auditors' changed: timeout 5s → 6s"]
    assert (refused["result"], refused["hash"], refused["changes"]) == ("refused", None, [])
    assert refused["problems"][0].endswith("routes.yaml:1:1: the key 'routes' is missing")
    assert router.get("/routes", who="ledger")["reloads"] == []


def test_an_event_is_explained(router: Console) -> None:
    """As by the command; an invalid event with the reply that EBaaS would get."""
    explained = router.post("/explain", {"key": "b.x.y.1"})
    assert explained["plan"]["optional"] == ["auditors", "ledger"]
    assert "code" in router.post("/explain", {"event": {"event_key": 1}})["refused"]


def test_the_nodes_are_listed(router: Console) -> None:
    """All nodes that share the store, or this router alone."""
    nodes = router.get("/nodes")
    kind = router.get("/status")["store"]["kind"]
    assert nodes["shared"] is (kind == "postgresql")
    assert [each["pid"] for each in nodes["nodes"]] == [router.get("/status")["process"]["pid"]]


def test_an_event_is_found_and_shown_whole(router: Console) -> None:
    """By an id in its changes; then with each request and attempt, and its body."""
    router.send("l.x.found.1", "to-be-found")
    name = event_of(router, "l.x.found.1", "to-be-found")
    story = router.get(f"/events/{name}", body="true")
    assert json.loads(story["body"])["changes"] == ["to-be-found"]
    assert story["steps"][0]["targets"][0]["reason"] == "acknowledged"
    assert "body" not in router.get(f"/events/{name}")
    assert router.ask("GET", "/events/no-such-event").status_code == 404


def test_the_pages_of_a_list_have_each_delivery_once(router: Console) -> None:
    """Even if more arrive meanwhile; only the first page has the counts."""
    router.targets["auditors"].code = always("700")
    for number in range(5):
        router.send("u.x.pages.1", f"page-{number}")
    router.wait_for("dead", 5, "auditors", "u.x.pages.1")
    found: list[str] = []
    after = None
    while True:
        more: dict[str, str] = {} if after is None else {"after": after}
        page = router.get("/deliveries", match="u.x.pages.*", state="dead", limit=2, **more)
        assert bool(page["counts"]) == (after is None)
        found += [each["event_id"] for each in page["deliveries"]]
        if (after := page["next"]) is None:
            break
        router.send("u.x.pages.1", f"meanwhile-{after}")
    router.targets["auditors"].code = always("000")
    assert len(found[:5]) == len({*found[:5]}) == 5
    assert len(found) == len({*found})


def test_dead_letters_are_grouped(router: Console) -> None:
    """By target and reason, with the receiver's words; a team sees the groups of its own targets.
    The list has the last recorded one first, unless another order is asked for."""
    names = [f"grouped-{number}" for number in range(3)]
    router.targets["ledger"].code = router.targets["auditors"].code = always("731")
    for name in names:
        router.send("b.x.grouped.1", name)
    router.wait_for("dead", 3, "ledger", "b.x.grouped.1")
    router.wait_for("dead", 3, "auditors", "b.x.grouped.1")
    router.targets["ledger"].code = router.targets["auditors"].code = always("000")
    needed: dict[str, Any] = {"match": "b.x.grouped.1", "reason": ["code", "dns"]}
    listed = router.get("/deliveries", **needed)
    groups = {each["target"]: each for each in listed["groups"]}
    assert {*groups} == {"ledger", "auditors"}
    (own,) = router.get("/deliveries", "ledger", **needed)["groups"]
    assert own == groups["ledger"]
    assert [own[name] for name in ("state", "reason", "deliveries")] == ["dead", "code", 3]
    order = [each["event_id"] for each in listed["deliveries"] if each["target"] == "ledger"]
    assert own["example"] == {
        "event_id": order[0], "event_key": "b.x.grouped.1", "said": "731"
    }  # fmt: skip
    for sort, expected in (("oldest", [*reversed(order)]), ("target", order)):
        found = router.get("/deliveries", "ledger", **needed, sort=sort)["deliveries"]
        assert [each["event_id"] for each in found] == expected
    assert router.get("/deliveries", match="b.x.grouped.1", reason="dns")["groups"] == []
    preview = {"match": ["b.x.grouped.1"], "reason": ["code"], "dry_run": True}
    assert router.post("/deliveries/replay", preview, "ledger")["groups"] == [own]


def test_the_outcome_of_a_replay_is_counted(router: Console) -> None:
    """As it comes; a team sees the deliveries to its own targets. No other action counts."""
    router.targets["ledger"].code = always("700")
    for number in range(3):
        router.send("l.x.outcome.1", f"outcome-{number}")
    router.wait_for("dead", 3, "ledger", "l.x.outcome.1")
    released = Event()

    def some(name: str, _: str) -> str:
        released.wait(PATIENCE)
        return "700" if name == "outcome-1" else "000"

    router.targets["ledger"].code = some
    done = act(router, "replay", {"match": ["l.x.outcome.*"]}, who="ledger")
    name = done["action"]["action_id"]

    def outcome(who: str = "ledger", *others: str) -> Any:
        return router.get("/deliveries/outcome", who, action=[name, *others])

    assert outcome() == {"acknowledged": 0, "failed": 0, "left": 3}
    released.set()
    wait_until(lambda: outcome() == {"acknowledged": 2, "failed": 1, "left": 0})
    router.wait_for("dead", 1, "ledger", "l.x.outcome.1")
    router.targets["ledger"].code = always("000")
    assert outcome("ops", "another") == outcome()
    nothing = {"acknowledged": 0, "failed": 0, "left": 0}
    assert outcome("audit") == router.get("/deliveries/outcome", action="another") == nothing
    again = act(router, "replay", {"match": ["l.x.outcome.*"]})
    assert (again["changed"], outcome()["failed"]) == (1, 0)
    both = outcome("ops", again["action"]["action_id"])
    assert sum(both.values()) == 3


def test_a_cursor_shows_a_team_nothing(router: Console) -> None:
    """An event of another team's target looks like one that does not exist."""
    router.targets["auditors"].code = always("700")
    router.send("u.x.place.1", "place-1")
    router.wait_for("dead", 1, "auditors", "u.x.place.1")
    router.targets["auditors"].code = always("000")
    others = the_id(router, "u.x.place.1")
    for name in (others, "nobody-has-it"):
        answer = router.ask("GET", "/deliveries", "ledger", params={"after": f"{name}~ledger"})
        assert answer.status_code == 410, name


def test_a_search_goes_by_what_a_team_may_see(router: Console) -> None:
    """Answers of other targets to the same events do not count, not even for `more`."""
    router.targets["auditors"].code = always("731")
    for number in range(2):
        router.send("b.x.more.1", f"more-{number}")
    router.wait_for("dead", 2, "auditors", "b.x.more.1")
    router.targets["auditors"].code = always("000")
    question: dict[str, Any] = {"what": "b.x.more.1", "limit": 1}
    wait_until(lambda: router.get("/events", **question)["more"])
    assert router.get("/events", "ledger", **question)["more"]
    for filters in ({"code": "731"}, {"failed": "true"}):
        assert router.get("/events", **question, **filters)["more"]
        found = router.get("/events", "ledger", **question, **filters)
        assert (found["events"], found["more"]) == ([], False), filters


# What is changed.


def test_a_preview_is_acted_on_and_no_more(router: Console) -> None:
    """Deliveries that changed since stay as they are, and are counted. The action is recorded, and
    can be undone."""
    router.targets["ledger"].code = always("700")
    for number in range(3):
        router.send("l.x.act.1", f"act-{number}")
    router.wait_for("dead", 3, "ledger", "l.x.act.1")
    needed = {"target": ["ledger"], "match": ["l.x.act.*"], "dry_run": True}
    preview = router.post("/deliveries/discard", needed)
    assert (preview["verb"], preview["number"]) == ("discard", 3)
    # One of them is replayed meanwhile and dies again, another comes.
    name = event_of(router, "l.x.act.1", "act-1")
    act(router, "replay", {"event": [name]})
    router.send("l.x.act.1", "act-new")
    router.wait_for("dead", 4, "ledger", "l.x.act.1")
    done = router.post("/deliveries/discard", {"token": preview["token"]})
    router.targets["ledger"].code = always("000")
    assert (done["changed"], done["left"], done["more"]) == (2, 1, False)
    assert (done["action"]["who"], done["action"]["deliveries"]) == ("ops", 2)
    assert done["action"]["what"] == "--target ledger --match 'l.x.act.*'"
    assert router.post("/deliveries/discard", {"token": preview["token"]})["changed"] == 0
    actions = router.get("/deliveries/actions")["actions"]
    assert [each["verb"] for each in actions[:2]] == ["discard", "replay"]
    assert act(router, "restore", needed)["changed"] == 2


def test_a_team_finds_its_action_among_many_of_others(router: Console) -> None:
    """The limit of the list counts only actions that the team may see."""
    router.targets["ledger"].code = always("700")
    router.send("l.x.own.1", "own-1")
    router.wait_for("dead", 1, "ledger", "l.x.own.1")
    router.targets["ledger"].code = always("000")
    needed = {"match": ["l.x.own.*"]}
    done = act(router, "discard", needed, who="ledger")["action"]
    for _ in range(10):
        assert act(router, "restore", needed)["changed"] == 1
        assert act(router, "discard", needed)["changed"] == 1
    assert done not in router.get("/deliveries/actions")["actions"]
    assert done in router.get("/deliveries/actions", who="ledger")["actions"]


@pytest.mark.parametrize(
    ("path", "who", "more", "why"),
    [
        # They have the permission and see all previewed deliveries: only the maker differs.
        ("/deliveries/replay", "ops", "", "another preview"),
        ("/deliveries/replay", "only-replay", "", "another preview"),
        ("/deliveries/discard", "ledger", "", "another preview"),
        ("/deliveries/replay", "ledger", "x", "no longer kept"),
    ],
)
def test_a_preview_is_its_makers_alone(
    router: Console, path: str, who: str, more: str, why: str
) -> None:
    """And belongs to one verb."""
    needed = {"match": ["l.*"], "dry_run": True}
    token = router.post("/deliveries/replay", needed, who="ledger")["token"]
    answer = router.ask("POST", path, who, json={"token": f"{token}{more}"})
    assert (answer.status_code, why in answer.text) == (409, True)


def test_the_last_previews_are_kept() -> None:
    """Each holder has room for some, however many others make."""
    previews = Previews()
    other = previews.put("ledger", "another")
    tokens = [previews.put("ops", str(number)) for number in range(MAX_PREVIEWS + 1)]
    with pytest.raises(Rejected):
        previews.get("ops", tokens[0], str)
    kept = [previews.get("ops", token, str) for token in tokens[1:]]
    assert kept == [str(number) for number in range(1, MAX_PREVIEWS + 1)]
    assert previews.get("ledger", other, str) == "another"


@pytest.mark.parametrize(("who", "target"), [("ops", "no-such"), ("ledger", "audit")])
def test_a_preview_of_nothing_does_nothing(router: Console, who: str, target: str) -> None:
    """Also if all of it is another team's, which the answer does not show."""
    needed = {"target": [target], "dry_run": True}
    preview = router.ask("POST", "/deliveries/replay", who, json=needed).json()
    assert (preview["number"], preview["counts"]) == (0, [])
    done = router.ask("POST", "/deliveries/replay", who, json={"token": preview["token"]})
    assert done.status_code == 200, done.text
    assert (done.json()["changed"], done.json()["left"], done.json()["more"]) == (0, 0, False)


def test_a_target_is_paused_and_goes_on(router: Console) -> None:
    """With a reason, an end and the holder; its deliveries wait meanwhile."""
    paused = router.post("/targets/billing/pause", {"until": "10m", "because": "a move"})["paused"]
    assert (paused["by"], paused["because"], paused["who"]) == ("person", "a move", "ops")
    each = len(router.get("/nodes")["nodes"])
    router.router.wait_for(lambda: len(router.router.lines("target_paused")) == each)
    billing = router.get("/targets/billing")
    assert (billing["paused"], billing["state"]) == (paused, "paused")
    router.send("p.x.paused.1", "paused")
    router.wait_for("queued", 1, "billing", "p.x.paused.1")
    explained = router.post("/explain", {"key": "p.x.paused.1"})["targets"]
    assert [each["paused"] for each in explained if each["name"] == "billing"] == [True]
    (kept,) = router.get("/pauses")["pauses"]
    assert (kept["target"], kept["who"], kept["until"]) == ("billing", "ops", paused["until"])
    ended = router.post("/targets/billing/resume", {})
    assert (ended["paused"], ended["pause"]["resumed_by"]) == (None, "ops")
    assert router.post("/targets/billing/resume", {}) == {"paused": None, "pause": None}
    wait_until(lambda: router.get("/targets/billing")["paused"] is None)
    router.wait_for("queued", 0, "billing", "p.x.paused.1")
    wrong = {"until": "40d", "because": "x"}
    assert router.ask("POST", "/targets/billing/pause", json=wrong).status_code == 400
    for verb, body in (("pause", {"until": "1m", "because": "x"}), ("resume", {})):
        answer = router.ask("POST", f"/targets/billing/{verb}", "ledger", json=body)
        assert answer.status_code == 404


# A team's part: other targets do not exist for it.

#: Queries and bodies to try at each endpoint; an endpoint that is missing is tried without.
TRIED: dict[str, list[dict[str, Any]]] = {
    "/targets/{name}": [{"name": "auditors"}, {"name": "ledger"}, {"name": "billing"}],
    "/events": [{}, {"target": "auditors"}, {"what": ["u.*", "secret-both"]}, {"code": "700"}],
    "/events/{id}": [{"id": "OTHERS"}, {"id": "BOTH"}],
    "/deliveries": [{}, {"target": "auditors"}, {"state": "dead", "match": "*"},
                    {"state": "superseded"},
                    {"after": "OTHERS~auditors"}, {"after": "BOTH~auditors"},
                    {"reason": "discarded", "state": "superseded", "sort": "target"}],
    "/deliveries/outcome": [{"action": "ACTION"}],
    "/explain": [{"key": "u.x.y.1"}, {"key": "b.x.y.1"}],
    "/targets/{name}/pause": [{"name": "auditors", "until": "10m", "because": "x"}],
    "/targets/{name}/resume": [{"name": "auditors"}],
    "/deliveries/replay": [{"dry_run": True, "match": ["*"]},
                           {"dry_run": True, "target": ["auditors"]},
                           {"dry_run": True, "event": ["OTHERS", "BOTH"]}],
    "/deliveries/discard": [{"dry_run": True, "match": ["*"]}],
    "/deliveries/restore": [{"dry_run": True, "match": ["*"]}],
}  # fmt: skip

#: What must not be in any answer to the ledger's team.
OTHERS = (
    "the auditors' own",
    "auditors",
    "billing",
    "team audit",
    "what u has",
    "what p has",
    "u.x.secret",
    "secret-own",
)


def test_a_team_never_sees_another_teams_data(router: Console) -> None:
    """No answer of any endpoint has a name, key or count of another team's target, or changes with
    the events of others."""
    for name in ("auditors", "ledger"):
        router.targets[name].code = always("700")
    router.send("u.x.secret.1", "secret-own")
    router.send("b.x.both.1", "secret-both")
    router.wait_for("dead", 2, "auditors", "*.secret.1", "b.x.both.1")
    router.wait_for("dead", 1, "ledger", "b.x.both.1")
    router.targets["ledger"].code = always("000")
    both = {"target": ["auditors", "ledger"], "event": [the_id(router, "b.x.both.1")]}
    settle(router, "ledger")
    theirs = act(router, "discard", both)["action"]
    settle(router, "ledger")
    ids = {"OTHERS": the_id(router, "u.x.secret.1"), "BOTH": the_id(router, "b.x.both.1")}
    ids["ACTION"] = theirs["action_id"]
    before = answers_to_a_team(router, ids, searches=False)
    for number in range(3):
        router.send("u.x.secret.2", f"secret-own-{number}")
        router.send("p.x.secret.2", f"secret-own-billing-{number}")
    router.wait_for("dead", 3, "auditors", "u.x.secret.2")
    act(router, "discard", {"match": ["u.x.secret.2"]})
    after = answers_to_a_team(router, ids, searches=True)
    router.targets["auditors"].code = always("000")
    assert {request: after[request] for request in before} == before
    for request, answer in after.items():
        others = answer.replace('"what": "--target auditors"', "")  # the team's own words
        for word in OTHERS:
            assert word not in others, (request, answer)


def test_a_refused_callback_is_no_teams(router: Console) -> None:
    """A callback that matches no route is nobody's: no team finds it, lists it or replays it."""
    assert router.send("z.x.nobodys.1", "nobodys-1") == "500"
    wait_until(lambda: router.get("/refused")["faults"])
    (found,) = router.get("/events", what="nobodys-1")["events"]
    assert found["what"] == "unmatched"
    assert router.get("/events", "ledger", what="nobodys-1")["events"] == []
    replay = router.ask("POST", "/refused/replay", "ledger", json={"dry_run": True})
    for answer in (router.ask("GET", "/refused", "ledger"), replay):
        assert answer.json()["code"] == "not_for_teams"
    preview = router.post("/refused/replay", {"dry_run": True})
    token = {"token": preview["token"]}
    assert router.ask("POST", "/refused/replay", "only-replay", json=token).status_code == 409
    assert router.ask("POST", "/refused/replay", json={}).json()["code"] == "preview_first"


def test_a_search_says_which_id_it_found(router: Console) -> None:
    """The archive and the store agree. A search for no id matches by nothing."""
    router.targets["ledger"].code = always("700")
    try:
        router.send("l.x.matched.1", "matched-1")
        router.wait_for("dead", 1, "ledger", "l.x.matched.1")
    finally:
        router.targets["ledger"].code = always("000")
    story = router.get(f"/events/{event_of(router, 'l.x.matched.1', 'matched-1')}")
    ids = {"changes": "matched-1", "event_key": "l.x.matched.*"}
    ids |= {name: story[name] for name in ("event_id", "request_id", "sha256")}
    for name, text in ids.items():
        found = router.get("/events", what=text)["events"]
        assert {each["matched_by"] for each in found} == {name}, text
    assert {each["matched_by"] for each in router.get("/events", since="1h")["events"]} == {""}


def test_one_event_is_replayed(router: Console) -> None:
    """By its id, to one of its targets: others of the same key are left alone."""
    for name in ("again-1", "again-2"):
        router.send("b.x.again.1", name)
    event_id = event_of(router, "b.x.again.1", "again-1")
    auditors, ledger = (router.targets[name] for name in ("auditors", "ledger"))
    wait_until(lambda: all(len(each.of("again-1")) == 1 for each in (auditors, ledger)))
    selection = {"target": "ledger", "event": event_id, "dry_run": True}
    preview: Any = {}

    def is_archived() -> bool:
        preview.update(router.post("/archive/replay", selection))
        return bool(preview["number"])

    wait_until(is_archived)
    assert preview["number"] == 1
    step = router.post("/archive/replay", {"token": preview["token"]})
    assert (step["taken"], step["changed"]) == (1, 1)
    wait_until(lambda: len(ledger.of("again-1")) == 2)
    done, action = {"acknowledged": 1, "failed": 0, "left": 0}, preview["action"]["action_id"]
    wait_until(lambda: router.get("/deliveries/outcome", action=action) == done)
    assert (len(auditors.of("again-1")), len(ledger.of("again-2"))) == (1, 1)


def settle(router: Console, target: str) -> None:
    """Wait until a target's numbers, which are counted now and then, match its deliveries."""
    counts = router.get("/deliveries", target=target)["counts"]
    found = {"awaiting": 0, "queued": 0, "dead": 0}
    found |= {each["state"]: each["deliveries"] for each in counts}
    wait_until(lambda: router.get(f"/targets/{target}")["unsettled"] == found)


def the_id(router: Console, key: str) -> str:
    """Return the id of the only event of this key in the store."""
    found = router.get("/deliveries", match=key, state=["dead", "superseded"])["deliveries"]
    (event_id,) = {each["event_id"] for each in found}
    return str(event_id)


def test_a_full_share_leaves_no_event_out_of_a_replay(tmp_path: Path) -> None:
    """A step that meets a full share takes only some events, and the next steps take the rest."""
    names = [f"event-{number}" for number in range(40)]
    # A quarter of the store has room for some twenty of them.
    bodies = [event(changes=[name, "x" * 11_000]) for name in names]
    lines = [
        event_line(n, 90 - at / 10, b) for at, (n, b) in enumerate(zip(names, bodies, strict=True))
    ]
    keep(tmp_path / "store.db-archive", *lines)
    released = Event()

    def once_released(*_: str) -> str:
        released.wait(PATIENCE)
        return "000"

    with console(tmp_path, "--store-max-bytes", "1MiB") as router:
        ledger = router.targets["ledger"]
        ledger.code = once_released
        asked = {"target": "ledger", "since": "1h", "dry_run": True}
        step = {"token": router.post("/archive/replay", asked)["token"]}
        done = [router.post("/archive/replay", step)]
        assert done[0]["is_full"]
        released.set()

        def is_done() -> bool:
            done.append(router.post("/archive/replay", step))
            return not done[-1]["more"]

        wait_until(is_done)
        assert sum(each["taken"] for each in done) == 40
        wait_until(lambda: len(ledger.got) >= 40)
    assert Counter(got.webhook_id for got in ledger.got) == Counter(names)


def act(router: Console, verb: str, selection: dict[str, Any], who: str = "ops") -> Any:
    """Preview an action, then carry it out."""
    preview = router.post(f"/deliveries/{verb}", {**selection, "dry_run": True}, who)
    return router.post(f"/deliveries/{verb}", {"token": preview["token"]}, who)


def answers_to_a_team(router: Console, ids: dict[str, str], *, searches: bool) -> dict[str, str]:
    """Return the answer of each endpoint to the ledger's team, without what changes with time. A
    search is slow: it takes a process of its own."""
    answers = {}
    for endpoint in ENDPOINTS:
        if endpoint.path == "/stream":
            continue  # endless: see tests/ops/test_streams.py
        if endpoint.path.startswith("/events") and not searches:
            continue
        for tried in TRIED.get(endpoint.path, [{}]):
            given = json.loads(_named(json.dumps(tried), ids))
            path = endpoint.path
            for name in endpoint.names:
                path = path.replace(f"{{{name}}}", given.pop(name))
            body = {"json": given} if endpoint.method == "POST" else {"params": given}
            answer = router.ask(endpoint.method, path, "ledger", **body)
            assert answer.status_code < 500, answer.text
            answers[f"{endpoint.method} {path} {given}"] = _timeless(answer)
    return answers


def _named(text: str, ids: dict[str, str]) -> str:
    for name, each in ids.items():
        text = text.replace(name, each)
    return text


#: Members that change with time.
_TIMELY = ("at", "token", "action_id", "back_to")


def _timeless(answer: httpx.Response) -> str:
    def without(value: object) -> object:
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if k not in _TIMELY}
            return {name: without(each) for name, each in kept.items()}
        if isinstance(value, list) and len(value) == 60:
            return [each for each in value if each]  # an hour by the minute, which goes on
        return [without(each) for each in value] if isinstance(value, list) else value

    return f"{answer.status_code} {json.dumps(without(answer.json()))}"


EVERY_PERMISSION = {"read", "replay", "discard", "pause", "bodies"}

#: Permissions by endpoint: any one of them opens it. A new endpoint needs a line here.
OPENED_BY: dict[str, set[str]] = {
    "GET /you": EVERY_PERMISSION,
    "GET /openapi.json": EVERY_PERMISSION,
    "GET /status": {"read"},
    "GET /minutes": {"read"},
    "GET /targets": {"read"},
    "GET /targets/{name}": {"read"},
    "GET /pauses": {"read"},
    "POST /targets/{name}/pause": {"pause"},
    "POST /targets/{name}/resume": {"pause"},
    "GET /routes": {"read"},
    "POST /explain": {"read"},
    "GET /nodes": {"read"},
    "GET /events": {"read"},
    "GET /events/{id}": {"read"},
    "GET /archive": {"read"},
    "POST /archive/replay": {"replay"},
    "GET /deliveries": {"read"},
    "GET /deliveries/actions": {"read"},
    "GET /deliveries/outcome": {"read"},
    "POST /deliveries/replay": {"replay"},
    "POST /deliveries/retry": {"replay"},
    "POST /deliveries/discard": {"discard"},
    "POST /deliveries/restore": {"replay", "discard"},
    "GET /stream": {"read"},
    "GET /refused": {"read"},
    "POST /refused/replay": {"replay"},
}

#: The parameters with which bodies of events are asked for.
BODIES = {
    "GET /events": "body",
    "GET /events/{id}": "body",
    "GET /stream": "bodies",
}


def status_of(router: Console, endpoint: str, who: str, **params: str) -> int:
    """Return the status alone: a stream has no end. The body of a POST does nothing."""
    method, path = endpoint.split()
    url = f"{router.url}/api/v1{path.replace('{name}', 'nobody').replace('{id}', 'none')}"
    body: dict[str, Any] = {"json": {}} if method == "POST" else {"params": params}
    headers = bearer(who) if who else {}
    asked = router.http.stream(method, url, headers=headers, timeout=PATIENCE, **body)
    with asked as answer:
        return answer.status_code


def test_every_endpoint_is_opened_by_its_own_permissions_alone(router: Console) -> None:
    """A token with one permission is admitted, or gets 403 before the request is parsed. Without a
    token the reply is always 401."""
    assert {f"{each.method} {each.path}" for each in ENDPOINTS} == OPENED_BY.keys()
    for endpoint, permissions in OPENED_BY.items():
        statuses = {may: status_of(router, endpoint, f"only-{may}") for may in EVERY_PERMISSION}
        assert {may for may, status in statuses.items() if status != 403} == permissions, endpoint
        assert not {statuses[may] for may in permissions} & {401, 500}, endpoint
        assert status_of(router, endpoint, "") == 401, endpoint


def test_bodies_of_events_need_a_permission_of_their_own(router: Console) -> None:
    """At every endpoint that can show bodies; `bodies` without `read` shows nothing."""
    asking = {
        f"{each.method} {each.path}": param.name
        for each in ENDPOINTS
        for param in each.params
        if "bod" in param.name
    }
    assert asking == BODIES
    for endpoint, name in BODIES.items():
        for who, is_let_in in (("ops", True), ("only-read", False), ("only-bodies", False)):
            status = status_of(router, endpoint, who, **{name: "true"})
            assert (status != 403) == is_let_in, (endpoint, who)


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_figures_of_all_targets_need_a_token_that_sees_all(router: Console, path: str) -> None:
    """Not for a team, and not without `read`."""
    statuses = {
        who: router.http.get(router.url + path, headers=bearer(who), timeout=PATIENCE).status_code
        for who in HOLDERS
    }
    admitted = {who for who, status in statuses.items() if status == 200}
    assert admitted == {"ops", "reader", "only-read"}


def test_a_changed_tokens_file_counts(tmp_path: Path) -> None:
    """Within seconds; the stream of a token that is gone ends. (tests/process/test_watch.py has an
    unusable file.)"""
    with console(tmp_path) as router, ExitStack() as closing:
        path = tmp_path / "tokens.yaml"
        url, headers = f"{router.url}/api/v1/stream", bearer("ledger")
        opened = router.http.stream("GET", url, headers=headers, timeout=PATIENCE)
        lines = closing.enter_context(opened).iter_lines()
        assert next(lines) == "event: beat"
        tokens = json.loads(path.read_text())["tokens"]
        kept = [each for each in tokens if each["name"] != "ledger"]
        path.write_text(json.dumps({"tokens": kept}))
        assert all("ledger" not in line for line in lines)
        router.router.wait_for(lambda: router.router.lines("reread"))
        assert router.router.lines("reread")[0]["what"] == "--ops-tokens"
        assert router.ask("GET", "/stream", "ledger").status_code == 401
        assert router.get("/you", who="reader")["name"] == "reader"


def test_a_preview_of_all_is_void_for_a_team(tmp_path: Path) -> None:
    """If its maker has got an owner since."""
    with console(tmp_path) as router:
        path = tmp_path / "tokens.yaml"
        router.targets["ledger"].code = always("700")
        router.send("l.x.all.1", "all-1")
        router.wait_for("dead", 1, "ledger", "l.x.all.1")
        token = router.post("/deliveries/replay", {"match": ["*"], "dry_run": True})["token"]
        tokens = json.loads(path.read_text())["tokens"]
        tokens[0]["owner"] = "team ledger"
        path.write_text(json.dumps({"tokens": tokens}))
        router.router.wait_for(lambda: router.router.lines("reread"))
        assert router.get("/you")["owner"] == "team ledger"
        answer = router.ask("POST", "/deliveries/replay", json={"token": token})
        assert answer.status_code == 409


def test_without_tokens_only_this_machine_may_read(tmp_path: Path) -> None:
    """By its own name or address, and it may not change anything."""
    with console(tmp_path, tokens=False) as router:
        you = router.ask("GET", "/you", who="").json()
        assert (you["name"], you["may"], you["tokens"]) == (None, ["read"], False)
        own = ("localhost:1234", "[::1]:80", "127.0.0.1")
        others = ("evil.example.com", "127.0.0.1.evil.example.com:8081", "localhost.", "[::1")
        for host in (*own, *others):
            answer = router.ask("GET", "/targets", who="", headers={"host": host})
            assert answer.status_code == (200 if host in own else 403), host
            # A URL's host counts instead of the header's.
            url = {"target": f"http://{host}/api/v1/targets".encode()}
            header = {"host": "evil.example.com" if host in own else "localhost"}
            in_url = router.ask("GET", "/targets", who="", headers=header, extensions=url)
            assert in_url.status_code == answer.status_code, host
        assert "--ops-tokens" in answer.json()["detail"]
        replay = router.ask("POST", "/deliveries/replay", who="", json={"dry_run": True})
        assert replay.status_code == 403
        assert replay.json()["code"] == "no_tokens"
        assert router.http.get(router.url + "/status", headers={"host": "x"}).status_code == 200
