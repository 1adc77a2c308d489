"""The Chinese pages and the English ones: commands, tables, figures and links are the same. What
sentences say no test can hold.

After a change of the English code blocks `make golden` copies them; their comments are translated
by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.command import ROOT
from tests.support.golden import UPDATING

CHINESE = ROOT / "docs/zh-CN"

#: Where the English page of a Chinese one may be.
FOLDERS = ("docs/how-to", "docs/reference", "docs")

#: The English page of each Chinese one.
ENGLISH = {
    ROOT / "README.zh-CN.md": ROOT / "README.md",
    **{
        page: next(ROOT / each for each in FOLDERS if (ROOT / each / page.name).exists())
        / page.name
        for page in sorted(CHINESE.glob("*.md"))
        if page.name != "README.md"
    },
}

_BLOCK = re.compile(r"^(`{3,})(\w*)\n.*?^\1$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=\s))[ ]*(?:#|//) .*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")
_CODE = re.compile(r"`(?:[^`\n]|\n(?!\n))+`")
_FIGURE = re.compile(r"\d(?:[\d,.]*\d)?")


def code_blocks(text: str) -> list[str]:
    """Without the spare blanks and the comments, which each language has in its own words."""
    without = (re.sub(_COMMENT, "", found[0]) for found in _BLOCK.finditer(text))
    return ["\n".join(line.rstrip() for line in block.splitlines()) for block in without]


def shown(page: Path) -> list[str]:
    """Return the parts of each section that both languages have in the same way."""
    text = page.read_text("utf-8")
    prose = _BLOCK.sub("", text)
    parts = [f"code block, copied by `make golden`: {block}" for block in code_blocks(text)]
    for number, section in enumerate(re.split(r"^(?=#+ )", prose, flags=re.MULTILINE)):
        levels = re.findall("^#+", section)
        links = [link for link, _ in _LINK.findall(section) if link and "://" not in link]
        places = {(page.parent / link).resolve() for link in links}
        rows = Counter(line.count("|") for line in section.splitlines() if line.startswith("|"))
        unlinked = _LINK.sub("]", section)
        each = {
            *(f"title {level}" for level in levels),
            *(f"code {' '.join(span.split())}" for span in _CODE.findall(unlinked)),
            *(f"{count} rows with {bars} bars" for bars, count in rows.items()),
            *(f"figure {figure}" for figure in _FIGURE.findall(_CODE.sub("", unlinked))),
            *(f"link {ENGLISH.get(place, place).relative_to(ROOT)}" for place in places),
        }
        parts += sorted(f"section {number}: {part}" for part in each)
    return parts


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_chinese_page_has_what_the_english_has(page: Path) -> None:
    """Section by section; where one was changed alone the message says what the other one lacks."""
    if UPDATING:
        copy_blocks(ENGLISH[page], page)
    theirs, ours = shown(ENGLISH[page]), shown(page)
    lacks = {
        "only in English": [part for part in theirs if part not in ours],
        "only in Chinese": [part for part in ours if part not in theirs],
    }
    assert theirs == ours, f"update the page that is behind: {lacks}"


def copy_blocks(english: Path, page: Path) -> None:
    """Copy the English code blocks that differ, if the Chinese page has as many."""
    text, meant = english.read_text("utf-8"), page.read_text("utf-8")
    theirs, ours = ([found[0] for found in _BLOCK.finditer(each)] for each in (text, meant))
    if len(theirs) == len(ours):
        anew = (
            new if code_blocks(new) != code_blocks(old) else old
            for new, old in zip(theirs, ours, strict=True)
        )
        page.write_text(_BLOCK.sub(lambda _: next(anew), meant), "utf-8")


def test_each_readme_leads_to_the_other_on_its_first_line() -> None:
    """So that who reads one language alone finds it."""
    for page, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        first = (ROOT / page).read_text("utf-8").partition("\n")[0]
        assert f"]({other})" in first


def test_every_word_has_one_in_chinese() -> None:
    """Each of ARCHITECTURE.md's is in docs/zh-CN/README.md, in the same order."""
    page = (CHINESE / "README.md").read_text("utf-8")
    words = re.findall(r"^\|([a-z ]+)\|[\u4e00-\u9fff]+\|", page, re.MULTILINE)
    section = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("\n## The words\n")[1]
    _, *english = re.findall(r"^\|([a-z ]+)\|", section.split("\n## ")[0], re.MULTILINE)
    missing = [word for word in english if word not in words]
    assert not missing, f"docs/zh-CN/README.md has no Chinese for {', '.join(missing)}"
    assert words[: len(english)] == english
    assert len(set(words)) == len(words)
