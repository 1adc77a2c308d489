"""`check --print`: what is in force, with every default filled in and no secret shown."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router import config
from router.config import effective
from router.config.document import write
from router.config.loading import Caller, Config
from router.contract.schedule import parse_duration
from router.model.event import Event
from router.model.secret import Secret
from router.net.client_tls import Tls
from router.routing.table import Route
from router.routing.target import BreakerPolicy, Rate, Target
from tests.support.command import ROOT
from tests.support.inprocess import ran

CANARY = "canary-7f3a"

SMALL = """\
version: 1
targets:
  ledger: {url: http://127.0.0.1:9002/callback}
routes:
  - {name: all, match: "*", required: [ledger]}
"""


@pytest.fixture(autouse=True)
def _where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(tmp_path: Path, text: str, *options: str) -> str:
    """What `check --print` prints for this text as routes.yaml."""
    path = tmp_path / "routes.yaml"
    path.write_text(text, encoding="utf-8")
    result = ran("check", "--print", path.name, *options)
    assert (result.code, result.err) == (0, "")
    return result.out


def loaded(text: str) -> Config:
    return config.parse(text.encode(), "routes.yaml", {}, None)


def test_every_default_is_filled_in(tmp_path: Path) -> None:
    """A file that says the least is shown with all that holds for it."""
    waits = ["1s", "3s", "7s", "30s", "60s", "300s", "3600s"]
    assert yaml.safe_load(shown(tmp_path, SMALL)) == {
        "version": 1,
        "unmatched": "reject",
        "ebaas": {
            "reply_within": "8s",
            "retries": 20,
            "waits": waits,
            "grace": "60s",
            "http_status": "mirror",
        },
        "queue": {"retries": 20, "waits": waits},
        "targets": {
            "ledger": {
                "url": "http://127.0.0.1:9002/callback",
                "timeout": "5s",
                "acknowledge": "code",
                "max_in_flight": 64,
            }
        },
        "routes": [{"name": "all", "match": "*", "required": ["ledger"]}],
    }


def test_the_hash(tmp_path: Path) -> None:
    """The first line is a comment with the file's name and the hash of what is in force."""
    first = shown(tmp_path, SMALL).splitlines()[0]
    assert first == f"# routes.yaml, hash {loaded(SMALL).hash}"


def test_json(tmp_path: Path) -> None:
    """--format json is the same as one object, with the hash."""
    said = json.loads(shown(tmp_path, SMALL, "--format", "json"))
    assert (said.pop("file"), said.pop("hash")) == ("routes.yaml", loaded(SMALL).hash)
    assert said == effective.effective_of(loaded(SMALL))


def test_the_output_is_a_file_of_the_same_meaning(tmp_path: Path) -> None:
    """What is printed can be loaded, and has the same targets, routes and settings."""
    text = (ROOT / "config/routes.yaml").read_text(encoding="utf-8")
    again, before = loaded(shown(tmp_path, text)), loaded(text)
    assert again.table.targets == before.table.targets
    assert [_said(route) for route in again.table.routes] == [
        _said(route) for route in before.table.routes
    ]
    assert (again.ebaas, again.queue, again.unmatched) == (
        before.ebaas,
        before.queue,
        before.unmatched,
    )


@pytest.mark.parametrize(
    "said",
    [
        "breaker: true",
        "breaker: {failures: 7%, of_at_least: 3, within: 1500ms, pause: 2m, refusals: count}",
        "rate: {per_second: 0.125, burst: 7}",
        "rate: {per_second: 2.5}",
        "rate: {per_second: 100}",
        "paused: true",
    ],
)
def test_how_a_target_is_contained_is_shown_whole(tmp_path: Path, said: str) -> None:
    """And is the same when it is read again."""
    text = SMALL.replace("ledger: {", f"ledger: {{{said}, ")
    again = loaded(shown(tmp_path, text))
    assert again.table.targets == loaded(text).table.targets
    assert again.table.targets != loaded(SMALL).table.targets


def _said(route: Route) -> tuple[Any, ...]:
    return route.name, route.match, route.required, route.optional


@pytest.mark.parametrize(
    "text", ["no", "~", "012", "0o17", "1e3", ".5", "12:30:45", "1_000", "2021-07-01", "<<", "a: b"]
)
def test_what_looks_like_something_else_is_in_quotes(tmp_path: Path, text: str) -> None:
    """A string that YAML, of whatever version, would read as another type can be read again."""
    printed = shown(tmp_path, SMALL.replace("name: all", f'name: "{text}"'))
    assert loaded(printed).table.routes[0].name == text


def test_dollars_are_doubled(tmp_path: Path) -> None:
    """A dollar is written as a routes.yaml has to have it, and is one in JSON."""
    text = SMALL.replace('"*"', '"a.$$.成*"')
    assert loaded(shown(tmp_path, text)).table.routes[0].match["event_key"] == ("a.$.成*",)
    assert json.loads(shown(tmp_path, text, "--format", "json"))["routes"][0]["match"] == "a.$.成*"


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Header values, queries, and paths that a variable brings in are masked, in both formats."""
    for name in ("TOKEN", "HOOK"):
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.setenv("WHOLE", f"https://whole.example.com/{CANARY}?key={CANARY}")
    (tmp_path / "token").write_text(CANARY)
    text = f"""\
version: 1
targets:
  header:
    url: http://127.0.0.1/a
    headers: {{Authorization: "Bearer ${{TOKEN}}", x-plain: {CANARY}}}
    secret: ["${{TOKEN}}", {CANARY}]
  file: {{url: http://127.0.0.1/a, headers: {{x-token: "${{file:token}}"}}}}
  query: {{url: "https://query.example.com/hook?token={CANARY}"}}
  path: {{url: "https://path.example.com/services/${{HOOK}}/x"}}
  whole: {{url: "${{WHOLE}}"}}
routes:
  - {{name: all, match: "*", optional: [header, file, query, path, whole]}}
"""
    options = ("--secrets-dir", str(tmp_path))
    printed = shown(tmp_path, text, *options)
    assert CANARY not in printed + shown(tmp_path, text, *options, "--format", "json")
    targets = yaml.safe_load(printed)["targets"]
    assert targets["header"]["headers"] == {"authorization": "***", "x-plain": "***"}
    assert targets["header"]["secret"] == ["***", "***"]
    assert {name: target["url"] for name, target in targets.items()} == {
        "header": "http://127.0.0.1/a",
        "file": "http://127.0.0.1/a",
        "query": "https://query.example.com/hook?***",
        "path": "https://path.example.com/***",
        "whole": "https://whole.example.com/***?***",
    }


def test_a_path_that_the_file_spells_out_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable for the host hides nothing: whom the router calls can be seen."""
    monkeypatch.setenv("BASE", "https://ledger.example.com")
    text = SMALL.replace("http://127.0.0.1:9002/callback", '"${BASE}/ebaas/callback"')
    assert "url: https://ledger.example.com/ebaas/callback\n" in shown(tmp_path, text)


def test_nothing_of_a_configuration_is_forgotten() -> None:
    """Every field of the types is shown, or is known not to be what a file says."""
    more = (
        "ebaas: {token: abcdefghijklmnop, allow_from: 10.0.0.0/8, silent_after: 6h}\n"
        "egress: [public, 127.0.0.1]\n"
    )
    said = effective.effective_of(loaded(SMALL + more))
    unsaid = {"table", "hash", "warnings", "files", "terms"}
    assert {each.name for each in fields(Config)} - said.keys() == unsaid
    assert {each.name for each in fields(Caller)} - said["ebaas"].keys() == {"schedule"}
    tls = Tls("a", "b", Secret("c"), "d", verify=False)
    target = Target(
        "name",
        "url",
        headers=(("x", Secret("y")),),
        secret=(Secret("z"),),
        breaker=BreakerPolicy(),
        rate=Rate(1.0, 1),
        paused=True,
        owner="somebody",
        tls=tls,
    )
    kept = {"name", "public_url", "egress"}
    assert {each.name for each in fields(Target)} - effective.target(target).keys() == kept
    assert effective.plain(effective.tls(tls)) == {
        "ca": "***",
        "cert": "***",
        "key": "***",
        "server_name": "d",
        "insecure_skip_verify": True,
    }
    route = Route("name", {"event_key": ("*",)}, ("x",), ("y",))
    place = {"name", "line", "file"}
    assert {each.name for each in fields(Route)} - effective.route(route).keys() == place


def test_an_invalid_configuration_is_told(tmp_path: Path) -> None:
    """Its problems are messages, exit code 1, and there is no result."""
    path = tmp_path / "routes.yaml"
    path.write_text(SMALL.replace("[ledger]", "[ledgr]"))
    result = ran("check", "--print", path.name)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("routes.yaml:5:")


@given(st.integers(0, 10_000), st.sampled_from(["ms", "s", "m", "h"]), st.sampled_from("05"))
def test_a_duration_is_written_as_it_is_read(number: int, unit: str, half: str) -> None:
    """Any duration comes out as one that means the same."""
    seconds = parse_duration(f"{number}.{half}{unit}")
    assert parse_duration(effective.duration(seconds)) == pytest.approx(seconds, abs=1e-9)


_plain = st.recursive(
    st.text(st.characters(exclude_categories=["C"]), max_size=8) | st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab-: no1", max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(_plain)
def test_what_is_written_is_read_again(value: Any) -> None:
    """YAML written from plain data is that data, on lines that no one folds."""
    assert yaml.safe_load(write(value)) == value


def test_a_key_of_three_parts_makes_no_fields() -> None:
    """An event of a key alone has the other fields only where the key has four parts."""
    assert Event.of({"event_key": "a.b.c"}) == Event("", "", "", "", "a.b.c", b"")
    assert Event.of({"event_key": "a.b.c.d"}) == Event("a", "b", "c", "d", "a.b.c.d", b"")


@pytest.mark.parametrize(
    "more", [("other.yaml",), ("--format", "github"), ("--format", "gitlab")], ids=str
)
def test_what_cannot_be_printed(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Two files are not one, and a CI system's format has no place for a configuration."""
    result = ran("check", "--print", "routes.yaml", *more)
    assert (result.code, result.out) == (2, "")
    assert "--print" in result.err
