"""`explain`: the routes that match an event, the field that stops each other, and the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.house import SAMPLE, event
from tests.support.inprocess import Ran, ran

CONFIG = """\
version: 1
targets:
  certificates: {url: http://127.0.0.1:9001/callback}
  ledger: {url: http://127.0.0.1:9002/callback}
  audit: {url: http://127.0.0.1:9003/callback}
routes:
  - {name: under gs, match: a.gs.*, required: [certificates], optional: [ledger]}
  - {name: to the auditors, match: ["*.cert.*", "*.key.*"], optional: [audit]}
  - name: revoked
    match: {event_key: a.*.cert.*, event_status: ["3", "4"]}
    required: [ledger]
  - {name: certs, match: a.gs.certs.*, required: [ledger]}
  - {name: far, match: "zzz.*", required: [ledger]}
  - {name: farther, match: "qqqqqqqqqqqqqqqqqqq", required: [ledger]}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("routes.yaml")
    path.write_text(CONFIG, encoding="utf-8")
    return path


def explain(path: Path, *arguments: str, stdin: bytes = b"") -> Ran:
    return ran("explain", "--config", path, *arguments, stdin=stdin)


def section(result: Ran, title: str) -> list[str]:
    """The lines of one section, without those around them."""
    assert (result.code, result.err) == (0, "")
    _, _, rest = result.out.partition(f"{title}:\n")
    assert rest, result.out
    return rest.partition("\n\n")[0].splitlines()


def test_matching_routes_with_field_and_pattern(path: Path) -> None:
    """Each has its line, and by field the value and the pattern that matches."""
    assert section(explain(path, "a.gs.cert.1"), "2 routes match") == [
        "  'to the auditors'  routes.yaml:8",
        "      event_key  'a.gs.cert.1'  matches '*.cert.*'",
        "  'under gs'  routes.yaml:7",
        "      event_key  'a.gs.cert.1'  matches 'a.gs.*'",
    ]


def test_the_nearest_that_do_not_match_and_what_stopped_them(path: Path) -> None:
    """Three routes, the likeliest first, and the field that stops each."""
    routes = section(
        explain(path, "a.gs.cert.1"), "4 routes do not match; the nearest 3, --all shows every one"
    )
    assert routes == [
        "  'certs'  routes.yaml:12",
        "      event_key  'a.gs.cert.1'  is not 'a.gs.certs.*'   <-- this stops it",
        "  'revoked'  routes.yaml:9",
        "      event_status  '1'            is not '3' or '4'   <-- this stops it",
        "      event_key     'a.gs.cert.1'  matches 'a.*.cert.*'",
        "  'far'  routes.yaml:13",
        "      event_key  'a.gs.cert.1'  is not 'zzz.*'   <-- this stops it",
    ]


def test_all_shows_every_route(path: Path) -> None:
    routes = section(explain(path, "a.gs.cert.1", "--all"), "4 routes do not match")
    assert [line for line in routes if "routes.yaml:" in line][3] == "  'farther'  routes.yaml:14"


def test_the_plan(path: Path) -> None:
    """Each target, required ones first, with the routes that name it. A paused one is marked; an
    optional one has the retries of its own schedule."""
    text = CONFIG.replace("9001/callback", "9001/callback, paused: true")
    path.write_text(text.replace("9003/callback", "9003/callback, queue: {retries: 2}"))
    assert section(explain(path, "a.gs.cert.3"), "plan") == [
        "  certificates  required  by 'under gs'; paused: it gets nothing",
        "  ledger        required  by 'revoked'; optional by 'under gs'",
        "  audit         optional  by 'to the auditors'; 2 retries over 4s",
    ]


@pytest.mark.parametrize(("policy", "reply"), [("reject", "500"), ("accept", "000")])
def test_unmatched(path: Path, policy: str, reply: str) -> None:
    """If no route matches, the plan has the reply to EBaaS."""
    path.write_text(f"{CONFIG}unmatched: {policy}\n", encoding="utf-8")
    result = explain(path, "b.hr.pass.1")
    assert "no route matches" in result.lines
    (line,) = section(result, "plan")
    assert line.startswith(f"  unmatched: {policy}. EBaaS gets ")
    assert reply in line


UNKNOWN = "the other fields are unknown, and taken as empty;"


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        (
            "a.gs.cert.1",
            ["fields  source 'a', topic 'gs', type 'cert', status '1', from the key's four parts"],
        ),
        (
            "a.hr.cert",
            [
                f"        it has 3 parts, not four: {UNKNOWN}",
                "        a whole event by --event has them",
            ],
        ),
        (
            "...",
            [f"        its four parts are empty: {UNKNOWN}"],
        ),
    ],
)
def test_the_fields_of_a_key(path: Path, key: str, lines: list[str]) -> None:
    """A key of four parts gives the other fields; for another key no guess is made."""
    result = explain(path, key, "--all")
    assert result.lines[: 1 + len(lines)] == [f"key     '{key}'", *lines]
    unknown = "      event_status  (unknown)    is not '3' or '4'   <-- this stops it"
    assert (unknown in result.lines) == (key == "a.hr.cert")


def test_a_whole_event(path: Path) -> None:
    """--event reads it from stdin or a file; its fields count, not the parts of its key."""
    body = event(event_key="a.hr.cert.x", event_status="4")
    result = explain(path, "--event", "-", stdin=body)
    assert result.lines[1] == "fields  source 'a', topic 'gs', type 'cert', status '4'"
    assert "'a.gs.cert.4', but the given one counts" in result.lines[2]
    assert "  ledger  required  by 'revoked'" in result.lines
    Path("event.json").write_bytes(SAMPLE)
    assert explain(path, "--event", "event.json").lines[0] == "key     'a.gs.cert.1'"


def test_an_event_that_the_router_would_refuse(path: Path) -> None:
    """The router's own words, exit code 1."""
    result = explain(path, "--event", "-", stdin=event(event_type=""))
    assert result.code == 1
    assert result.lines == [
        "refused: EBaaS gets 400 参数event_type不能为空 (event_type: minLength)"
    ]


def test_the_operators_schema_counts_too(path: Path) -> None:
    """--schema FILE refuses an event as it would a callback."""
    schema = Path("more.json")
    schema.write_text(json.dumps({"properties": {"event_source": {"enum": ["b"]}}}))
    result = explain(path, "--schema", str(schema), "--event", "-", stdin=SAMPLE)
    assert result.code == 1
    assert "event_source" in result.out
    schema.write_text("{")
    result = explain(path, "--schema", str(schema), "--event", "-", stdin=SAMPLE)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ebaas-router: --schema: more.json: not JSON at line 1 column 2")


def test_json(path: Path) -> None:
    """--format json has the event, the plan with its routes, and the routes field by field."""
    output = explain(path, "a.gs.cert.3", "--format", "json").json
    assert output["plan"] == {"required": ["certificates", "ledger"], "optional": ["audit"]}
    assert output["unmatched"] is None
    assert output["event"]["event_status"] == "3"
    assert [tuple(target.values()) for target in output["targets"]] == [
        ("audit", [], ["to the auditors"], False, 20, 50801.0),
        ("certificates", ["under gs"], [], False, 20, 50801.0),
        ("ledger", ["revoked"], ["under gs"], False, 20, 50801.0),
    ]
    keys = ["name", "required_by", "optional_by", "paused", "retries", "seconds"]
    assert [*output["targets"][0]] == keys
    revoked = next(each for each in output["routes"] if each["name"] == "revoked")
    assert revoked["fields"][0] == {
        "field": "event_status",
        "value": "3",
        "patterns": ["3", "4"],
        "pattern": "3",
    }
    assert explain(path, "x.y.z.1", "--format", "json").json["unmatched"] == "reject"


def test_the_exception_that_stops_a_route(path: Path) -> None:
    """It is shown with its fields and the patterns that fit; a route whose exception does not fit
    shows none."""
    excepted = "except: {event_topic: [hr, gs], event_status: '1'}, required: [certificates]"
    path.write_text(CONFIG.replace("required: [certificates]", excepted))
    result = explain(path, "a.gs.key.1")
    assert section(result, "5 routes do not match; the nearest 3, --all shows every one")[:4] == [
        "  'under gs'  routes.yaml:7",
        "      event_key            'a.gs.key.1'  matches 'a.gs.*'",
        "      except event_topic   'gs'          matches 'gs'   <-- this stops it",
        "      except event_status  '1'           matches '1'   <-- this stops it",
    ]
    routes = explain(path, "a.gs.key.1", "--all", "--format", "json").json["routes"]
    [stopped] = [route for route in routes if route["name"] == "under gs"]
    assert [field["pattern"] for field in stopped["except"]] == ["gs", "1"]
    assert section(explain(path, "a.gs.hr.2"), "1 route matches")[0].startswith("  'under gs'")


def test_many_patterns_are_cut_short(path: Path) -> None:
    """The first of many patterns are shown, with the number of the others."""
    many = [f"b{number}.*" for number in range(300)]
    path.write_text(CONFIG.replace('"zzz.*"', json.dumps(many)), encoding="utf-8")
    patterns = "is not 'b0.*' or 'b1.*' or 'b2.*' or 'b3.*' or 'b4.*' or 295 more"
    assert patterns in explain(path, "a.gs.cert.1", "--all").out
