"""docs/routes.md: its commands are run on the shipped files with its edit, and say what it shows.

After a change that is meant, `UPDATE_GOLDEN=1 pytest tests/whole/test_routes_page.py` writes what
they say anew; read the difference.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support.command import ROOT
from tests.support.inprocess import ran

PAGE, OPS = ROOT / "docs/routes.md", ROOT / "docs/ops.md"
SHIPPED = (ROOT / "config/routes.yaml").read_text(encoding="utf-8")

#: A block with a command, and what it prints.
_SHOWN = re.compile(r"(?<=```\n)\$ ebaas-router (.*)\n((?s:.*?))(?=```)")


def edited() -> str:
    """The shipped file with the page's edit."""
    found = re.search(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    lines = found[1].splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kind) for kind in (" -", " +"))
    assert SHIPPED.count(old) == 1
    return SHIPPED.replace(old, new)


@pytest.fixture
def mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the edit is made, with its first mistake; the old file is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "old.yaml").write_text(SHIPPED, encoding="utf-8")
    file = tmp_path / "config/routes.yaml"
    file.write_text(edited().replace("optional: [ledger]", "optional: [ledgr]"), encoding="utf-8")
    return file


def told(mistaken: Path) -> tuple[str, str]:
    """Both pages, as their commands would have them: the first is of a file whose mistake is mended
    after it. What a reload logs has the hash that `check` prints; `/status` its problem."""
    said: list[str] = []

    def run(shown: re.Match[str]) -> str:
        result = ran(*shown[1].split())
        mistaken.write_text(edited(), encoding="utf-8")
        said.append(result.out + result.err)
        return f"$ ebaas-router {shown[1]}\n{said[-1]}"

    routes = _SHOWN.sub(run, PAGE.read_text(encoding="utf-8"))
    problem, printed = said[0].partition("\n")[0], said[1].partition("\n")[0].split()[-1]
    routes = re.sub(r"(?<=result=taken config=)\w+…", f"{printed}…", routes)
    ops = re.sub(r"config/routes\.yaml:\d+:[^\"\n]*", problem, OPS.read_text(encoding="utf-8"))
    return routes, ops


def test_the_pages_show_what_the_commands_say(mistaken: Path) -> None:
    """Line numbers, hashes and all."""
    for page, anew in zip((PAGE, OPS), told(mistaken), strict=True):
        shown = page.read_text(encoding="utf-8")
        if "UPDATE_GOLDEN" in os.environ:
            page.write_text(anew, encoding="utf-8")
        assert shown == anew
    assert len(_SHOWN.findall(PAGE.read_text(encoding="utf-8"))) == 5
