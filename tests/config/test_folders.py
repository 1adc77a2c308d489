"""A folder with a routes.yaml and a routes.d is one configuration, of many teams."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from router.config import loading
from router.config.files import files_of
from router.config.loading import Config
from router.config.schema import Name, document
from router.model.errors import ConfigInvalid
from tests.support.command import ROOT
from tests.support.effort import LONG
from tests.support.folders import CERTS, COMMON, FAULTS, GOOD, LEDGER, written
from tests.support.somebody import as_somebody, reachable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `config` is, which is how problems name it."""
    monkeypatch.chdir(tmp_path)
    return Path("config")


def loaded(folder: Path) -> Config:
    return loading.load(folder, {}, None)


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, folder: Path) -> None:
    """Each way to get it wrong is one problem or warning with its file, its place and the file's
    owner; who needs another's leave is told who can give it."""
    files, said = FAULTS[name]
    try:
        found = loaded(written(files, folder)).warnings
    except ConfigInvalid as error:
        found = error.problems
    assert [str(problem).removeprefix("config").removeprefix("/") for problem in found] == [said]


def test_it_is_one_configuration(folder: Path) -> None:
    """Targets and routes of all files are together; each route knows its file and line, and a
    target without an owner of its own has the file's."""
    both = loaded(written(GOOD, folder))
    assert both.warnings == ()
    assert {name: target.owner for name, target in both.table.targets.items()} == {
        "audit": "",
        "certs": "team certs",
        "ledger": "team ledger",
    }
    assert {route.name: route.where for route in both.table.routes} == {
        "certificates": "config/routes.d/certs.yaml:6",
        "everything to the ledger": "config/routes.d/ledger/routes.yml:6",
        "for the auditors": "config/routes.yaml:5",
    }


def test_what_is_everybodys_goes_for_all(folder: Path) -> None:
    """`defaults` and `egress` of routes.yaml are those of every file's targets."""
    common = f"{COMMON}defaults: {{timeout: 2s}}\negress: public\n"
    both = loaded(written({**GOOD, "routes.yaml": common}, folder))
    assert {target.timeout for target in both.table.targets.values()} == {2.0}
    assert {target.egress.public for target in both.table.targets.values()} == {True}


@pytest.mark.parametrize("share", ["team certs", "[team x, team certs]", "everybody"])
def test_leave_lets_another_in(share: str, folder: Path) -> None:
    """Whom `share` names may use the target; everybody are all."""
    intruder = CERTS.replace("[certs]", "[certs, ledger]")
    files = {**GOOD, "routes.d/certs.yaml": intruder}
    files["routes.yaml"] = f"{COMMON}share: {{ledger: {share}}}\n"
    assert set(loaded(written(files, folder)).table.targets) == {"audit", "certs", "ledger"}


def test_routes_of_everybodys_file_need_no_leave(folder: Path) -> None:
    """Who may give leave needs none; and two files of one owner share their targets."""
    more = LEDGER.partition("targets:")[0] + (
        "routes:\n  - {name: more, match: b.*, required: [ledger]}\n"
    )
    common = COMMON.replace("[audit]", "[audit, ledger]")
    files = {**GOOD, "routes.yaml": common, "routes.d/more.yaml": more}
    assert len(loaded(written(files, folder)).table.routes) == 4


def test_every_file_is_told_of_at_once(folder: Path) -> None:
    """All problems of all files come together, and a file that is no YAML makes no false ones of
    what the others name."""
    broken, other = FAULTS["no_yaml"][0], "version: 1\nunmatched: accept\n"
    common = COMMON.replace("[audit]", "[audit, certs]")
    written({**broken, "routes.yaml": common, "routes.d/z.yaml": other}, folder)
    with pytest.raises(ConfigInvalid) as raised:
        loaded(folder)
    assert [problem.file for problem in raised.value.problems] == [
        "config/routes.d/certs.yaml",
        "config/routes.d/z.yaml",
    ]


def test_many_bad_files_are_told_of_in_bounds(folder: Path) -> None:
    """However many files have however many problems, the report has an end, and names each."""
    bad = "version: 1\n" + "".join(f"k{n}: 1\n" for n in range(200))
    written({"routes.yaml": COMMON, **{f"routes.d/{n}.yaml": bad for n in range(100)}}, folder)
    with pytest.raises(ConfigInvalid) as raised:
        loaded(folder)
    assert len(raised.value.problems) == 100 * 21
    assert raised.value.problems[0].message == "has 180 more problems than are listed here"


def test_what_is_beside_is_no_part_of_it(folder: Path) -> None:
    """Tests files, pages, hidden files and whatever is deeper are left out; links are followed."""
    written(GOOD, folder)
    before = loaded(folder).hash
    beside = ("routes.d/certs.test.yaml", "routes.d/README.md", "routes.d/.certs.yaml.swp")
    for name in (*beside, "routes.d/..data/certs.yaml", "routes.d/a/b/c.yaml", "other.yaml"):
        written({name: "no: yaml: at all"}, folder)
    assert loaded(folder).hash == before
    (folder / "routes.d/certs.yaml").rename(folder.parent / "elsewhere.yaml")
    (folder / "routes.d/certs.yaml").symlink_to("../../elsewhere.yaml")
    assert loaded(folder).hash == before


def test_the_hash_is_over_all_files(folder: Path) -> None:
    """A byte in any file makes another hash, and so does a file more."""
    hashes = {loaded(written(GOOD, folder)).hash}
    for name, text in GOOD.items():
        hashes.add(loaded(written({**GOOD, name: f"{text}# more\n"}, folder)).hash)
    written({**GOOD, "routes.d/z.yaml": "version: 1\n"}, folder)
    assert len({*hashes, loaded(folder).hash}) == 5


def test_all_files_together_have_the_size_of_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one file may not have, a hundred files may not have either."""
    written(GOOD, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*.y*ml"))
    monkeypatch.setattr("router.config.files.MAX_SIZE", size)
    loaded(folder)
    monkeypatch.setattr("router.config.files.MAX_SIZE", size - 1)
    with pytest.raises(ConfigInvalid, match="config: is larger than 0 MiB, all files together"):
        loaded(folder)


def test_editors_know_every_file() -> None:
    """The schemas are what the loader reads by, underline no file that loads, and underline what
    belongs into another file."""
    derived: list[Name] = ["routes.common", "routes.team"]
    for each in derived:
        schema = (ROOT / f"schemas/{each}.schema.json").read_text(encoding="utf-8")
        assert json.loads(schema) == document(each), "make docs writes it anew"
    for name, text in GOOD.items():
        validator(name).validate(yaml.safe_load(text))
    odd = yaml.safe_load(FAULTS["what_is_everybodys"][0]["routes.d/certs.yaml"])
    assert not validator("routes.d/certs.yaml").is_valid(odd)
    shared = yaml.safe_load(f"{COMMON}share: {{ledger: everybody, audit: [team certs]}}\n")
    validator("routes.yaml").validate(shared)


def validator(name: str) -> jsonschema.Draft7Validator:
    schema = document("routes.common" if name == "routes.yaml" else "routes.team")
    return jsonschema.Draft7Validator(schema)


def test_the_page_shows_a_folder_that_loads(folder: Path, tmp_path: Path) -> None:
    """The files in docs/how-to/teams.md load without a warning, but not without their `share`."""
    page = (ROOT / "docs/how-to/teams.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"```yaml\n# config/(\S+)\n(.*?)```", page, re.DOTALL))
    assert len(files) == 3
    (tmp_path / "ledger-signing").write_text("whsec_" + "c2VjcmV0" * 5)
    (tmp_path / "ledger-signing").chmod(0o600)
    both = loading.load(written(files, folder), {}, tmp_path)
    assert (len(both.table.routes), both.warnings) == (2, ())
    written({"routes.yaml": files["routes.yaml"].partition("share:")[0]}, folder)
    with pytest.raises(ConfigInvalid, match="can let 'team certificates' use it"):
        loading.load(folder, {}, tmp_path)


def test_a_closed_folder_is_told_by_what_was_looked_for() -> None:
    """Whoever may not enter it can't tell whether there is a routes.yaml."""
    with reachable() as top:
        folder = written({"routes.yaml": "version: 1"}, top / "conf")
        teams = folder / "routes.d"
        teams.mkdir()
        for closed, named in ((folder, "routes.yaml"), (teams, "routes.d")):
            closed.chmod(0)
            with as_somebody(), pytest.raises(ConfigInvalid, match="can't be read") as refused:
                files_of(folder)
            closed.chmod(0o755)
            [problem] = refused.value.problems
            assert problem.file == str(folder / named)
            assert f"permission denied: the folder '{closed}' has" in problem.message


def test_many_files_load_as_one_does(tmp_path: Path) -> None:
    """200 files take about as long as one that has all of it, and give the same table."""
    routes, files = (50 if LONG else 5), {"routes.yaml": "version: 1\n"}
    parts = {"targets": "", "routes": ""}
    for team in range(200):
        target = f"  t{team}: {{url: 'http://127.0.0.1/'}}\n"
        rules = "".join(
            f"  - {{name: r{team}-{n}, match: a{team}.{n}.*, required: [t{team}]}}\n"
            for n in range(routes)
        )
        files[f"routes.d/{team}.yaml"] = (
            f"version: 1\nowner: team {team}\ntargets:\n{target}routes:\n{rules}"
        )
        parts = {"targets": parts["targets"] + target, "routes": parts["routes"] + rules}
    text = f"version: 1\ntargets:\n{parts['targets']}routes:\n{parts['routes']}"
    one = written({"routes.yaml": text}, tmp_path / "one") / "routes.yaml"
    many = written(files, tmp_path / "many")

    def took(path: Path) -> float:
        started = time.process_time()
        loaded(path)
        return time.process_time() - started

    assert loaded(one).table.routes == loaded(many).table.routes
    assert min(took(many) for _ in range(3)) < 2 * min(took(one) for _ in range(3))
