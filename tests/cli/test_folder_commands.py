"""The commands about routes.yaml take a folder of many teams' files as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.folders import CERTS, FAULTS, GOOD, written
from tests.support.inprocess import ran

CASES = {
    "routes.d/certs.test.yaml": """\
version: 1
cases:
  - {key: a.gs.cert.1, required: [certs], exact: false}
""",
    "routes.test.yaml": """\
version: 1
cases:
  - {key: x.y.cert.1, optional: [audit]}
""",
}
LESS = {**GOOD, "routes.d/certs.yaml": CERTS.replace("required: [certs], ", "")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`config`, which is good, and has two tests files."""
    monkeypatch.chdir(tmp_path)
    return written({**GOOD, **CASES}, Path("config"))


def test_check() -> None:
    """A good folder is summed up with its number of files, and each tests file."""
    result = ran("check", "config", "--strict")
    assert (result.code, result.err) == (0, "")
    assert result.lines[0].startswith("config is good: 3 routes, 3 targets in 3 files; ")
    assert result.lines[2:] == [
        "config/routes.test.yaml is good: 1 case",
        "config/routes.d/certs.test.yaml is good: 1 case",
    ]


def test_check_marks_each_file(folder: Path) -> None:
    """A problem is in its own file; JSON has its owner too."""
    files, _ = FAULTS["another_ones_target"]
    written(files, folder)
    (line,) = ran("check", "config").lines[:1]
    assert line.startswith("config/routes.d/certs.yaml:6:64: ")
    output = ran("check", "config", "--format", "json").json
    assert [(each["file"], each["owner"]) for each in output["problems"]] == [
        ("config/routes.d/certs.yaml", "team certs")
    ]
    assert len(output["files"]) == 3


def test_test_runs_every_teams_cases(folder: Path) -> None:
    """All tests files count together; a case that fails names the routes with their files."""
    good = ran("test", "--config", "config")
    assert (good.code, good.lines[0]) == (0, "2 cases passed")
    written(LESS, folder)
    bad = ran("test", "--config", "config")
    assert bad.code == 1
    assert bad.lines[:2] == [
        "config/routes.d/certs.test.yaml:3: a.gs.cert.1",
        "    certs  expected required  is not in the plan",
    ]


def test_test_without_any_cases(folder: Path) -> None:
    """A folder without a tests file is one line, exit code 2."""
    for name in CASES:
        (folder / name).unlink()
    result = ran("test", "--config", "config")
    assert (result.code, result.out) == (2, "")
    assert "no file of config has a tests file beside it" in result.err


def test_a_folder_without_routes_is_covered(tmp_path: Path) -> None:
    """Every event is unmatched, and no route is left to be tried."""
    files = {
        "routes.yaml": "version: 1\ntargets: {one: {url: 'http://127.0.0.1/'}}\n",
        "routes.test.yaml": "version: 1\ncases: [{key: a.gs.cert.1, unmatched: true}]\n",
    }
    result = ran("test", "--config", written(files, tmp_path / "new"), "--fail-under", "100")
    assert (result.code, result.lines[-1]) == (0, "0 of 0 routes covered, 100 %")


def test_explain_names_files() -> None:
    """Each route with its own file and line, in text and in JSON."""
    lines = ran("explain", "a.gs.cert.1", "--config", "config").lines
    assert "  'certificates'  config/routes.d/certs.yaml:6" in lines
    output = ran("explain", "a.gs.cert.1", "--config", "config", "--format", "json").json
    assert {each["file"] for each in output["routes"]} == {f"config/{name}" for name in GOOD}


def test_diff_of_two_folders() -> None:
    """By the tests files of NEW; a target that loses events has its owner beside it."""
    written({**LESS, **CASES}, Path("new"))
    lines = ran("diff", "config", "new").lines
    assert lines[-2:] == [
        "1 of 2 events loses certs (team certs)",
        "1 of 2 events would get another plan",
    ]


def test_config_is_one_routes_yaml(tmp_path: Path) -> None:
    """`check --print` prints one file of the same meaning."""
    printed = ran("check", "config", "--print").out
    (tmp_path / "one.yaml").write_text(printed, encoding="utf-8")
    (tmp_path / "one.test.yaml").write_text(CASES["routes.test.yaml"])
    assert ran("diff", "config", "one.yaml").lines == ["no plan changes: 1 event compared"]
    assert json.loads(ran("check", "config", "--print", "--format", "json").out)["file"] == "config"
