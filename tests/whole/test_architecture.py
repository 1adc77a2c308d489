"""The rules of the house that no other tool checks, and the pages that describe it."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hatch_build
from router.config.settings import SETTINGS
from tests.support.command import PATIENCE, ROOT, shipped

ROUTER = ROOT / "router"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *shipped("docs", "*.md")])

#: A hop of the drawing: what is called, and the file that it is in.
_HOP = re.compile(r"^ .{29}([A-Z]\w+(?:\.\w+)?|reply_to) +(\S+\.py) ", re.MULTILINE)
#: A file or a folder as pages name it, and where a link goes.
_PATH = re.compile(r"`([a-z0-9_./-]+/[a-z0-9_.-]*\.(?:py|sql)|[a-z_]+/(?:[a-z_]+/)+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#([^)]*))?\)")


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports at the top of a file are complete, whichever file is imported first."""
    files = {module_of(file): file for file in ROUTER.rglob("*.py")}
    imports = {module: imported_at_the_top(file) & files.keys() for module, file in files.items()}
    graphlib.TopologicalSorter(imports).prepare()


def test_every_setting_is_read() -> None:
    """A setting that no module reads would have no effect."""
    read: set[str] = set()
    for file in ROUTER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("settings"):
                read.add(node.attr)
    assert SETTINGS.keys() - read == set()


def test_no_compiled_module_has_a_cached_property() -> None:
    """mypyc makes it a plain property, which is computed at each access."""
    texts = {module: (ROUTER / f"{module}.py").read_text() for module in hatch_build.MODULES}
    assert [module for module, text in texts.items() if "cached_property" in text] == []


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_the_top(file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}" for name in node.names}
            modules = {name for name in names if is_module(name)}
            found |= modules or {node.module}
    return found


def is_module(name: str) -> bool:
    """Return whether it is a module, not a name in one."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_an_event_passes_the_hops_in_their_order() -> None:
    """A profiled event passes these files in order, and not too many others."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.walk"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    *files, _, summary = done.stdout.splitlines()
    hops = list(dict.fromkeys(file for _, file in _HOP.findall(PAGE)))
    assert [file for file in files if file in hops] == hops
    passed, changes = map(int, re.findall(r"\d+", summary))
    assert passed < 41
    assert changes < 207


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files and folders, from the top or from `router/`; links, and the titles that they go to."""
    text = page.read_text()
    named = {path for path in _PATH.findall(text) if not path.startswith("/")}
    assert {
        path for path in named if not any((top / path).exists() for top in (ROOT, ROUTER))
    } == set()
    for link, anchor in _LINK.findall(text):
        assert (page.parent / link).exists(), link
        if anchor:
            assert anchor in titles(page.parent / link), (link, anchor)


def titles(page: Path) -> set[str]:
    """The anchors of a page's titles, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}
