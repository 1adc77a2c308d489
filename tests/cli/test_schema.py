"""`init --schemas` and `--completion`: files that other programs read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from router.cli import COMMANDS
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


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    """In a real bash: each command by its beginning, an option, and what its value may be."""
    script = tmp_path / "completion"
    script.write_text(ran("--completion", "bash").out)

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
    """No command is missing in their scripts."""
    script = ran("--completion", shell).out
    assert [name for name in COMMANDS if name not in script] == []
