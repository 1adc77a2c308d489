"""Accessibility: axe finds nothing, and a phone need not scroll sideways."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.troubled import Troubled
from tests.browser.visitor import PATIENCE, Visitor, visitor
from tests.support.house import event

ROOMS = {
    "now": "",
    "target": "#/targets/ledger",
    "events": "#/events",
    "search": "#/events?since=1h",
    "dead": "#/dead",
    "refused": "#/refused",
    "routes": "#/routes?key=a.gs.cert.1",
    "nodes": "#/nodes",
}


@pytest.fixture(scope="module")
def filled(router: Troubled) -> Troubled:
    """A router with something in every room."""
    router.dead("read")
    router.serve.ask("POST", "/callback", event(event_source=1, changes=["refused"]))
    router.serve.ask("POST", "/callback", event(event_key="z.z.z.1", changes=["no route"]))
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


@pytest.mark.parametrize("room", ROOMS)
def test_every_button_has_a_name_of_its_own(reader: Visitor, room: str) -> None:
    """As a screen reader lists them."""
    reader.go(ROOMS[room])
    names = reader.page.get_by_role("button").evaluate_all(
        "found => found.map(it => it.getAttribute('aria-label') || it.innerText)"
    )
    assert len(names) == len(set(names)), names


def test_charts_can_be_seen(reader: Visitor) -> None:
    """Their colours have a contrast of at least 3 to the page."""
    reader.go("")
    contrasts = reader.page.evaluate(_CONTRASTS, ["--bar", "--bar-bad", "--warn"])
    assert min(contrasts) >= 3, contrasts


#: The contrast of colours to the page, as WCAG counts it.
_CONTRASTS = """names => {
    const light = colour => {
        const box = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
        const context = box.getContext('2d');
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(each => each / 255)
            .map(each => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const shown = document.querySelector('.plot');
    const colourOf = name => {
        shown.style.color = `var(${name})`;
        return getComputedStyle(shown).color;
    };
    const paper = light(getComputedStyle(document.documentElement).backgroundColor);
    return names.map(colourOf).map(light).map(own =>
        (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05));
}"""


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1440, 900), (2560, 1440)])
def test_charts_need_no_scrolling(
    chromium: Browser, filled: Troubled, width: int, height: int
) -> None:
    """With 25 targets in trouble. First requests and retries have numbers of their own."""

    def retry(route: Route) -> None:
        answer = route.fetch()
        numbers = {"events": [0] * 59 + [9], "failed": [0] * 60, "retries": [0] * 59 + [4]}
        route.fulfill(response=answer, json={**answer.json(), **numbers})

    with visitor(chromium, filled.url, token=filled.ops_token, width=width) as found:
        found.page.set_viewport_size({"width": width, "height": height})
        found.multiply("ledger", 25)
        found.page.route("**/api/v1/minutes", retry)
        found.go("")
        found.sees("chart.retries", first=5, again=4)
        box = found.page.locator("figure").last.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < height
        expect(found.page.locator(".troubles tbody tr")).to_have_count(20)
        check(found)


def test_the_first_view_needs_three_requests_in_sequence(
    chromium: Browser, filled: Troubled
) -> None:
    """The page, then all files at once, of which the first one sends the requests for data. And 36
    kB of files. So at 400 ms and 50 kB/s the problems are there within two seconds."""
    with visitor(chromium, filled.url, token=filled.ops_token) as found:
        page, held, asked = found.page, dict[str, Route](), list[str]()

        def hold(route: Route) -> None:
            url: str = route.request.url
            asked.append(url.rpartition("/")[2].partition("?")[0])
            held[asked[-1]] = route

        page.route("**/page/**", hold)
        page.route("**/api/v1/*", hold)
        page.goto(found.url, wait_until="commit")
        wait(page, lambda: len(held) == 7)
        files = {*held}
        assert "main.js" in files
        held.pop("api.js").continue_()
        wait(page, lambda: {"status", "targets", "minutes", "you"} <= {*held})
        for name in files & {*held}:
            held.pop(name).continue_()
        expect(page.locator("h1")).to_be_visible()
        assert {*held} - {"stream"} == {"status", "targets", "minutes", "you"}
        assert len(asked) == len({*asked})
        for route in [*held.values()]:
            route.continue_()
        expect(found.row("ledger")).to_have_count(1)
        page.unroute_all(behavior="ignoreErrors")
        sizes = page.evaluate(
            "performance.getEntriesByType('resource').map(it => [it.name, it.encodedBodySize])"
        )
        assert sum(size for name, size in sizes if name.rpartition("/")[2] in files) <= 36_000
        for name in ("status", "targets"):
            answer = page.request.get(
                f"{found.url}/api/v1/{name}",
                headers={"authorization": f"Bearer {filled.ops_token}"},
            )
            assert answer.headers["content-encoding"] == "gzip"


def wait(page: Page, condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE // 20):
        if condition():
            return
        page.wait_for_timeout(20)
    pytest.fail("waited in vain")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [901, 1100, 1440])
def test_the_bar_has_one_line(
    chromium: Browser, filled: Troubled, language: str, width: int
) -> None:
    """From 901 px on; nothing in it overlaps or is cut off."""
    with visitor(chromium, filled.url, language, token=filled.ops_token, width=width) as found:
        found.go("")
        expect(found.page.locator(".live.on")).to_be_visible()
        bar = found.page.locator("header").bounding_box()
        assert bar is not None
        assert bar["height"] < 60
        boxes = found.page.locator("header > *").evaluate_all(_BOXES)
        assert boxes == sorted(boxes)
        for (_, right), (left, _) in itertools.pairwise(boxes):
            assert right <= left
        assert boxes[-1][1] <= width
        search = found.page.locator(".find").bounding_box()
        assert search is not None
        assert search["width"] > 110


#: Where the visible parts begin and end.
_BOXES = """found => found.filter(it => it.offsetWidth).map(it => it.getBoundingClientRect())
    .map(it => [it.left, it.right])"""


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
    before = reader.page.locator("h1").inner_text()
    reader.page.locator("tbody a").first.click()
    expect(reader.page.locator("h1")).not_to_have_text(before)
    check(reader)


def test_axe_finds_nothing_in_the_form_for_a_token(chromium: Browser, filled: Troubled) -> None:
    """Nor is it too wide."""
    with visitor(chromium, filled.url) as found:
        found.go("")
        check(found)


def check(reader: Visitor) -> None:
    reader.settle()
    found = Axe().run(reader.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    wide = reader.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
