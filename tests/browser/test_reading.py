"""Accessibility: axe finds nothing, and a phone need not scroll sideways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route, expect

from tests.browser.troubled import Troubled
from tests.browser.visitor import Visitor, visitor

ROOMS = {
    "now": "",
    "target": "#/targets/ledger",
    "events": "#/events",
    "search": "#/events?since=1h",
    "dead": "#/dead",
    "routes": "#/routes?key=a.gs.cert.1",
    "nodes": "#/nodes",
}


@pytest.fixture(scope="module")
def filled(router: Troubled) -> Troubled:
    """A router with something in every room."""
    router.dead("read")
    return router


@pytest.fixture(params=["light-768", "light-1280", "dark-360", "dark-1280"])
def reader(
    request: pytest.FixtureRequest, chromium: Browser, filled: Troubled
) -> Iterator[Visitor]:
    theme, width = request.param.split("-")
    with visitor(
        chromium, filled.url, token=filled.ops_token, dark=theme == "dark", width=int(width)
    ) as found:
        yield found
    assert found.complaints == []


@pytest.mark.parametrize("room", ROOMS)
def test_axe_finds_nothing(reader: Visitor, room: str) -> None:
    """And no page is wider than the screen."""
    reader.go(ROOMS[room])
    check(reader)


def test_long_answers_of_receivers_leave_room_for_keys(reader: Visitor) -> None:
    """A key and its id stay on one line each."""

    def lengthen(route: Route) -> None:
        answer = route.fetch()
        output = answer.json()
        for each in output["events"]:
            each["event_key"] = "a.gs.certificate.1"
            for one in (each, *each.get("targets", [])):
                one["msg"] = "long words " * 40
        route.fulfill(response=answer, json=output)

    reader.page.route("**/api/v1/events?*", lengthen)
    reader.go("#/events?since=1h")
    key = reader.page.locator("tbody th").first
    expect(key).to_contain_text("a.gs.certificate.1")
    lines = "it => it.getClientRects().length"
    assert [key.locator(part).evaluate(lines) for part in ("a", ".id")] == [1, 1]


def test_axe_finds_nothing_in_a_timeline(reader: Visitor) -> None:
    """The event has failed."""
    reader.go("#/events?since=1h")
    reader.page.locator("tbody a").first.click()
    reader.settle()
    check(reader)


def test_axe_finds_nothing_in_the_form_for_a_token(chromium: Browser, filled: Troubled) -> None:
    """Nor is it too wide."""
    with visitor(chromium, filled.url) as found:
        found.go("")
        check(found)


def check(reader: Visitor) -> None:
    found = Axe().run(reader.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    wide = reader.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
