"""`explain`: which routes an event matches, which field stopped the others, and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router.routing.table import Route, RouteTable, nearest_routes
from router.routing.target import Target
from tests.support.archived import keep
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
    """Each matching route with its line, and per field the value and the pattern that matched."""
    assert section(explain(path, "a.gs.cert.1"), "2 routes match") == [
        "  'to the auditors'  routes.yaml:8",
        "      event_key  'a.gs.cert.1'  matches '*.cert.*'",
        "  'under gs'  routes.yaml:7",
        "      event_key  'a.gs.cert.1'  matches 'a.gs.*'",
    ]


def test_the_nearest_that_do_not_match_and_what_stopped_them(path: Path) -> None:
    """Three routes that don't match, the likeliest first, and the field that stopped each."""
    told = section(
        explain(path, "a.gs.cert.1"), "4 routes do not match; the nearest 3, --all shows every one"
    )
    assert told == [
        "  'certs'  routes.yaml:12",
        "      event_key  'a.gs.cert.1'  is not 'a.gs.certs.*'   <-- this stops it",
        "  'revoked'  routes.yaml:9",
        "      event_status  '1'            is not '3' or '4'   <-- this stops it",
        "      event_key     'a.gs.cert.1'  matches 'a.*.cert.*'",
        "  'far'  routes.yaml:13",
        "      event_key  'a.gs.cert.1'  is not 'zzz.*'   <-- this stops it",
    ]


def test_all_shows_every_route(path: Path) -> None:
    """With --all no route is left out."""
    told = section(explain(path, "a.gs.cert.1", "--all"), "4 routes do not match")
    assert [line for line in told if "routes.yaml:" in line][3] == "  'farther'  routes.yaml:14"


def test_the_plan_and_who_is_to_blame(path: Path) -> None:
    """Each target, required ones first, and by which routes."""
    assert section(explain(path, "a.gs.cert.3"), "plan") == [
        "  certificates  required  by 'under gs'",
        "  ledger        required  by 'revoked'; optional by 'under gs'",
        "  audit         optional  by 'to the auditors'",
    ]


def test_a_paused_target_is_marked(path: Path) -> None:
    """It is in the plan, and gets nothing."""
    path.write_text(CONFIG.replace("9002/callback", "9002/callback, paused: true"))
    assert section(explain(path, "a.gs.cert.3"), "plan")[1] == (
        "  ledger        required  by 'revoked'; optional by 'under gs'; paused: it gets nothing"
    )


@pytest.mark.parametrize(("policy", "reply"), [("reject", "500"), ("accept", "000")])
def test_unmatched(path: Path, policy: str, reply: str) -> None:
    """Where no route matches, it is said what EBaaS is told."""
    path.write_text(f"{CONFIG}unmatched: {policy}\n", encoding="utf-8")
    result = explain(path, "b.hr.pass.1")
    assert "no route matches" in result.lines
    (line,) = section(result, "plan")
    assert line.startswith(f"  unmatched: {policy}. EBaaS gets ")
    assert reply in line


def test_the_fields_come_from_the_keys_parts(path: Path) -> None:
    """A key of four parts tells the other fields, and it is said where they come from."""
    lines = explain(path, "a.gs.cert.1").lines
    assert lines[:2] == [
        "key     'a.gs.cert.1'",
        "fields  source 'a', topic 'gs', type 'cert', status '1', from the key's four parts",
    ]


def test_a_key_of_other_parts_leaves_the_fields_unknown(path: Path) -> None:
    """A key of three parts does not tell the other fields, and no guess is made."""
    result = explain(path, "a.hr.cert", "--all")
    assert "it has 3 parts, not four: the other fields are unknown" in result.lines[1]
    assert "      event_status  (unknown)    is not '3' or '4'   <-- this stops it" in result.lines


def test_a_key_of_four_empty_parts_has_four(path: Path) -> None:
    """Nor does it tell any field."""
    assert "its four parts are empty: the other fields are" in explain(path, "...").lines[1]


def test_an_event_from_stdin(path: Path) -> None:
    """--event - reads a whole event, whose fields count and not those of its key."""
    body = event(event_key="a.hr.cert.x", event_status="4")
    result = explain(path, "--event", "-", stdin=body)
    assert result.lines[1] == "fields  source 'a', topic 'gs', type 'cert', status '4'"
    assert "'a.gs.cert.4', but the given one counts" in result.lines[2]
    assert "  ledger  required  by 'revoked'" in result.lines


def test_an_event_from_a_file(path: Path, tmp_path: Path) -> None:
    """--event FILE reads the event from a file."""
    (tmp_path / "event.json").write_bytes(SAMPLE)
    result = explain(path, "--event", str(tmp_path / "event.json"))
    assert (result.code, result.lines[0]) == (0, "key     'a.gs.cert.1'")


def test_an_event_that_the_router_would_refuse(path: Path) -> None:
    """What the contract does not allow is refused with the router's own words, exit code 1."""
    result = explain(path, "--event", "-", stdin=event(event_type=""))
    assert result.code == 1
    assert result.lines == [
        "refused: EBaaS gets 400 参数event_type不能为空 (event_type: minLength)"
    ]


def test_the_operators_schema_counts_too(path: Path) -> None:
    """--schema FILE refuses what it would refuse in a callback."""
    schema = Path("more.json")
    schema.write_text(json.dumps({"properties": {"event_source": {"enum": ["b"]}}}))
    result = explain(path, "--schema", str(schema), "--event", "-", stdin=SAMPLE)
    assert result.code == 1
    assert "event_source" in result.out
    schema.write_text("{")
    result = explain(path, "--schema", str(schema), "--event", "-", stdin=SAMPLE)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ebaas-router: --schema: more.json:1:2: not JSON")


def test_json(path: Path) -> None:
    """--format json has the event, the plan, who is to blame, and the routes field by field."""
    said = explain(path, "a.gs.cert.3", "--format", "json").json
    assert said["plan"] == {"required": ["certificates", "ledger"], "optional": ["audit"]}
    assert said["unmatched"] is None
    assert said["event"]["event_status"] == "3"
    assert [tuple(target.values()) for target in said["targets"]] == [
        ("audit", [], ["to the auditors"], False),
        ("certificates", ["under gs"], [], False),
        ("ledger", ["revoked"], ["under gs"], False),
    ]
    assert [*said["targets"][0]] == ["name", "required_by", "optional_by", "paused"]
    revoked = next(each for each in said["routes"] if each["name"] == "revoked")
    assert revoked["fields"][0] == {
        "field": "event_status",
        "value": "3",
        "patterns": ["3", "4"],
        "pattern": "3",
    }
    assert explain(path, "x.y.z.1", "--format", "json").json["unmatched"] == "reject"


LOG = [
    f'{{"time":"2026-11-26T13:00:0{number}.000Z","happening":"event","event_key":"{key}",'
    f'"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"{status}"}}\n'.encode()
    for number, key, status in ((1, "a.gs.cert.1", "1"), (2, "a.hr.cert.x", "3"), (3, "q", "1"))
]


def test_what_a_target_gets(path: Path) -> None:
    """--target shows the routes that lead to it with their patterns, and which of the last
    requests in the archive would go to it, the newest first."""
    keep(Path("archive"), *LOG)
    result = explain(path, "--target", "ledger", "--archive", "archive")
    assert (result.code, result.err) == (0, "")
    assert result.lines[:10] == [
        "ledger  http://127.0.0.1:9002/callback",
        "",
        "5 routes lead to it:",
        "  'under gs'  routes.yaml:7  optional",
        "      event_key  'a.gs.*'",
        "  'revoked'  routes.yaml:9  required",
        "      event_key     'a.*.cert.*'",
        "      event_status  '3' or '4'",
        "  'certs'  routes.yaml:12  required",
        "      event_key  'a.gs.certs.*'",
    ]
    counts, *events = result.lines[-3:]
    back = "back to 2026-11-26T13:00:01Z"
    assert counts == f"it would get 2 of the last 3 requests, {back}: 1 optional, 1 required"
    assert events == [
        "  2026-11-26T13:00:02Z  'a.hr.cert.x'  required  by 'revoked'",
        "  2026-11-26T13:00:01Z  'a.gs.cert.1'  optional  by 'under gs'",
    ]
    last = explain(path, "--target", "ledger", "--archive", "archive", "--last", "2")
    assert last.lines[-2].startswith("it would get 1 of the last 2 requests")


def test_what_a_target_gets_as_json(path: Path) -> None:
    """The same for a machine; where there is nothing to look into, it has no events."""
    keep(Path("archive"), *LOG)
    said = explain(path, "--target", "audit", "--archive", "archive", "--format", "json")
    assert said.json["routes"] == [
        {
            "name": "to the auditors",
            "file": "routes.yaml",
            "line": 8,
            "as": "optional",
            "match": {"event_key": ["*.cert.*", "*.key.*"]},
        }
    ]
    events = said.json["events"]
    assert (events["looked_at"], events["optional"], len(events["newest"])) == (3, 2, 2)
    assert explain(path, "--target", "audit", "--format", "json").json["events"] is None


def test_a_target_that_is_not_there(path: Path) -> None:
    """It is met with a guess; an archive that is not there with one line."""
    assert explain(path, "--target", "ledgr").err == (
        "ebaas-router: --target: routes.yaml has no target 'ledgr', did you mean ledger?\n"
    )
    result = explain(path, "--target", "ledger", "--archive", "missing")
    assert (result.code, result.err) == (3, "ebaas-router: --archive: missing is no folder\n")


def test_an_invalid_configuration_is_told(path: Path) -> None:
    """Its problems are messages, exit code 1; for a machine they are the result."""
    path.write_text(CONFIG.replace("[certificates]", "[certificate]"), encoding="utf-8")
    result = explain(path, "a.gs.cert.1")
    assert (result.code, result.out) == (1, "")
    assert "did you mean 'certificates'?" in result.err
    said = explain(path, "a.gs.cert.1", "--format", "json")
    assert (said.code, said.err) == (1, "")
    assert said.json["problems"][0]["path"] == "routes[0].required"


@pytest.mark.parametrize(
    "arguments", [(), ("a.gs.cert.1", "--event", "-"), ("",), ("--event", "missing.json")]
)
def test_wrong_arguments(path: Path, arguments: tuple[str, ...]) -> None:
    """No event, two, an empty one, or a file that is not there: one line, exit code 2."""
    result = explain(path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1


def test_a_pattern_that_no_one_expects_is_cut_short(path: Path) -> None:
    """Of many patterns the first are shown, and how many there are besides."""
    many = [f"b{number}.*" for number in range(300)]
    path.write_text(CONFIG.replace('"zzz.*"', json.dumps(many)), encoding="utf-8")
    told = explain(path, "a.gs.cert.1", "--all").out
    assert "is not 'b0.*' or 'b1.*' or 'b2.*' or 'b3.*' or 'b4.*' or 295 more" in told


def _order(key: str, **patterns: Any) -> list[str]:
    """The names of routes with these matches, the nearest to the key first."""
    from router.model.event import Event

    routes = [Route(name, match, ("T",)) for name, match in patterns.items()]
    table = RouteTable(routes, {"T": Target("T", "http://127.0.0.1/")})
    explanation = table.explain(Event.of({"event_key": key}))
    return [each.route.name for each in nearest_routes(explanation.routes, len(routes))]


def test_a_likeness_in_the_pattern_is_near() -> None:
    """A pattern that is mistyped is nearer than one that is about something else."""
    assert _order(
        "a.gs.cert.1",
        other={"event_key": ("b.*",)},
        typo={"event_key": ("a.gs.crt.*",)},
        matching={"event_key": ("a.*",)},
    ) == ["typo", "other"]


def test_a_field_that_matches_is_near() -> None:
    """A route that one of two fields stops is nearer than one that nothing speaks for."""
    assert _order(
        "a.gs.cert.1",
        nothing={"event_key": ("zz",), "event_type": ("qq",)},
        half={"event_key": ("a.*",), "event_status": ("9",)},
    ) == ["half", "nothing"]
