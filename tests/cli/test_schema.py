"""`init --schemas`: files that other programs read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import yaml

from tests.support.inprocess import ran


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
