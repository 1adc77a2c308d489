"""`check --print`: the configuration in force, every default filled in, every secret masked."""

from __future__ import annotations

import json
import re
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
from router.contract.schedule import format_duration, parse_duration
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
    """Print this text as routes.yaml."""
    path = tmp_path / "routes.yaml"
    path.write_text(text, encoding="utf-8")
    result = ran("check", "--print", path.name, *options)
    assert (result.code, result.err) == (0, "")
    return result.out


def loaded(text: str) -> Config:
    return loading.parse(text.encode(), "routes.yaml", {}, None)


def test_every_default_is_filled_in(tmp_path: Path) -> None:
    """The smallest file is printed with all settings in force."""
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


def test_the_heading_and_json(tmp_path: Path) -> None:
    """The first line is a comment with the file's name and hash. JSON is one object with both."""
    first = shown(tmp_path, SMALL).splitlines()[0]
    assert first == f"# routes.yaml, hash {loaded(SMALL).hash}"
    shape = json.loads(shown(tmp_path, SMALL, "--format", "json"))
    assert (shape.pop("file"), shape.pop("hash")) == ("routes.yaml", loaded(SMALL).hash)
    assert shape == effective.effective_of(loaded(SMALL))


def test_the_output_is_a_file_of_the_same_meaning(tmp_path: Path) -> None:
    """It can be loaded, and differs in nothing."""
    text = (ROOT / "config/routes.yaml").read_text(encoding="utf-8")
    assert edits_of(loaded(text), loaded(shown(tmp_path, text))) == []


@pytest.mark.parametrize(
    "written",
    [
        "breaker: true",
        "breaker: {failures: 7%, of_at_least: 3, within: 1500ms, pause: 2m, refusals: count}",
        "rate: {per_second: 0.125, burst: 7}",
        "rate: {per_second: 2.5}",
        "rate: {per_second: 100}",
        "paused: true",
    ],
)
def test_sections_of_a_target(tmp_path: Path, written: str) -> None:
    """They are the same when they are read again."""
    text = SMALL.replace("ledger: {", f"ledger: {{{written}, ")
    again = loaded(shown(tmp_path, text))
    assert again.table.targets == loaded(text).table.targets
    assert again.table.targets != loaded(SMALL).table.targets


@pytest.mark.parametrize(
    "text", ["no", "~", "012", "0o17", "1e3", ".5", "12:30:45", "1_000", "2021-07-01", "<<", "a: b"]
)
def test_ambiguous_strings_are_in_quotes(tmp_path: Path, text: str) -> None:
    """A string that any version of YAML reads as another type can be read again."""
    printed = shown(tmp_path, SMALL.replace("name: all", f'name: "{text}"'))
    assert loaded(printed).table.routes[0].name == text


def test_dollars_are_doubled(tmp_path: Path) -> None:
    """A dollar is written as a routes.yaml has to have it, and is one in JSON."""
    text = SMALL.replace('"*"', '"a.$$.成*"')
    assert loaded(shown(tmp_path, text)).table.routes[0].match["event_key"] == ("a.$.成*",)
    assert json.loads(shown(tmp_path, text, "--format", "json"))["routes"][0]["match"] == "a.$.成*"


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Header values, queries, and paths with variables are masked, in both formats."""
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


def test_a_literal_path_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable for the host hides nothing."""
    monkeypatch.setenv("BASE", "https://ledger.example.com")
    text = SMALL.replace("http://127.0.0.1:9002/callback", '"${BASE}/ebaas/callback"')
    assert "url: https://ledger.example.com/ebaas/callback\n" in shown(tmp_path, text)


#: Every key of routes.yaml but `defaults`, written as it is printed; `ledger` has no default.
EVERY = """\
version: 1
unmatched: accept
ebaas:
  reply_within: 7s
  retries: 19
  waits: [2s, 1500ms]
  grace: 0s
  http_status: ok
  token: [abcdefghijklmnop]
  token_header: x-token
  allow_from: [10.0.0.0/8, "2001:db8::/32"]
  silent_after: 21600s
queue: {retries: 0, waits: [3s]}
egress: [public, 127.0.0.1/32]
targets:
  ledger:
    url: https://ledger.example.com/callback
    timeout: 3s
    acknowledge: status
    max_in_flight: 62
    breaker: {failures: 51%, of_at_least: 21, within: 31s, pause: 11s, refusals: count}
    headers: {x-tenant: "7"}
    secret: [whsec_b2xkIHNlY3JldA==]
    rate: {per_second: 3, burst: 4}
    queue: {retries: 5, waits: [4s]}
    paused: true
    owner: somebody
    tls:
      ca: ${CA}
      cert: ${CERT}
      key: ${KEY}
      server_name: other.example.com
      insecure_skip_verify: true
  audit: {url: "http://127.0.0.1:9003/", timeout: 5s, acknowledge: code, max_in_flight: 64}
routes:
  - name: all
    match: {event_source: a, event_topic: b, event_type: c, event_status: d, event_key: [a.b, c.*]}
    except: {event_source: A, event_topic: B, event_type: C, event_status: D, event_key: [a.c, d.*]}
    required: [audit]
    optional: [ledger]
"""
SECRETS = r'abcdefghijklmnop|"7"|whsec_\S+==|\$\{\w+\}'


def declared(shape: Shape, path: str = "") -> Iterator[str]:
    """Iterate over the keys of routes.yaml that the schema declares."""
    for each in filter(None, (shape.item, shape.rest)):
        yield from declared(each, path)
    for name, each in shape.keys.items():
        below = [*declared(each, f"{path}{name}.")]
        yield from below or [f"{path}{name}"]


def test_every_key_is_loaded_printed_and_compared(tmp_path: Path) -> None:
    """A new key of the schema fails here until it has a line in the file above, which is printed as
    it is written, and until `diff` names it."""
    pair = issued(tmp_path)
    files = {"CA": tmp_path / "cert.ca", "CERT": pair.cert, "KEY": pair.key}
    variables = {name: file.read_text() for name, file in files.items()}
    every = loading.parse(EVERY.encode(), "routes.yaml", variables, None)
    masked = yaml.safe_load(re.sub(SECRETS, '"***"', EVERY))
    assert effective.effective_of(every) == masked
    rooms = {"settings": "", "target": "targets.", "route": "routes."}
    compared = {
        f"{rooms[edit.kind]}{detail.name}"
        for edit in edits_of(loaded(SMALL), every)
        for detail in edit.details
    }
    # `version` and names can't change; `defaults` are compared in each target.
    same = ("version", "routes.name", "defaults.")
    keys = {key for key in declared(shape_of("routes")) if not key.startswith(same)}
    near = {key for key in keys for name in compared if f"{name}.".startswith(f"{key}.")}
    below = {key for key in keys for name in compared if key.startswith(f"{name}.")}
    assert keys - near - below == set()


def test_an_invalid_configuration_is_told(tmp_path: Path) -> None:
    """Its problems are messages, exit code 1, and there is no result."""
    path = tmp_path / "routes.yaml"
    path.write_text(SMALL.replace("[ledger]", "[ledgr]"))
    result = ran("check", "--print", path.name)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("routes.yaml:5:")


@given(st.integers(0, 10_000), st.sampled_from(["ms", "s", "m", "h"]), st.sampled_from("05"))
def test_a_duration_is_written_as_it_is_read(number: int, unit: str, half: str) -> None:
    """A formatted duration has the same length."""
    seconds = parse_duration(f"{number}.{half}{unit}")
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


_plain = st.recursive(
    st.text(st.characters(exclude_categories=["C"]), max_size=8) | st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab-: no1", max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(_plain)
def test_written_yaml_is_read_again(value: Any) -> None:
    """YAML written from plain data is that data."""
    assert yaml.safe_load(write(value)) == value


def test_two_files_are_not_printed() -> None:
    result = ran("check", "--print", "routes.yaml", "other.yaml")
    assert (result.code, result.out) == (2, "")
    assert "--print takes one FILE" in result.err
