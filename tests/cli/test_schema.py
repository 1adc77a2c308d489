"""`schema` and `completion`: what other programs read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from router.cli import COMMANDS
from tests.support.inprocess import ran


@pytest.mark.parametrize("name", ["callback", "routes", "common", "team", "tests"])
def test_schemas_are_schemas_and_say_which(name: str) -> None:
    """Each is valid and has an `$id` of its own."""
    schema = json.loads(ran("schema", name).out)
    jsonschema.validators.validator_for(schema).check_schema(schema)
    assert schema["$id"].startswith("urn:ebaas-router:")


def test_openapi_is_printed_whole() -> None:
    """The document of this version."""
    assert yaml.safe_load(ran("schema", "openapi").out)["webhooks"]


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    """In a real bash: each command by its beginning, an option, and what its value may be."""
    script = tmp_path / "completion"
    script.write_text(ran("completion", "bash").out)

    def completed(*words: str) -> list[str]:
        line = " ".join(repr(word) for word in ("ebaas-router", *words))
        asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_ebaas_router"
        answered = subprocess.run(
            ["bash", "-c", f'source {script}; {asked}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True,
            text=True,
            check=True,
        )
        return answered.stdout.split()

    assert set(COMMANDS) <= set(completed(""))
    assert completed("deli") == ["deliveries"]
    assert completed("deliveries", "list", "--sta") == ["--state"]
    assert "dead" in completed("deliveries", "list", "--state", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command(shell: str) -> None:
    """None is missing in what they read."""
    script = ran("completion", shell).out
    assert [name for name in COMMANDS if name not in script] == []
