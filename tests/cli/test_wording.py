"""The words of commands in two languages: which is chosen, and that both say the same."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

import pytest

from router.cli.trying.probe.words import PROBE_WORDS
from router.cli.trying.receive import RECEIVE_WORDS
from router.cli.wording import Table, Wording, add_language, read_language
from router.contract.signing import Signer
from router.model.event import Reason
from router.model.secret import Secret
from tests.support.command import ROOT

#: Each table of words, and where they are said.
TABLES = {
    "probe": (PROBE_WORDS, sorted((ROOT / "router/cli/trying/probe").glob("*.py"))),
    "receive": (
        RECEIVE_WORDS,
        [ROOT / "router/cli/trying" / name for name in ("receive.py",)],
    ),
}

#: What keys begin with that are put together.
_FAMILIES = ("again.", "grade.", "mend.", "reason.", "why.")

#: The texts that are the same in every language but for their punctuation.
_NO_WORDS = ("answered", "comma", "detail", "a 4xx")


@pytest.mark.parametrize(
    ("option", "environ", "language"),
    [
        ([], {}, "en"),
        ([], {"LANG": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "zh"}, "zh"),
        ([], {"LANG": "C.UTF-8"}, "en"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ([], {"LANG": "en_GB.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "", "LC_ALL": ""}, "zh"),
        (["--lang", "en"], {"LC_ALL": "zh_CN.UTF-8"}, "en"),
        (["--lang", "zh"], {"LC_ALL": "C"}, "zh"),
    ],
)
def test_the_language_is_the_options_else_the_locales(
    option: list[str], environ: Mapping[str, str], language: str
) -> None:
    """LC_ALL before LC_MESSAGES before LANG; what is empty does not count."""
    parser = argparse.ArgumentParser()
    add_language(parser)
    assert read_language(parser.parse_args(option), environ) == language


@pytest.mark.parametrize("command", TABLES)
def test_every_text_is_in_both_languages(command: str) -> None:
    """With the same values, and in Chinese where it is to be."""
    table, _ = TABLES[command]
    for key, (english, chinese) in table.items():
        assert english
        assert values(english) == values(chinese) or key == "detail", key
        assert key in _NO_WORDS or re.search("[\u4e00-\u9fff]", chinese), key
        assert key.startswith("mend.") or not re.search("[\u4e00-\u9fff]", english), key


def values(text: str) -> set[str]:
    """The values that a text has a place for."""
    return set(re.findall(r"\{(\w+)(?:\}|\|)", text))


@pytest.mark.parametrize("command", TABLES)
def test_every_text_is_said(command: str) -> None:
    """A key that no file has any more goes out of the table."""
    table, files = TABLES[command]
    source = "".join(each.read_text("utf-8") for each in files if each.name != "words.py")
    said = without_table(source)
    keys = {key for key in table if not key.startswith(_FAMILIES)}
    whole = {key for key in keys if re.search(f"""["']{re.escape(key)}["']""", said)}
    # What is found by its name has by it what that does, and how to mend it, too.
    assert keys - whole <= {f"{key}.{more}" for key in whole for more in ("then", "mend")}


def without_table(source: str) -> str:
    return re.sub(r"^RECEIVE_WORDS: Table = \{.*?^\}", "", source, flags=re.MULTILINE | re.DOTALL)


def test_a_reason_is_worded_as_the_console_has_it() -> None:
    """One word for each in Chinese, wherever it is read."""
    page = (ROOT / "router/ops/page/words.js").read_text("utf-8")
    worded = dict(re.findall(r'^  "(reason\.\w+)": \[.*, "([^"]+)"\],$', page, re.MULTILINE))
    ours = {key: zh for key, (_, zh) in PROBE_WORDS.items() if key.startswith("reason.")}
    assert ours == {key: worded[key] for key in ours}


def test_every_reason_of_a_receiver_can_be_mended() -> None:
    """Each that `probe` has a word for, and a status, which says itself."""
    reasons = {f"mend.{reason}" for reason in Reason}
    mends = {key for key in PROBE_WORDS if key.startswith("mend.")}
    assert mends <= reasons
    worded = {key.replace("reason.", "mend.") for key in PROBE_WORDS if key.startswith("reason.")}
    assert mends == {*worded, "mend.status"}


def test_a_word_goes_by_its_number() -> None:
    """In English; a number has its thousands apart."""
    table: Table = {"ids": ("{n} {n|id|ids}", "{n} 个 id")}
    assert [Wording(table)("ids", n=n) for n in (1, 2000)] == ["1 id", "2,000 ids"]
    assert Wording(table, "zh")("ids", n=1) == "1 个 id"


def test_what_signatures_have_wrong_is_said_in_chinese() -> None:
    """Whatever `receive --verify` can find."""
    signer, words = Signer([Secret("whsec_b2xkIHNlY3JldA==")]), Wording(RECEIVE_WORDS, "zh")
    head = {"webhook-id": "7", "webhook-timestamp": "1000", "webhook-signature": "v1,x"}
    found = [
        signer.why_not({}, b"", 1000),
        signer.why_not({**head, "webhook-timestamp": "soon"}, b"", 1000),
        signer.why_not(head, b"", 2000),
        signer.why_not(head, b"", 0),
        signer.why_not(head, b"", 1000),
    ]
    assert [words.of(why) for why in found] == [
        "没有 webhook-id",
        "webhook-timestamp 不是 Unix 时间",
        "webhook-timestamp 是 1000 秒之前的，最多允许 300 秒",
        "webhook-timestamp 比本机时钟快 1000 秒，最多允许 300 秒",
        "没有一个签名正确：密钥不同，或请求体被改动",
    ]
    assert [Wording(RECEIVE_WORDS).of(why) for why in found] == found
