"""ARCHITECTURE.md and the house say the same."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from bench.profile import HOPS
from tests.support.command import PATIENCE, ROOT

ROUTER = ROOT / "router"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
#: Not those of the packages that `make receivers` fetches.
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if "node_modules" not in page.parts
]

#: A hop of the drawing: what is called, and the file that it is in.
_HOP = re.compile(r"^ .{29}([A-Z]\w+(?:\.\w+)?|reply_to) +(\S+\.py) ", re.MULTILINE)
#: A file or a folder as pages name it, and where a link goes.
_PATH = re.compile(r"`([a-z0-9_./-]+/[a-z0-9_.-]*\.(?:py|sql)|[a-z_]+/(?:[a-z_]+/)+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#([^)]*))?\)")


def rows(title: str) -> list[list[str]]:
    """The cells of the one table below this title, without its head."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


@cache
def defined() -> dict[str, set[str]]:
    """Every class, function and `Class.method` of the router, and the files that have it."""
    found: dict[str, set[str]] = {}
    for file in ROUTER.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = node.body if isinstance(node, ast.ClassDef) else []
                methods = (each.name for each in inner if hasattr(each, "name"))
                for name in (node.name, *(f"{node.name}.{method}" for method in methods)):
                    found.setdefault(name, set()).add(str(file.relative_to(ROUTER)))
    return found


def test_the_rooms_are_the_layers() -> None:
    """Floor by floor as import-linter has them, and each is there."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [
        each["layers"] for each in contracts["contracts"] if each["name"] == "Imports go down"
    ]
    told = [re.findall(r"`([^`]+)`", rooms) for _, rooms, _ in rows("The rooms")]
    assert [" | ".join(re.sub(r"/$|\.py$", "", room) for room in floor) for floor in told] == layers
    assert [room for floor in told for room in floor if not (ROUTER / room).exists()] == []
    numbers = [int(number) for number, _, _ in rows("The rooms")]
    assert numbers == [*range(len(layers), 0, -1)]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Whichever is imported first: what a file imports at its top is whole by then."""
    files = {module_of(file): file for file in ROUTER.rglob("*.py")}
    imports = {module: imported_at_the_top(file) & files.keys() for module, file in files.items()}
    graphlib.TopologicalSorter(imports).prepare()


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
    """Whether it is a module, and no name that one has."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_entry_of_the_router_is_a_room_of_the_page() -> None:
    """At most twenty of them, so that a newcomer can read the list."""
    entries = {each.name for each in ROUTER.iterdir() if each.name != "__pycache__"}
    told = {
        room.strip("/")
        for _, rooms, _ in rows("The rooms")
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    assert entries - told <= {"__init__.py", "py.typed"}
    assert len(entries) <= 20


def test_every_word_has_its_class() -> None:
    """What the page gives a class for is one, in one file alone."""
    classes = [cell.strip("`") for _, _, cell in rows("The words") if cell]
    assert len(classes) > 15
    assert {
        name: defined().get(name) for name in classes if len(defined().get(name, ())) != 1
    } == {}


def test_every_hop_is_where_the_page_says() -> None:
    """What is called, and in which file."""
    hops = _HOP.findall(PAGE)
    assert len(hops) == 6
    assert [hop for hop in hops if hop[1] not in defined().get(hop[0], ())] == []


def test_an_event_passes_the_hops_in_their_order() -> None:
    """By what a profiler sees of a real one, which goes through no more files than it should."""
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


#: A file as comments name it, and a module that is to be run.
_MODULE = re.compile(r"\b([a-z_]+(?:/[a-z_]+)*\.py)\b")


def test_every_file_that_a_comment_names_is_there() -> None:
    """A file that has moved or has another name now is named by that."""
    sources = [*ROUTER.rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    names = {
        str(each) for top in (ROUTER, ROOT / "tests", ROOT / "bench") for each in top.rglob("*.py")
    }
    stale = [
        (str(source.relative_to(ROOT)), named)
        for source in sources
        for named in _MODULE.findall(source.read_text())
        if not any(name.endswith("/" + named) for name in names)
    ]
    assert stale == []


def test_the_profile_knows_the_files_of_each_hop() -> None:
    """A file that has moved is no hop's any more, and its time would be nobody's."""
    files = [str(each.relative_to(ROOT)) for each in ROUTER.rglob("*.py")]
    named = [part for parts in HOPS.values() for part in parts if part.startswith("router/")]
    assert [part for part in named if not any(file.startswith(part) for file in files)] == []
