"""The console's API as a real router serves it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.ops.api.application import ENDPOINTS
from router.ops.api.endpoint import Endpoint, schema_of
from router.ops.api.parts import MOST_PREVIEWS, Previewed, Previews
from router.store.admin import Action, Selection, Verb
from tests.support.command import PATIENCE
from tests.support.console import HOLDERS, Console, bearer, console, token_of
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
    """One for all of these tests: each has keys or deliveries of its own."""
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
    """The id of an event, once it is told of."""
    found: list[str] = []

    def is_told() -> bool:
        events = router.get("/events", what=name)["events"]
        found.extend(each["event_id"] for each in events if each["event_key"] == key)
        return bool(found)

    wait_until(is_told)
    return found[-1]


# Who may.


def test_who_asks_is_told_what_they_may(router: Console) -> None:
    """By the token's name, its owner and its deeds."""
    you = router.get("/you", who="ledger")
    assert (you["name"], you["owner"], you["tokens"]) == ("ledger", "team ledger", True)
    assert you["may"] == ["read", "replay", "discard", "pause"]


def test_without_a_token_nothing_is_told(router: Console) -> None:
    """Nothing of the API; the page's files have no data, and need none."""
    answer = router.ask("GET", "/targets", who="")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Unauthorized"


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_everybodys_numbers_need_a_token_that_sees_all(router: Console, path: str) -> None:
    """One that may read and has no owner."""
    for who, status in (("reader", 200), ("ledger", 404), ("audit", 404)):
        assert router.http.get(router.url + path, headers=bearer(who)).status_code == status


def test_a_token_that_may_not_is_told_what_is_missing(router: Console) -> None:
    """403 with the word that `may` would need."""
    answer = router.ask("POST", "/deliveries/replay", who="reader", json={"dry_run": True})
    assert answer.status_code == 403
    assert "needs replay" in answer.json()["detail"]
    assert router.ask("GET", "/events/x", "reader", params={"body": "true"}).status_code == 403


# What is wrong with a request.


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "detail"),
    [
        ("GET", "/nothing", {}, 404, "no such endpoint"),
        ("POST", "/targets", {}, 405, "no such method"),
        ("GET", "/targets?x=1", {}, 400, "no parameter is named 'x'"),
        ("GET", "/deliveries?state=gone", {}, 400, "state: is none of acknowledged, awaiting"),
        ("GET", "/deliveries?limit=0", {}, 400, "limit: is not a whole number from 1 to 500"),
        ("GET", "/deliveries?limit=0000000019999", {}, 400, "limit: is not a whole number"),
        ("GET", "/deliveries?limit=1&limit=2", {}, 400, "limit: is given twice"),
        ("GET", "/deliveries?older_than=1", {}, 400, "older_than: is not a time span like"),
        ("GET", "/deliveries?match=[", {}, 400, "match: "),
        ("GET", "/deliveries?after=x~y", {}, 410, "begin anew"),
        ("GET", "/events?since=yesterday", {}, 400, "since: is neither"),
        ("GET", "/events?what=", {}, 400, "what: is empty"),
        ("GET", "/deliveries/%00", {}, 400, "id: has a character in it that can't be seen"),
        ("GET", "/events/%00", {}, 400, "id: has a character in it that can't be seen"),
        ("POST", "/targets/%00/resume", {"json": {}}, 400, "name: has a character in it"),
        ("POST", "/explain", {"content": b"{}"}, 415, "application/json"),
        ("POST", "/explain", {"json": []}, 400, "the body is of another type: object is meant"),
        ("POST", "/explain", {"json": {}}, 400, "key or event"),
        ("POST", "/explain", {"json": {"key": 1}}, 400, "key is of another type: string"),
        ("POST", "/explain", {"json": {"key": "a" * 1025}}, 400, "key: is longer than 1024"),
        ("POST", "/explain", {"json": {"event": {"event_topic": "a" * 1025}}}, 400, "event_topic:"),
        ("POST", "/explain", {"json": {"kee": "a"}}, 400, "kee is not known"),
        ("POST", "/deliveries/replay", {"json": {"target": ["x"]}}, 400, "a preview comes first"),
        ("POST", "/deliveries/replay", {"json": {"dry_run": True}}, 400, "replay which"),
        ("POST", "/deliveries/replay", {"json": {"token": "x"}}, 409, "preview again"),
        ("POST", "/deliveries/replay", {"json": {"token": "x", "event": []}}, 400, "says all"),
        (
            "POST",
            "/deliveries/replay",
            {"json": {"state": ["queued"], "dry_run": True}},
            400,
            "state: what is queued is retried anyway; replay is not for it",
        ),
    ],
)
def test_what_is_wrong_is_a_problem_document(
    router: Console, method: str, path: str, options: dict[str, Any], status: int, detail: str
) -> None:
    """As RFC 9457 has it, with the parameter or member that is at fault."""
    answer = router.ask(method, path, **options)
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert (answer.status_code, said["status"]) == (status, status), said
    assert detail in said["detail"]
    assert said["type"] == "about:blank"


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        ('{"a":' + "[" * 400 + "]" * 400 + "}", "the body: nested more than 64 deep"),
        ('{"a":[' + ",".join(["[]"] * 40_000) + "]}", "the body: more than 25,100 lists"),
        ('{"a":[' + ",".join(["1"] * 300_000) + "]}", "the body: more than 200,100 values"),
    ],
)
def test_a_body_of_too_much_work_is_refused(router: Console, event: str, detail: str) -> None:
    """However short it is; the bound is named."""
    content = f'{{"event":{event}}}'.encode()
    headers = {"content-type": "application/json"}
    answer = router.ask("POST", "/explain", "reader", content=content, headers=headers)
    assert answer.status_code == 400
    assert detail in answer.json()["detail"]


def test_a_body_that_is_too_large_is_refused(router: Console) -> None:
    """Before it is read whole."""
    answer = router.ask(
        "POST", "/explain", content=b" " * 2**21, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


# What is told.


def test_a_target_that_fails_is_told_with_its_own_words(router: Console) -> None:
    """Its state, its last failure, its attempts of the hour, what it gets; the worst first."""
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


def test_the_hour_counts_what_came(router: Console) -> None:
    """Sixty minutes, the last not over; of all processes together."""
    before = sum(router.get("/minutes")["events"])
    for number in range(4):
        assert router.send("p.x.hour.1", f"hour-{number}") == "000"
    wait_until(lambda: sum(router.get("/minutes")["events"]) == before + 4)
    assert len(router.get("/minutes")["events"]) == 60


def test_the_routes_are_those_in_force(router: Console) -> None:
    """Each with its line, its patterns and its targets."""
    told = router.get("/routes")
    own = [f"what {letter} has" for letter in "lubp"]
    assert [each["name"] for each in told["routes"]] == [*own, "the auditors' own"]
    assert told["routes"][2]["optional"] == ["ledger", "auditors"]
    assert told["hash"] == router.get("/status")["configuration"]["hash"]


def test_a_reload_is_told_with_what_it_changed(router: Console) -> None:
    """And one that was refused with why; the newest first. A team is told of none."""
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
    """As the command explains it; and what would be refused is told as EBaaS would hear it."""
    told = router.post("/explain", {"key": "b.x.y.1"})
    assert told["plan"]["optional"] == ["auditors", "ledger"]
    assert "code" in router.post("/explain", {"event": {"event_key": 1}})["refused"]


def test_the_nodes_are_told(router: Console) -> None:
    """All that share the store, or the only router."""
    told = router.get("/nodes")
    kind = router.get("/status")["store"]["kind"]
    assert told["shared"] is (kind == "postgresql")
    assert [each["pid"] for each in told["nodes"]] == [router.get("/status")["process"]["pid"]]


def test_an_event_is_found_and_told_whole(router: Console) -> None:
    """By an id in its changes; then each request and attempt, with its body for who may."""
    router.send("l.x.found.1", "to-be-found")
    name = event_of(router, "l.x.found.1", "to-be-found")
    story = router.get(f"/events/{name}", body="true")
    assert json.loads(story["body"])["changes"] == ["to-be-found"]
    assert story["steps"][0]["targets"][0]["reason"] == "acknowledged"
    assert "body" not in router.get(f"/events/{name}")
    assert router.ask("GET", "/events/no-such-event").status_code == 404


def test_the_pages_of_a_list_have_each_delivery_once(router: Console) -> None:
    """Whatever comes meanwhile; only the first has the counts."""
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


def test_a_team_is_not_told_by_a_place_what_there_is(router: Console) -> None:
    """An event that another's target has, and one that nobody has, are the same to it."""
    router.targets["auditors"].code = always("700")
    router.send("u.x.place.1", "place-1")
    router.wait_for("dead", 1, "auditors", "u.x.place.1")
    router.targets["auditors"].code = always("000")
    others = the_id(router, "u.x.place.1")
    for name in (others, "nobody-has-it"):
        answer = router.ask("GET", "/deliveries", "ledger", params={"after": f"{name}~ledger"})
        assert answer.status_code == 410, name


def test_a_search_goes_by_what_a_team_may_see(router: Console) -> None:
    """Not by what others' targets said of the same events: not even whether there are more."""
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


# What is done.


def test_a_preview_is_acted_on_and_no_more(router: Console) -> None:
    """What has changed since then stays as it is, and is counted; who did it is kept; an undo
    brings it back."""
    router.targets["ledger"].code = always("700")
    for number in range(3):
        router.send("l.x.act.1", f"act-{number}")
    router.wait_for("dead", 3, "ledger", "l.x.act.1")
    wanted = {"target": ["ledger"], "match": ["l.x.act.*"], "dry_run": True}
    preview = router.post("/deliveries/discard", wanted)
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
    assert act(router, "restore", wanted)["changed"] == 2


@pytest.mark.parametrize(
    ("path", "who", "more", "why"),
    [
        # These may do it, and all that was previewed is there for them: only the maker differs.
        ("/deliveries/replay", "ops", "", "is of another preview"),
        ("/deliveries/replay", "only-replay", "", "is of another preview"),
        ("/deliveries/discard", "ledger", "", "is of another preview"),
        ("/deliveries/replay", "ledger", "x", "is of no preview"),
    ],
)
def test_a_preview_is_its_makers_alone(
    router: Console, path: str, who: str, more: str, why: str
) -> None:
    """And of one verb."""
    wanted = {"match": ["l.*"], "dry_run": True}
    token = router.post("/deliveries/replay", wanted, who="ledger")["token"]
    answer = router.ask("POST", path, who, json={"token": f"{token}{more}"})
    assert (answer.status_code, why in answer.text) == (409, True)


def test_the_last_previews_are_kept() -> None:
    """Some of each holder's, however many are made by anybody."""
    previews = Previews()
    action = Action("a-1", Verb.REPLAY, "ops", "--match '*'", 1.0)
    other = previews.put(Previewed(replace(action, who="ledger"), Selection(), 7))
    tokens = [previews.put(Previewed(action, Selection(), n)) for n in range(MOST_PREVIEWS + 1)]
    assert previews.get(tokens[0]) is None
    found = [previews.get(token) for token in tokens[1:]]
    assert [each and each.number for each in found] == [*range(1, MOST_PREVIEWS + 1)]
    assert previews.get(other) is not None


def test_why_there_is_nothing_to_do(router: Console) -> None:
    """Of an event that was asked for: where its deliveries stand."""
    router.send("l.x.why.1", "why-not")
    preview = router.post("/deliveries/replay", {"event": ["no-such"], "dry_run": True})
    assert preview["why"] == ["event no-such: never kept, or over for long enough"]


@pytest.mark.parametrize(("who", "target"), [("ops", "no-such"), ("ledger", "audit")])
def test_a_preview_of_nothing_does_nothing(router: Console, who: str, target: str) -> None:
    """Also where all of it is another team's, of which nothing is said."""
    wanted = {"target": [target], "dry_run": True}
    preview = router.ask("POST", "/deliveries/replay", who, json=wanted).json()
    assert (preview["number"], preview["counts"]) == (0, [])
    done = router.ask("POST", "/deliveries/replay", who, json={"token": preview["token"]})
    assert done.status_code == 200, done.text
    assert (done.json()["changed"], done.json()["left"], done.json()["more"]) == (0, 0, False)


def test_a_target_is_paused_and_goes_on(router: Console) -> None:
    """With a reason and an end; its deliveries wait meanwhile. Who has done it is told."""
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


# Happenings.


def test_a_stream_has_what_happens(router: Console) -> None:
    """An event as it is handled, to whoever it concerns."""
    headers, url = bearer("ledger"), f"{router.url}/api/v1/stream?match=l.x.stream.*"
    with router.http.stream("GET", url, headers=headers, timeout=PATIENCE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "event: beat"
        ends = time.monotonic() + PATIENCE
        router.send("l.x.stream.1", "streamed")
        while (line := next(lines)) != "event: event":
            assert time.monotonic() < ends, line
        said = json.loads(next(lines).removeprefix("data: "))
    assert (said["event_key"], said["code"]) == ("l.x.stream.1", "000")


# A team's part: what is not its own is not there.

#: Queries and bodies that each endpoint is tried with; one that is missing here is tried plain.
TRIED: dict[str, list[dict[str, Any]]] = {
    "/targets/{name}": [{"name": "auditors"}, {"name": "ledger"}, {"name": "billing"}],
    "/events": [{}, {"target": "auditors"}, {"what": ["u.*", "secret-both"]}, {"code": "700"}],
    "/events/{id}": [{"id": "OTHERS"}, {"id": "BOTH"}],
    "/deliveries": [{}, {"target": "auditors"}, {"state": "dead", "match": "*"},
                    {"state": "superseded"},
                    {"after": "OTHERS~auditors"}, {"after": "BOTH~auditors"}],
    "/deliveries/{id}": [{"id": "OTHERS"}, {"id": "BOTH"}],
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


def test_a_team_never_sees_what_is_anothers(router: Console) -> None:
    """No name, key or count of another's target is in any answer, at any endpoint: what the others
    get changes nothing of what a team is told."""
    for name in ("auditors", "ledger"):
        router.targets[name].code = always("700")
    router.send("u.x.secret.1", "secret-own")
    router.send("b.x.both.1", "secret-both")
    router.wait_for("dead", 2, "auditors", "*.secret.1", "b.x.both.1")
    router.wait_for("dead", 1, "ledger", "b.x.both.1")
    router.targets["ledger"].code = always("000")
    both = {"target": ["auditors", "ledger"], "event": [the_id(router, "b.x.both.1")]}
    settle(router, "ledger")
    act(router, "discard", both)
    settle(router, "ledger")
    ids = {"OTHERS": the_id(router, "u.x.secret.1"), "BOTH": the_id(router, "b.x.both.1")}
    before = told_to_a_team(router, ids, searches=False)
    for number in range(3):
        router.send("u.x.secret.2", f"secret-own-{number}")
        router.send("p.x.secret.2", f"secret-own-billing-{number}")
    router.wait_for("dead", 3, "auditors", "u.x.secret.2")
    act(router, "discard", {"match": ["u.x.secret.2"]})
    after = told_to_a_team(router, ids, searches=True)
    router.targets["auditors"].code = always("000")
    assert {asked: after[asked] for asked in before} == before
    for asked, said in after.items():
        others = said.replace('"what": "--target auditors"', "")  # the team's own words
        for word in OTHERS:
            assert word not in others, (asked, said)


def settle(router: Console, target: str) -> None:
    """Until a target's numbers, which are counted now and then, are those of its deliveries."""
    counts = router.get("/deliveries", target=target)["counts"]
    found = {"awaiting": 0, "queued": 0, "dead": 0}
    found |= {each["state"]: each["deliveries"] for each in counts}
    wait_until(lambda: router.get(f"/targets/{target}")["unsettled"] == found)


def the_id(router: Console, key: str) -> str:
    """The id of the only event of this key in the store."""
    found = router.get("/deliveries", match=key, state=["dead", "superseded"])["deliveries"]
    (event_id,) = {each["event_id"] for each in found}
    return str(event_id)


def act(router: Console, verb: str, selection: dict[str, Any]) -> Any:
    """The preview of it, and then it."""
    preview = router.post(f"/deliveries/{verb}", {**selection, "dry_run": True})
    return router.post(f"/deliveries/{verb}", {"token": preview["token"]})


def told_to_a_team(router: Console, ids: dict[str, str], *, searches: bool) -> dict[str, str]:
    """What the ledger's team is told at each endpoint, without what differs from one time to the
    next; a search takes a process of its own."""
    told = {}
    for endpoint in ENDPOINTS:
        if endpoint.path == "/stream":
            continue  # an endless answer: tests/ops/test_streams.py has it
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
            told[f"{endpoint.method} {path} {given}"] = _timeless(answer)
    return told


def _named(text: str, ids: dict[str, str]) -> str:
    for name, each in ids.items():
        text = text.replace(name, each)
    return text


#: What differs from one answer to the next.
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


EVERY_DEED = {"read", "replay", "discard", "pause", "bodies"}

#: By each endpoint the deeds of which one opens it. A new endpoint has its line here.
OPENED_BY: dict[str, set[str]] = {
    "GET /you": EVERY_DEED,
    "GET /openapi.json": EVERY_DEED,
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
    "GET /deliveries/{id}": {"read"},
    "POST /deliveries/replay": {"replay"},
    "POST /deliveries/discard": {"discard"},
    "POST /deliveries/restore": {"replay", "discard"},
    "GET /stream": {"read"},
}

#: The parameters with which bodies of events are asked for.
BODIES = {
    "GET /events": "body",
    "GET /events/{id}": "body",
    "GET /deliveries/{id}": "body",
    "GET /stream": "bodies",
}


def format_status(router: Console, endpoint: str, who: str, **params: str) -> int:
    """The status alone, since a stream has no end. The body of a POST acts on nothing."""
    method, path = endpoint.split()
    url = f"{router.url}/api/v1{path.replace('{name}', 'nobody').replace('{id}', 'none')}"
    body: dict[str, Any] = {"json": {}} if method == "POST" else {"params": params}
    headers = bearer(who) if who else {}
    asked = router.http.stream(method, url, headers=headers, timeout=PATIENCE, **body)
    with asked as answer:
        return answer.status_code


def test_every_endpoint_is_opened_by_its_own_deeds_alone(router: Console) -> None:
    """A token for one deed is let in, or gets 403 before anything of the request is read. Without a
    token the answer is 401 everywhere."""
    assert {f"{each.method} {each.path}" for each in ENDPOINTS} == OPENED_BY.keys()
    for endpoint, deeds in OPENED_BY.items():
        told = {deed: format_status(router, endpoint, f"only-{deed}") for deed in EVERY_DEED}
        assert {deed for deed, status in told.items() if status != 403} == deeds, endpoint
        assert [told[deed] for deed in deeds if told[deed] in (401, 500)] == [], endpoint
        assert format_status(router, endpoint, "") == 401, endpoint


def test_bodies_of_events_need_a_word_of_their_own(router: Console) -> None:
    """Every endpoint that can show bodies asks for it; `bodies` without `read` shows nothing."""
    asking = {
        f"{each.method} {each.path}": param.name
        for each in ENDPOINTS
        for param in each.params
        if "bod" in param.name
    }
    assert asking == BODIES
    for endpoint, name in BODIES.items():
        for who, is_let_in in (("ops", True), ("only-read", False), ("only-bodies", False)):
            told = format_status(router, endpoint, who, **{name: "true"})
            assert (told != 403) == is_let_in, (endpoint, who)


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_the_numbers_of_all_are_for_who_may_read_all(router: Console, path: str) -> None:
    """A team, which may read its own, does not get them; nor does a token for other deeds."""
    told = {
        who: router.http.get(router.url + path, headers=bearer(who), timeout=PATIENCE).status_code
        for who in HOLDERS
    }
    assert {who for who, status in told.items() if status == 200} == {"ops", "reader", "only-read"}


def test_tokens_are_taken_anew(tmp_path: Path) -> None:
    """A change of the file counts within seconds. (tests/process/test_watch.py has one that can't
    be used.)"""
    with console(tmp_path) as router:
        path = tmp_path / "tokens.yaml"
        holders = [
            {"name": name, "token": token_of(name), **each} for name, each in HOLDERS.items()
        ]
        path.write_text(json.dumps({"tokens": holders[1:]}))
        router.router.wait_for(lambda: router.router.lines("reread"))
        assert router.router.lines("reread")[0]["what"] == "--ops-tokens"
        assert router.ask("GET", "/you").status_code == 401
        assert router.get("/you", who="reader")["name"] == "reader"


def test_a_token_that_is_gone_hears_nothing_more(tmp_path: Path) -> None:
    """A stream that was opened by it ends with it."""
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
        assert router.ask("GET", "/stream", "ledger").status_code == 401


def test_a_preview_of_all_is_none_for_a_team(tmp_path: Path) -> None:
    """Where its maker has become one since."""
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


def test_without_tokens_it_is_read_by_its_name_alone(tmp_path: Path) -> None:
    """On this machine, to be read only, and by nobody who comes under another name."""
    with console(tmp_path, tokens=False) as router:
        you = router.ask("GET", "/you", who="").json()
        assert (you["name"], you["may"], you["tokens"]) == (None, ["read"], False)
        own = ("localhost:1234", "[::1]:80", "127.0.0.1")
        others = ("evil.example.com", "127.0.0.1.evil.example.com:8081", "localhost.", "[::1")
        for host in (*own, *others):
            answer = router.ask("GET", "/targets", who="", headers={"host": host})
            assert answer.status_code == (200 if host in own else 403), host
        assert "--ops-tokens" in answer.json()["detail"]
        replay = router.ask("POST", "/deliveries/replay", who="", json={"dry_run": True})
        assert replay.status_code == 403
        why = "this needs a token, and the router has no --ops-tokens"
        assert replay.json()["detail"] == why
        assert router.http.get(router.url + "/status", headers={"host": "x"}).status_code == 200


def test_who_guesses_is_soon_not_listened_to(tmp_path: Path) -> None:
    """After some wrong tokens no other one of that address is looked at for a while: not even a
    right one. One that is shown again and again counts once."""
    with console(tmp_path) as router:
        statuses = []
        for number in (*[0] * 12, *range(1, 12)):
            headers = {"authorization": f"Bearer guess-{number}"}
            answer = router.http.get(f"{router.url}/api/v1/you", headers=headers)
            statuses.append(answer.status_code)
        assert statuses == [401] * 21 + [429] * 2
        assert 0 < int(answer.headers["retry-after"]) <= 61
        assert router.ask("GET", "/you").status_code == 429
        router.router.wait_for(lambda: router.router.lines("refused"))
        assert len(router.router.lines("refused")) <= 10


#: What a team may try to reach what is not its own by.
WORDS = ["auditors", "billing", "ledger", "u.*", "*", "secret", "OTHERS", "BOTH", "team audit", "%"]


def guesses() -> st.SearchStrategy[tuple[Endpoint, dict[str, Any]]]:
    """Requests that each endpoint understands, with words that mean others."""
    word = st.sampled_from(WORDS)

    def asked(endpoint: Endpoint) -> st.SearchStrategy[dict[str, Any]]:
        if endpoint.takes is not None:
            names = schema_of(endpoint.takes)["properties"]
            value: st.SearchStrategy[Any] = st.lists(word, max_size=2) | word | st.just(True)
        else:
            names = [param.name for param in endpoint.params]
            value = word | st.sampled_from(["dead", "true", "1", "1h"])
        return st.dictionaries(st.sampled_from([*names, *endpoint.names, "x"]), value, max_size=4)

    quick = [each for each in ENDPOINTS if not each.path.startswith(("/events", "/stream"))]
    each = st.sampled_from(quick)
    return each.flatmap(lambda one: asked(one).map(lambda said: (one, said)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(guess=guesses())
def test_no_guess_reaches_what_is_anothers(router: Console, guess: tuple[Endpoint, Any]) -> None:
    """Whatever a team asks for, and however: no name or key of another's is in the answer, unless
    it is the team's own word said back."""
    endpoint, said = guess
    path = endpoint.path
    for name in endpoint.names:
        path = path.replace(f"{{{name}}}", quote(str(said.get(name, "auditors")), safe=""))
    body = {"json": said} if endpoint.method == "POST" else {"params": said}
    answer = router.ask(endpoint.method, path, "ledger", **body)
    assert answer.status_code < 500
    if answer.status_code == 200 and endpoint.path != "/explain":
        for word in OTHERS:
            assert word not in _timeless(answer)
