"""A folder with a routes.yaml and a routes.d is one configuration, of many teams."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from router.config import loading
from router.config.files import files_of
from router.config.loading import Config
from router.config.schema import document
from router.model.errors import ConfigInvalid
from tests.support.command import ROOT
from tests.support.folders import CERTS, COMMON, FAULTS, GOOD, LEDGER, written
from tests.support.somebody import as_somebody, reachable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `config`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path("config")


def loaded(folder: Path) -> Config:
    return loading.load(folder, {}, None)


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, folder: Path) -> None:
    """Each fault is one problem or warning with its file, its place and the file's owner. A problem
    about another owner's target says which file can allow its use."""
    files, output = FAULTS[name]
    try:
        problems = loaded(written(files, folder)).warnings
    except ConfigInvalid as error:
        problems = error.problems
    assert [str(problem).removeprefix("config").removeprefix("/") for problem in problems] == [
        output
    ]


def test_it_is_one_configuration(folder: Path) -> None:
    """It has the targets and routes of all files; a route knows its file and line, and a target has
    the owner of its file."""
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


def test_common_settings_hold_for_all(folder: Path) -> None:
    """`defaults` and `egress` of routes.yaml hold for every file's targets."""
    common = f"{COMMON}defaults: {{timeout: 2s}}\negress: public\n"
    both = loaded(written({**GOOD, "routes.yaml": common}, folder))
    assert {target.timeout for target in both.table.targets.values()} == {2.0}
    assert {target.egress.public for target in both.table.targets.values()} == {True}


@pytest.mark.parametrize("share", ["team certs", "[team x, team certs]", "everybody"])
def test_share_allows_use(share: str, folder: Path) -> None:
    """The owners that `share` names may use the target; everybody is all of them."""
    intruder = CERTS.replace("[certs]", "[certs, ledger]")
    files = {**GOOD, "routes.d/certs.yaml": intruder}
    files["routes.yaml"] = f"{COMMON}share: {{ledger: {share}}}\n"
    assert set(loaded(written(files, folder)).table.targets) == {"audit", "certs", "ledger"}


def test_routes_that_need_no_share(folder: Path) -> None:
    """The common file may name all targets; two files of one owner have their targets in common."""
    more = LEDGER.partition("targets:")[0] + (
        "routes:\n  - {name: more, match: b.*, required: [ledger]}\n"
    )
    common = COMMON.replace("[audit]", "[audit, ledger]")
    files = {**GOOD, "routes.yaml": common, "routes.d/more.yaml": more}
    assert len(loaded(written(files, folder)).table.routes) == 4


def test_problems_of_all_files_at_once(folder: Path) -> None:
    """A file that is not YAML makes no false problems about its targets in the other files."""
    broken, other = FAULTS["no_yaml"][0], "version: 1\nunmatched: accept\n"
    common = COMMON.replace("[audit]", "[audit, certs]")
    written({**broken, "routes.yaml": common, "routes.d/z.yaml": other}, folder)
    with pytest.raises(ConfigInvalid) as raised:
        loaded(folder)
    assert [problem.file for problem in raised.value.problems] == [
        "config/routes.d/certs.yaml",
        "config/routes.d/z.yaml",
    ]


def test_the_report_of_many_files_is_bounded(folder: Path) -> None:
    """It names each file, and counts the rest of its problems."""
    bad = "version: 1\n" + "".join(f"k{n}: 1\n" for n in range(200))
    written({"routes.yaml": COMMON, **{f"routes.d/{n}.yaml": bad for n in range(100)}}, folder)
    with pytest.raises(ConfigInvalid) as raised:
        loaded(folder)
    assert len(raised.value.problems) == 100 * 21
    assert raised.value.problems[0].message == "has 180 more problems than are listed here"


def test_other_files_are_left_out(folder: Path) -> None:
    """Tests files, pages, hidden files and deeper files are left out; links are followed."""
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
    """The limit of one file holds for the whole folder."""
    written(GOOD, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*.y*ml"))
    monkeypatch.setattr("router.config.files.MAX_SIZE", size)
    loaded(folder)
    monkeypatch.setattr("router.config.files.MAX_SIZE", size - 1)
    with pytest.raises(ConfigInvalid, match="config: is larger than 0 MiB, all files together"):
        loaded(folder)


def test_editors_know_every_file() -> None:
    """`make docs` writes the schemas of a folder's files. They underline no file that loads, and
    underline a key that belongs into another file."""
    for path, text in GOOD.items():
        validator(path).validate(yaml.safe_load(text))
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


def test_a_closed_folder() -> None:
    """The problem names the file that could not be looked for, and the closed folder."""
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
