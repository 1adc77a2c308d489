"""The commands in docs/how-to/routes.md, run on the shipped files with the edit from
routes.md: they print what the pages show.

After an intended change, `make golden` updates the output in the pages.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.command import ROOT
from tests.support.golden import check_golden
from tests.support.inprocess import ran

PAGE, OPS = (ROOT / f"docs/how-to/{name}.md" for name in ("routes", "monitoring"))
SHIPPED = (ROOT / "config/routes.yaml").read_text(encoding="utf-8")

#: A block with a command, and what it prints, which may have blocks of its own.
_SHOWN = re.compile(r"^(`{3,})\n\$ ebaas-router (.*)\n((?s:.*?))^\1$", re.MULTILINE)


def edited() -> str:
    found = re.search(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    lines = found[1].splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kind) for kind in (" -", " +"))
    assert SHIPPED.count(old) == 1
    return SHIPPED.replace(old, new)


@pytest.fixture
def mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the edit and its first mistake, and the old file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "old.yaml").write_text(SHIPPED, encoding="utf-8")
    file = tmp_path / "config/routes.yaml"
    file.write_text(edited().replace("optional: [ledger]", "optional: [ledgr]"), encoding="utf-8")
    return file


def reported(mistaken: Path) -> tuple[str, str]:
    """The pages, as their commands would have them: the first is of a file whose mistake is mended
    after it. What a reload logs has the hash that `check` prints; `/status` its problem."""
    text: list[str] = []

    def run(shown: re.Match[str]) -> str:
        ticks, command = shown[1], shown[2]
        result = ran(*command.split())
        mistaken.write_text(edited(), encoding="utf-8")
        text.append(result.out + result.err)
        return f"{ticks}\n$ ebaas-router {command}\n{text[-1]}{ticks}"

    routes = _SHOWN.sub(run, PAGE.read_text(encoding="utf-8"))
    problem, printed = text[0].partition("\n")[0], text[1].partition("\n")[0].split()[-1]
    routes = re.sub(r"(?<=result=taken config=)\w+…", f"{printed}…", routes)
    ops = re.sub(r"config/routes\.yaml:\d+:[^\"\n]*", problem, OPS.read_text(encoding="utf-8"))
    return routes, ops


def test_the_pages_show_what_the_commands_say(mistaken: Path) -> None:
    """Line numbers, hashes and all."""
    for page, anew in zip((PAGE, OPS), reported(mistaken), strict=True):
        check_golden(page, anew)
    assert len(_SHOWN.findall(PAGE.read_text(encoding="utf-8"))) == 5
