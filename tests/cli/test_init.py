"""`init`: a first routes.yaml, its tests and its schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.support.inprocess import complaint, ran

FILES = {"routes.yaml", "routes.test.yaml", "routes.schema.json", "routes.test.schema.json"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        (),
        *(
            ("--target", f"{name}=https://ledger.example.com/")
            for name in ("ledger", "null", "012")
        ),
        ("--target", "ledger=${URL_OF_THE_LEDGER:-http://127.0.0.1:1/}"),
    ],
)
def test_what_it_writes_is_good(given: tuple[str, ...]) -> None:
    """It passes `check --strict` and its own tests, for any name of the target. A variable is
    written as it was given, and need not be set yet."""
    assert "'ledger' is not NAME=URL" in complaint(ran("init", "--target", "ledger"), 2)
    assert (ran("init", *given).code, ran("init", *given).code) == (0, 1)
    assert {path.name for path in Path("config").iterdir()} == FILES
    for command in (("check", "--strict"), ("test", "--fail-under", "100")):
        result = ran(*command)
        assert (result.code, result.err) == (0, "")


def test_an_editor_finds_the_schemas() -> None:
    """Each file's first line names the schema that stands beside it."""
    ran("init", "mine")
    for name in ("routes", "routes.test"):
        line = Path("mine", f"{name}.yaml").read_text("utf-8").splitlines()[0]
        schema = line.removeprefix("# yaml-language-server: $schema=")
        assert Path("mine", schema).is_file()
        assert schema == f"{name}.schema.json"


def test_it_replaces_nothing() -> None:
    """If one of the files exists, nothing is written."""
    Path("config").mkdir()
    Path("config/routes.test.yaml").write_text("mine")
    result = ran("init")
    assert result.code == 1
    assert result.err == (
        "ebaas-router: config/routes.test.yaml is there already; nothing was written\n"
    )
    assert [path.name for path in Path("config").iterdir()] == ["routes.test.yaml"]


@pytest.mark.parametrize(
    ("folder", "why"), [("a" * 300, "file name too long"), ("file/config", "not a directory")]
)
def test_a_folder_that_can_not_be_is_named(folder: str, why: str) -> None:
    Path("file").touch()
    assert complaint(ran("init", folder), 3) == f"ebaas-router: {folder} can't be written: {why}"


def test_schemas_are_schemas_and_say_which(tmp_path: Path) -> None:
    """All are written, in place of older ones; each is valid and has an `$id` of its own."""
    (tmp_path / "routes.schema.json").write_text("old")
    (tmp_path / "routes.yaml").write_text("kept")
    assert ran("init", "--schemas", tmp_path).code == 0
    schemas = [json.loads(each.read_text()) for each in tmp_path.glob("*.json")]
    for schema in schemas:
        jsonschema.validators.validator_for(schema).check_schema(schema)
        assert schema["$id"].startswith("urn:ebaas-router:")
    assert len({schema["$id"] for schema in schemas}) == 5
    assert yaml.safe_load((tmp_path / "openapi.yaml").read_text())["webhooks"]
    assert (tmp_path / "routes.yaml").read_text() == "kept"
