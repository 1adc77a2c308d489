"""`check --print`: what is in force, with every default filled in and no secret shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config import effective, loading
from router.config.comparison import edits_of
from router.config.document import write
from router.config.loading import Config
from router.config.schema import Shape, shape_of
from router.contract.schedule import parse_duration
from router.model.event import Event
from router.routing.table import Route
from tests.support.certificates import issued
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
    return loading.parse(text.encode(), "routes.yaml", {}, None)


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


#: Every key of routes.yaml but `defaults`, each with another value than by default.
EVERY = """\
version: 1
unmatched: accept
ebaas:
  reply_within: 7s
  retries: 19
  waits: [2s]
  grace: 61s
  http_status: ok
  token: abcdefghijklmnop
  token_header: x-token
  allow_from: 10.0.0.0/8
  silent_after: 6h
queue: {retries: 5, waits: [3s]}
egress: [public, 127.0.0.1]
targets:
  ledger:
    url: https://ledger.example.com/callback
    timeout: 3s
    acknowledge: status
    max_in_flight: 62
    breaker: {failures: 51%, of_at_least: 21, within: 31s, pause: 11s, refusals: count}
    headers: {x-tenant: "7"}
    secret: whsec_b2xkIHNlY3JldA==
    rate: {per_second: 3, burst: 4}
    paused: true
    owner: somebody
    tls:
      ca: ${CA}
      cert: ${CERT}
      key: ${KEY}
      server_name: other.example.com
      insecure_skip_verify: true
  audit: {url: http://127.0.0.1:9003/callback}
routes:
  - name: all
    match: {event_source: a, event_topic: b, event_type: c, event_status: d, event_key: a.b.c.d}
    required: [audit]
    optional: [ledger]
"""


def declared(shape: Shape, path: str = "") -> Iterator[str]:
    """The keys of routes.yaml as the schema declares them."""
    for each in filter(None, (shape.item, shape.rest)):
        yield from declared(each, path)
    for name, each in shape.keys.items():
        below = [*declared(each, f"{path}{name}.")]
        yield from below or [f"{path}{name}"]


def written(value: Any, path: str = "") -> Iterator[str]:
    """The keys of a file, the names of its targets and headers left out."""
    if isinstance(value, list):
        for each in value:
            yield from written(each, path)
    elif isinstance(value, dict) and path == "targets.":
        for each in value.values():
            for name, setting in each.items():
                yield from [*written(setting, f"{path}{name}.")] or [f"{path}{name}"]
    elif isinstance(value, dict) and path != "targets.headers.":
        for name, each in value.items():
            below = [*written(each, f"{path}{name}.")]
            yield from below or [f"{path}{name}"]


def test_every_key_is_shown_where_keys_are_shown(tmp_path: Path) -> None:
    """A key that is declared is taken into the configuration, printed by `config` and named by
    `diff`. A new one fails here until it has a line in the file above, and then until it is."""
    # `defaults` are shown in what they are for, by the same keys.
    every_key = declared(shape_of("routes"))
    keys = {key for key in every_key if not key.startswith("defaults.")}
    assert keys - {*written(yaml.safe_load(EVERY))} == set()
    pair = issued(tmp_path)
    files = {"CA": tmp_path / "cert.ca", "CERT": pair.cert, "KEY": pair.key}
    variables = {name: file.read_text() for name, file in files.items()}
    every = loading.parse(EVERY.encode(), "routes.yaml", variables, None)
    said = {*written(effective.effective_of(every))}
    assert keys - said == set()
    edits = edits_of(loaded(SMALL), every)
    rooms = {"settings": "", "target": "targets.", "route": "routes."}
    named = {f"{rooms[edit.kind]}{detail.name}" for edit in edits for detail in edit.details}
    assert [
        key
        for key in keys - {"version", "routes.name"}  # by these two files are compared at all
        if not any(key.startswith(each) or each.startswith(f"{key}.") for each in named)
    ] == []
    tls = effective.effective_of(every)["targets"]["ledger"]["tls"]
    assert [tls[name] for name in ("ca", "cert", "key")] == ["***"] * 3


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
