"""The page's files: small, without links to other hosts, and in two languages."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from shutil import copytree, which
from subprocess import run

import pytest

from router.model.event import Reason
from router.ops.problems import PROBLEMS
from router.ops.status import CAUSES, REFUSED
from tests.support.command import ROOT

PAGE = ROOT / "router" / "ops" / "page"

#: Without the library, which is as it was published.
MODULES = sorted(set(PAGE.rglob("*.js")) - set(PAGE.glob("vendor/*")))

#: A line of the table of words.
_LINE = re.compile(r'^  ("[a-z_0-9.]+"): (\[".*"\]),$')

#: A value in the words, or a word chosen by a number.
_VALUE = re.compile(r"\{(\w+)(?:\|[^}]*)?\}")


@cache
def words() -> dict[str, tuple[str, str]]:
    """Return the texts of the page by their keys, in English and in Chinese."""
    lines = [line for table in tables("WORDS") for line in table.splitlines() if line]
    found = [_LINE.match(line) for line in lines]
    assert None not in found
    pairs = [(json.loads(each[1]), json.loads(each[2])) for each in found if each]
    assert len(dict(pairs)) == len(pairs), "a key is there twice"
    return dict(pairs)


def tables(name: str) -> list[str]:
    """Return the lines of a table: first those that the first view needs, then the others."""
    sources = [(PAGE / file).read_text() for file in ("words.js", "rooms/words.js")]
    begins = rf"(?:export const {name} = |Object.assign\({name}, ){{\n(.*?)\n}}\)?;"
    return [found[1] for text in sources if (found := re.search(begins, text, re.DOTALL))]


def test_both_languages_have_every_text() -> None:
    """With the same values in them."""
    for key, (english, chinese) in words().items():
        assert english, key
        assert chinese.strip() or not english.strip(), key
        # A word that English chooses by a number has no place in Chinese.
        chosen = set(re.findall(r"\{(\w+)\|", english))
        shown = set(re.findall(r"\{(\w+)\}", english))
        assert set(_VALUE.findall(chinese)) >= shown - chosen, key
        assert set(_VALUE.findall(chinese)) <= shown | chosen, key


def test_every_text_is_used_and_every_used_text_exists() -> None:
    """By its key, or by a part of a key that ends with a value of the API."""
    code = "\n".join(each.read_text() for each in MODULES if each.name != "words.js")
    used = set(re.findall(r"\b(?:text|textNodes)\('([\w.]+)'", code))
    assert used - words().keys() == set()
    quoted = set(re.findall(r"'([\w.]+)'", code))
    begun = tuple(re.findall(r"`([a-z_.]+\.)\$\{", code))
    ended = tuple(re.findall(r"`\$\{\w+\}(\.\w+)`", code))
    left = {key for key in words() if not key.startswith(begun) and not key.endswith(ended)}
    assert left - quoted == set()


def test_every_reason_has_an_advice() -> None:
    """Except for the two that need no action."""
    for reason in Reason:
        assert f"reason.{reason}" in words()
        assert reason in (Reason.ACKNOWLEDGED, Reason.PAUSED) or f"do.{reason}" in words()


@pytest.mark.parametrize(
    ("table", "sentences"),
    [
        ("CAUSES", CAUSES),
        ("REFUSED", REFUSED),
        ("PROBLEMS", {code: sentence for code, (_, sentence) in PROBLEMS.items()}),
    ],
)
def test_the_routers_sentences_exist_in_chinese(table: str, sentences: Mapping[str, str]) -> None:
    """For each code of a cause or problem, with parameters that the router sends."""
    chinese = json.loads(f"{{{tables(table)[-1].strip().rstrip(',')}}}")
    assert chinese.keys() == sentences.keys()
    for code, sentence in chinese.items():
        fields = set(re.findall(r"{(\w+)", sentences[code]))
        assert set(_VALUE.findall(sentence)) <= fields, code


@pytest.mark.skipif(which("node") is None, reason="needs Node.js")
def test_logic(tmp_path: Path) -> None:
    """In Node, which takes the files as modules because of the folder's package.json."""
    page = copytree(PAGE, tmp_path / "page")
    (page / "package.json").write_text('{"type": "module"}')
    done = run(
        ["node", "--test", str(ROOT / "tests/page")],
        env={**os.environ, "PAGE": str(page)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_page_is_small_and_needs_no_other_host() -> None:
    """Under 66 KB as it is sent; and it has no inline scripts or styles."""
    files = {each.name: each.read_text() for each in PAGE.rglob("*.*") if each.suffix != ".txt"}
    assert sum(len(gzip.compress(each.encode(), 6)) for each in files.values()) < 66_000
    for name, text in files.items():
        hosts = re.findall(r"\bhttps?://[\w.]+", text)
        assert set(hosts) <= {"http://www.w3.org"}, name
    index = files["index.html"]
    assert re.search(r"<script[^>]*>[^<]|<style|\son\w+=|\sstyle=", index) is None


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PAGE)))
def test_text_is_never_parsed_as_html(module: Path) -> None:
    """No module parses HTML or code, and all imports exist."""
    code = module.read_text()
    ways = r"[iI]nnerHTML|outerHTML|AdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
    assert re.search(ways, code) is None
    for name in re.findall(r"(?:from |import\()'(\.[^']+)'", code):
        assert (module.parent / name).is_file(), name


def test_no_import_or_export_is_unused() -> None:
    """A module uses its imports, and another one imports its exports."""
    code = {path: path.read_text() for path in MODULES}
    imported = {
        path: [name.strip().split(" as ") for names in found for name in names.split(",")]
        for path, text in code.items()
        for found in [re.findall(r"import {([^}]*)}\s+from", text)]
    }
    for path, text in code.items():
        for name in imported[path]:
            assert len(re.findall(rf"\b{name[-1]}\b", text)) > 1, (path.name, name)
        for name in re.findall(r"export (?:async )?(?:function|const|class) (\w+)", text):
            others = [each[0] for other in MODULES if other != path for each in imported[other]]
            assert name in others, (path.name, name)
