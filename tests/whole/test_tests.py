"""What contributors are told by a run of the tests, and need for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import golden
from tests.support.command import PATIENCE, ROOT, environment


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = environment()
    environ.pop("LONG", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def test_a_run_says_in_one_line_what_was_skipped_and_why() -> None:
    """However many there are, by their reason."""
    finished = python("-m", "pytest", "-n", "0", "-q", "tests/whole/test_ci_files.py")
    assert finished.returncode == 0, finished.stdout
    lines = [line for line in finished.stdout.splitlines() if "skipped" in line]
    assert len(lines) == 1
    assert lines[0].startswith("skipped ")
    assert lines[0].endswith(" (in make test-long)")


def test_the_contract_is_tested_without_foreign_servers() -> None:
    """They are for `make test-long`; where one is not installed, the others run."""
    without = "import sys; sys.modules.update(granian=None, hypercorn=None)"
    for name in ("contract.test_contract", "process.test_servers", "whole.test_contract_page"):
        finished = python("-c", f"{without}; import tests.{name}")
        assert finished.returncode == 0, finished.stderr


def test_a_kept_text_that_differs_says_how_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, beside what differs."""
    monkeypatch.setattr(golden, "ROOT", tmp_path)
    monkeypatch.setattr(golden, "UPDATING", False)
    kept = tmp_path / "kept.txt"
    kept.write_text("one\ntwo\n")
    with pytest.raises(pytest.fail.Exception, match=r"kept\.txt: .* `make golden` writes it anew"):
        golden.check_golden(kept, "one\n2\n")
    monkeypatch.setattr(golden, "UPDATING", True)
    golden.check_golden(kept, "one\n2\n")
    assert kept.read_text() == "one\n2\n"
