"""The room of dead letters when there are many: groups, their order, and a large replay."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from router.model.event import Attempt, Reason
from router.store.protocol import Tried
from tests.browser.troubled import Troubled, store_of, troubled
from tests.browser.visitor import Visitor
from tests.support.serving import body
from tests.support.shop import SqliteShop, dead

#: The number of dead letters of each language: by target and reason, with their answers. More than
#: the API lists at once.
GROUPS = {
    ("certificates", Reason.CODE): (600, (200, "700", "库存不足 <b>")),
    ("audit", Reason.STATUS): (120, (503, "", "down for repair")),
    ("audit", Reason.DNS): (3, (None, "", "")),
}


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """A router whose store had many dead letters before it started."""
    folder = tmp_path_factory.mktemp("router")
    with ThreadPoolExecutor() as pool:  # the browser's driver has a loop in this thread
        pool.submit(_fill, store_of(folder)).result()
    with troubled(folder) as started:
        yield started


def _fill(store: Path) -> None:
    shop = SqliteShop(store)
    with shop.at_once():
        for language in ("en", "zh"):
            for (target, reason), (number, (status, code, msg)) in GROUPS.items():
                attempt = Attempt(reason, True, 0.1, status, "", None, 1.0, code, msg)
                row = replace(dead(target, reason), tried=Tried(attempt, retry=2))
                for n in range(number):
                    event_id = f"{n:03}-{language}-{reason}"
                    content = body(f"{language}-{reason}-{n}")
                    shop.add(event_id, row, key=f"a.gs.{language}.1", body=content, ago=7200.0 - n)
    shop.close()


def test_many_dead_letters_are_grouped(ops: Visitor) -> None:
    """By target and reason, the largest groups first, with the receiver's words. A group leads to
    its deliveries, which are sorted as the reader likes."""
    ops.go(f"#/dead?match=a.gs.{ops.language}.*")
    groups = ops.page.locator("table").first.locator("tbody tr")
    expect(groups).to_have_count(3)
    for row, words in zip(
        groups.all(),
        (
            ("certificates", "600", "700: 库存不足 <b>"),
            ("audit", "120", "HTTP 503: down for repair"),
            ("audit", "3", ops.word("reason.dns")),
        ),
        strict=True,
    ):
        for word in words:
            expect(row).to_contain_text(word)
    expect(ops.link("count.dead", n=723)).to_be_visible()
    groups.nth(1).get_by_role("link", name=ops.word("reason.status")).click()
    expect(ops.letters).to_have_count(50)
    ops.sees("routes.first", n=50, all=120)
    expect(ops.page.locator("select[name=reason]")).to_have_value("status")
    expect(ops.letters.first).to_contain_text(f"119-{ops.language}")
    ops.page.locator("select[name=sort]").select_option("oldest")
    ops.button("filter").click()
    expect(ops.letters.first).to_contain_text(f"000-{ops.language}")


def test_the_outcome_of_any_number_is_counted(router: Troubled, ops: Visitor) -> None:
    """A group is replayed by its button, and the dialog counts until nothing is left."""
    failing = {f"{ops.language}-code-{n}" for n in (7, 77, 577)}
    router.targets["certificates"].code = lambda name, _: "700" if name in failing else "000"
    ops.go(f"#/dead?match=a.gs.{ops.language}.*")
    group = f"certificates{ops.word('colon')}{ops.word('reason.code')}"
    ops.page.get_by_role("button", name=f"{ops.word('verb.replay')} {group}", exact=True).click()
    ops.sees("would.replay", n=600)
    expect(ops.page.locator("dialog")).to_contain_text(group)
    ops.button("do.replay", n=600).click()
    ops.sees("outcome", n=600, done=597, failed=3)
    ops.button("dismiss").click()
    expect(ops.row("certificates").filter(has_text=ops.word("reason.code")).first).to_contain_text(
        "3"
    )
