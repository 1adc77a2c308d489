"""The Chinese pages and the English ones: commands, tables, figures and links are the same, section
by section. What sentences say no test can hold.

After a change of the English code blocks `make golden` copies them; their comments are translated
by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
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

#: Of both pages, as messages have them.
NAMES = {
    page: f"{english.relative_to(ROOT)} and {page.relative_to(ROOT)}"
    for page, english in ENGLISH.items()
}

_BLOCK = re.compile(r"^(`{3,})(\w*)\n.*?^\1$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=\s))[ ]*(?:#|//) .*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")
_CODE = re.compile(r"`(?:[^`\n]|\n(?!\n))+`")
_FIGURE = re.compile(r"\d(?:[\d,.]*\d)?")


def sections(page: Path) -> Iterator[tuple[str, str]]:
    """Each title with what is below it; what is above the first has none."""
    text = page.read_text("utf-8")
    blocks = [found.span() for found in _BLOCK.finditer(text)]
    starts = [
        found.start()
        for found in re.finditer(r"^#+ ", text, re.MULTILINE)
        if not any(start <= found.start() < end for start, end in blocks)
    ]
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        title, _, below = text[start:end].partition("\n")
        yield (title, below) if title.startswith("#") else ("", text[start:end])


def code_blocks(text: str) -> list[str]:
    """Without the spare blanks and the comments, which each language has in its own words."""
    without = (re.sub(_COMMENT, "", found[0]) for found in _BLOCK.finditer(text))
    return [re.sub(r"[ ]+$", "", block, flags=re.MULTILINE) for block in without]


def shown(page: Path, text: str) -> dict[str, list[str]]:
    """Return the parts that both languages have in the same way, by kind."""
    prose = _BLOCK.sub("", text)
    goes = [
        (page.parent / link).resolve()
        for link, _ in _LINK.findall(prose)
        if link and "://" not in link
    ]
    cells = Counter(line.count("|") - 1 for line in prose.splitlines() if line.startswith("|"))
    unlinked = _LINK.sub("]", prose)
    code = {re.sub(r"\s+", " ", span) for span in _CODE.findall(unlinked)}
    return {
        "code blocks (`make golden` copies them)": code_blocks(text),
        "code": sorted(code),
        "rows of tables": [f"{number} of {each} cells" for each, number in sorted(cells.items())],
        "figures": sorted({*_FIGURE.findall(_CODE.sub("", unlinked))}),
        "links": sorted({str(ENGLISH.get(link, link).relative_to(ROOT)) for link in goes}),
    }


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_chinese_page_has_what_the_english_has(page: Path) -> None:
    """Section by section; where one was changed alone the message says what the other one lacks."""
    english = ENGLISH[page]
    if UPDATING:
        copy_blocks(english, page)
    theirs, ours = list(sections(english)), list(sections(page))
    levels = [[title.partition(" ")[0] for title, _ in each] for each in (theirs, ours)]
    titles = zip_longest(*map(dict, (theirs, ours)), fillvalue="none")
    listed = "\n".join(map(" / ".join, titles))
    assert levels[0] == levels[1], f"{NAMES[page]} have different titles:\n{listed}"
    differ = ""
    for (title, text), (chinese, meant) in zip(theirs, ours, strict=True):
        in_english, in_chinese = shown(english, text), shown(page, meant)
        for what in in_english:
            if in_english[what] != in_chinese[what]:
                lacks = difference(in_english[what], in_chinese[what])
                differ += f"\n{title!r} and {chinese!r}, {what}:{lacks}"
    assert not differ, f"{NAMES[page]} differ; update the one that is behind.{differ}"


def difference(english: list[str], chinese: list[str]) -> str:
    """Describe the parts that only one page has, or both lists if only the order differs."""
    missing = {
        "only in English": [each for each in english if each not in chinese],
        "only in Chinese": [each for each in chinese if each not in english],
    }
    if not any(missing.values()):
        missing = {"in English": english, "in Chinese": chinese}
    return "".join(f"\n  {where}: {', '.join(what)}" for where, what in missing.items() if what)


def copy_blocks(english: Path, page: Path) -> None:
    """Give the Chinese page those code blocks of the English one that differ, where it has as
    many."""
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
