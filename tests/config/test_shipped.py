"""The shipped configuration passes its own tests file, which covers all of it."""

from __future__ import annotations

import json

import jsonschema
import yaml

from tests.support.command import ROOT
from tests.support.inprocess import ran

CONFIG = ROOT / "config/routes.yaml"


def test_every_case_holds_and_every_route_is_covered() -> None:
    """Every case of the shipped files holds, and every route is covered."""
    result = ran("test", "--config", CONFIG, "--fail-under", "100")
    assert (result.code, result.err) == (0, "")
    assert result.lines[-1].endswith("covered, 100 %")


def test_it_has_no_warnings() -> None:
    result = ran("check", CONFIG, "--strict")
    assert (result.code, result.err) == (0, "")
    assert [line.partition(":")[0] for line in result.lines] == [
        f"{CONFIG} is good",
        "  audit (optional)",
        f"{CONFIG.with_name('routes.test.yaml')} is good",
    ]


def test_the_shipped_tests_file_meets_the_schema() -> None:
    """An editor underlines nothing in it."""
    schema = json.loads((ROOT / "schemas/routes.test.schema.json").read_text(encoding="utf-8"))
    cases = yaml.safe_load((ROOT / "config/routes.test.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(cases)
