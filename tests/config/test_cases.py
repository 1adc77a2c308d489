"""The tests file and `test`: cases are read strictly, run as the router runs, and cover routes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import cases
from router.config.cases import Case
from router.model.errors import ConfigInvalid
from router.model.event import Event
from tests.support.inprocess import Ran, ran

CONFIG = """\
version: 1
targets:
  certificates: {url: http://127.0.0.1:9001/callback}
  ledger: {url: http://127.0.0.1:9002/callback}
  audit: {url: http://127.0.0.1:9003/callback}
routes:
  - {name: under gs, match: a.gs.*, required: [certificates, ledger]}
  - {name: to the auditors, match: "*.cert.*", optional: [audit]}
  - {name: revoked, match: {event_status: ["3", "4"]}, required: [ledger]}
"""


def parse(*given: Any, version: int = 1) -> tuple[Case, ...]:
    """A tests file with these cases (JSON is YAML)."""
    text = json.dumps({"version": version, "cases": list(given)})
    return cases.parse_cases(text.encode(), "routes.test.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a routes.yaml, where commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def judged(folder: Path, text: str, *options: str) -> Ran:
    """`test` with these cases in the tests file beside routes.yaml."""
    (folder / "routes.test.yaml").write_text(f"version: 1\ncases:\n{text}", encoding="utf-8")
    return ran("test", "--config", "routes.yaml", *options)


# Reading.

FOUR = {"event_source": "a", "event_topic": "g.s", "event_type": "x", "event_status": "1"}


@pytest.mark.parametrize(
    ("case", "event"),
    [
        ({"key": "a.gs.cert.1"}, Event("a", "gs", "cert", "1", "a.gs.cert.1", b"")),
        (
            {"event": {"event_key": "a.gs.cert.1", "event_status": "3"}},
            Event("a", "gs", "cert", "3", "a.gs.cert.1", b""),
        ),
        ({"event": FOUR}, Event("a", "g.s", "x", "1", "a.g.s.x.1", b"")),
        # A tests file has no variables: it means the same everywhere.
        ({"key": "a.${HOME}.c.d"}, Event("a", "${HOME}", "c", "d", "a.${HOME}.c.d", b"")),
    ],
)
def test_the_event_of_a_case(case: Any, event: Event) -> None:
    """The key gives the fields that are left out, and the fields give the key."""
    (read,) = parse({**case, "required": ["ledger"]})
    assert (read.event, read.name) == (event, event.event_key)
    assert (read.expected, read.exact) == ({"ledger": "required"}, True)


def test_a_case_knows_its_place() -> None:
    """A case has the file's name, its own line, and its name."""
    text = """\
version: 1
cases:
- key: a.b.c.d
  unmatched: true
- {name: second, key: x, unmatched: true}
"""
    read = cases.parse_cases(text.encode(), "routes.test.yaml")
    places = [(case.file, case.line, case.name) for case in read]
    assert places == [("routes.test.yaml", 3, "a.b.c.d"), ("routes.test.yaml", 5, "second")]


NOTHING = "cases[0]: expects nothing: say required, optional or unmatched: true"
NO_TARGETS = "cases[0]: is unmatched, so it can't have targets"
FAULTS = {
    "required: [x]": "cases[0]: has no key or event",
    "key: k, event: {event_key: k}, required: [x]": (
        "cases[0]: has a key and an event; one of them is meant"
    ),
    'event: {event_status: "3"}, required: [x]': (
        "cases[0]: its event needs event_key, or all four other fields"
    ),
    "key: k": NOTHING,
    "key: k, unmatched: false": NOTHING,
    "key: k, unmatched: true, optional: [x]": NO_TARGETS,
    "key: k, unmatched: true, exact: false": NO_TARGETS,
    "key: k, required: [x, x]": "cases[0].required: 'x' is here twice",
    "key: k, required: [x], optional: [x]": "cases[0].optional: 'x' is required here already",
    "key: k, requierd: [x]": "cases[0]: unknown key 'requierd', did you mean 'required'?",
    "key: 7, required: [x]": ('cases[0].key: YAML reads this as a number, put it in quotes: "7"'),
    'key: k, unmatched: "true"': "cases[0].unmatched: true or false is meant: take off the quotes",
    "key: k, unmatched: ture": (
        "cases[0].unmatched: 'ture' is not true or false, did you mean 'true'?"
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(case: str) -> None:
    """A fault of a case is reported with its path."""
    with pytest.raises(ConfigInvalid) as raised:
        cases.parse_cases(f"version: 1\ncases:\n- {{{case}}}\n".encode(), "routes.test.yaml")
    problems = [f"{problem.path}: {problem.message}" for problem in raised.value.problems]
    assert FAULTS[case] in problems


def test_every_fault_at_once() -> None:
    with pytest.raises(ConfigInvalid) as raised:
        parse({"key": "k"}, {"event": {}, "required": ["x"]}, "word")
    assert [problem.path for problem in raised.value.problems] == [
        "cases[0]",
        "cases[1]",
        "cases[2]",
    ]


_WORDS = (
    "version: 1\n", "cases:\n", "- ", "  key: ", "  event: ", "{event_key: ", "a.b.c.d", "}", "\n",
    "  required: ", "  optional: ", "[x]", "[", "]", "  unmatched: ", "true", "*", "&a", "  <<: ",
)  # fmt: skip


@given(st.lists(st.sampled_from(_WORDS), max_size=20).map("".join).map(str.encode) | st.binary())
def test_any_bytes_are_cases_or_problems(content: bytes) -> None:
    """Any bytes are read, or refused with ConfigInvalid."""
    with contextlib.suppress(ConfigInvalid):
        cases.parse_cases(content, "routes.test.yaml")


# Running.


def test_cases_that_hold(folder: Path) -> None:
    """The output counts them, and their coverage."""
    result = judged(
        folder,
        """\
- {key: a.gs.key.1, required: [certificates, ledger]}
- {key: b.hr.cert.1, optional: [audit]}
- {key: b.hr.key.4, required: [ledger]}
- {key: b.hr.key.1, unmatched: true}
""",
    )
    assert (result.code, result.err) == (0, "")
    assert result.lines == ["4 cases passed", "3 of 3 routes covered, 100 %"]


def test_a_case_that_fails(folder: Path) -> None:
    """It has its place, each target that differs, and the routes behind it; then the routes that no
    case matches. The percentage is never rounded up."""
    result = judged(
        folder,
        """\
- name: certificates
  key: a.gs.cert.1
  required: [certificates, audit]
  optional: [ledgr]
""",
    )
    assert result.code == 1
    absent = "is not in the plan; there is no such target, did you mean ledger?"
    assert result.lines == [
        "routes.test.yaml:3: certificates (a.gs.cert.1)",
        "    audit   expected required  is optional by routes.yaml:8",
        "    ledger  expected nothing   is required by routes.yaml:7",
        f"    ledgr   expected optional  {absent}",
        "1 case: 1 failed",
        "routes.yaml:9: no case matches 'revoked'",
        "2 of 3 routes covered, 66.6 %",
    ]


IS_OPTIONAL = "    audit  expected %s  is optional by routes.yaml:8"


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        (
            "key: b.x.y.z, required: [ledger]",
            ["    ledger  expected required  is not in the plan", "    no route matches"],
        ),
        ("key: b.x.cert.z, unmatched: true", [IS_OPTIONAL % "nothing"]),
        ("key: a.gs.cert.1, exact: false, optional: [audit]", []),
        ("key: a.gs.cert.1, exact: false, required: [audit]", [IS_OPTIONAL % "required"]),
    ],
)
def test_unmatched_and_partial_expectations(folder: Path, case: str, lines: list[str]) -> None:
    """With exact: false the plan may have more targets."""
    result = judged(folder, f"- {{{case}}}\n")
    assert (result.code, result.lines[1 : 1 + len(lines)]) == (int(bool(lines)), lines)


def test_the_routes_that_make_a_target_required_are_blamed(folder: Path) -> None:
    """If one route requires a target and another has it as optional, the first is named."""
    path = folder / "routes.yaml"
    path.write_text(CONFIG.replace("optional: [audit]", "optional: [ledger]"), encoding="utf-8")
    result = judged(folder, "- {key: a.gs.cert.1, required: [certificates]}\n")
    assert result.lines[1] == "    ledger  expected nothing  is required by routes.yaml:7"


def test_an_exception_counts_in_plan_and_coverage(folder: Path) -> None:
    """A case whose event fits a route's exception does not cover the route."""
    path, cases = folder / "routes.yaml", "- {key: a.gs.cert.1, optional: [audit]}\n"
    path.write_text(CONFIG.replace("match: a.gs.*", "match: a.gs.*, except: '*.cert.*'"))
    result = judged(folder, cases)
    assert (result.code, result.lines[0]) == (0, "1 case passed")
    assert "routes.yaml:7: no case matches 'under gs'" in result.lines
    more = cases + "- {key: a.gs.key.1, required: [certificates, ledger]}\n"
    assert "'under gs'" not in judged(folder, more).out


@pytest.mark.parametrize(("percent", "code"), [("33.3", 0), ("33.4", 1), ("100", 1), ("0", 0)])
def test_fail_under(folder: Path, percent: str, code: int) -> None:
    """--fail-under fails only if fewer of the routes are covered."""
    result = judged(folder, "- {key: b.hr.cert.1, optional: [audit]}\n", "--fail-under", percent)
    assert result.code == code
    assert (result.lines[-1] == f"that is under {percent} %") == bool(code)


@pytest.mark.parametrize("percent", ["101", "-1", "many", "50%", "1e1"])
def test_a_wrong_percentage(folder: Path, percent: str) -> None:
    """It is one line, exit code 2."""
    result = judged(folder, "", f"--fail-under={percent}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ebaas-router: --fail-under: ")


def test_several_files(folder: Path) -> None:
    """Cases of several files count together, stdin's too."""
    (folder / "one.yaml").write_text(
        "version: 1\ncases: [{key: a.gs.key.1, required: [certificates, ledger]}]"
    )
    more = b"version: 1\ncases: [{key: x.x.cert.1, unmatched: true}]"
    result = ran("test", "--config", "routes.yaml", "one.yaml", "-", stdin=more)
    assert (result.code, result.lines[0]) == (1, "stdin:2: x.x.cert.1")
    assert result.lines[-1] == "2 of 3 routes covered, 66.6 %"


def test_json(folder: Path) -> None:
    """--format json is one object: the cases that failed, and the coverage."""
    result = judged(folder, "- {key: a.gs.cert.3, required: [ledger]}\n", "--format", "json")
    shown = result.json
    assert result.code == 1
    assert (shown["cases"], shown["covered"], shown["percent"], shown["missed"]) == (
        1,
        3,
        100.0,
        [],
    )
    (failed,) = shown["failed"]
    assert failed["differences"] == [
        {"target": "audit", "expected": None, "actual": "optional"},
        {"target": "certificates", "expected": None, "actual": "required"},
    ]
    assert failed["routes"] == ["revoked", "to the auditors", "under gs"]
    assert (failed["file"], failed["line"]) == ("routes.test.yaml", 3)


def test_faults_of_both_files(folder: Path) -> None:
    """They are reported in one go, as messages or one object; exit code 1."""
    (folder / "routes.yaml").write_text("version: 2\n")
    result = judged(folder, "- {key: a.b.c.d}\n")
    assert (result.code, result.out) == (1, "")
    assert "routes.yaml:1:" in result.err
    assert "routes.test.yaml:3:" in result.err
    assert len(judged(folder, "- {key: a.b.c.d}\n", "--format", "json").json["problems"]) == 4


def test_a_routes_file_is_not_a_tests_file(folder: Path) -> None:
    """It is one problem, and its keys are not reported; but `routes` beside cases is a key."""
    result = ran("test", folder / "routes.yaml", "--config", folder / "routes.yaml")
    assert (result.code, result.out) == (1, "")
    assert "is a routes.yaml, not a tests file: give it as --config" in result.err
    assert "unknown key" not in result.err
    case = {"key": "a.b.c.d", "unmatched": True}
    text = json.dumps({"version": 1, "cases": [case], "routes": [{"name": "x"}] * 200})
    with pytest.raises(ConfigInvalid) as raised:
        cases.parse_cases(text.encode(), "f")
    messages = [problem.message for problem in raised.value.problems]
    assert messages == ["unknown key 'routes'; there are version, cases"]


@pytest.mark.parametrize(
    ("config", "missing"), [("routes.yaml", "routes.test.yaml"), ("nothing.yaml", "nothing.yaml")]
)
@pytest.mark.usefixtures("folder")
def test_a_missing_file(config: str, missing: str) -> None:
    """One line names it, exit code 1. Without a routes.yaml, its tests file is not looked for."""
    result = ran("test", "--config", config)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"{missing}: can't be read: no such file or directory\n"
