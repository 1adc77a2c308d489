"""The page over time: lost connections, links, the keyboard, stored choices."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.troubled import Troubled
from tests.browser.visitor import Visitor, visitor


def test_a_router_that_stops_and_returns_is_noticed(router: Troubled, ops: Visitor) -> None:
    """Without a reload; the old data stays readable."""
    ops.go("")
    expect(ops.page.locator(".live.on")).to_be_visible()
    router.stop()
    expect(ops.page.locator(".notice")).to_be_visible()
    expect(ops.page.locator(".live.off")).to_be_visible()
    expect(ops.row("ledger")).to_have_count(1)
    router.start()
    expect(ops.page.locator(".notice")).to_be_hidden()
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.complaints.clear()  # the browser logs each try


@pytest.mark.parametrize("place", ["", "#/targets/audit", "#/events", "#/dead", "#/routes"])
def test_a_silent_stream_is_noticed(chromium: Browser, router: Troubled, place: str) -> None:
    """A connection can break without an end. After 3 s without a beat every room shows that it is
    not live, and opens another stream."""
    with visitor(chromium, router.url, token=router.ops_token) as found:
        _breaks_and_returns(found, place)


def _breaks_and_returns(ops: Visitor, place: str) -> None:
    ops.page.clock.install()  # the page's time, not the router's
    ops.go(place)
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.page.route("**/api/v1/stream**", lambda route: route.abort())
    ops.page.clock.fast_forward(3000)
    expect(ops.page.locator(".live.off")).to_be_visible()
    ops.page.unroute("**/api/v1/stream**")
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.complaints.clear()  # the browser logs each try


def test_the_same_question_is_asked_again(router: Troubled, ops: Visitor) -> None:
    """A second submit and a second click on a link load the room again."""
    router.post("asked twice")
    ops.go("#/events?since=1h")
    for act in (ops.button("filter").click, ops.link("events").click, ops.link("events").click):
        with ops.page.expect_response("**/api/v1/events?*"):
            act()
        ops.settle()
        expect(ops.page.locator("tbody tr").first).to_be_visible()


def test_no_other_room_is_below_a_new_tab(ops: Visitor) -> None:
    """A skeleton is there until the room's own data arrives."""
    ops.go("")
    expect(ops.row("ledger")).to_have_count(1)
    held: list[Route] = []
    has_waited: list[bool] = []

    def hold(route: Route) -> None:
        if has_waited:
            route.continue_()
        else:
            held.append(route)

    ops.page.route("**/api/v1/deliveries?*", hold)
    ops.link("dead").click()
    expect(ops.page.locator("h1")).to_have_text(ops.word("dead"))
    expect(ops.page.locator(".skeleton")).to_be_visible()
    expect(ops.row("ledger")).to_have_count(0)
    has_waited.append(True)
    for each in held:
        each.continue_()
    ops.settle()
    expect(ops.page.locator(".skeleton")).to_have_count(0)


def test_single_keys_can_be_turned_off(ops: Visitor) -> None:
    """And stay off after a reload."""
    ops.go("")
    ops.button("keys.turn_off").click()
    ops.page.reload()
    ops.settle()
    ops.page.keyboard.press("3")
    ops.page.keyboard.press("/")
    expect(ops.field("find")).not_to_be_focused()
    expect(ops.page.locator("h1")).not_to_have_text(ops.word("dead"))
    ops.button("keys.turn_on").click()
    ops.page.locator("h1").focus()
    ops.page.keyboard.press("3")
    expect(ops.page.locator("h1")).to_have_text(ops.word("dead"))


def test_an_unreadable_answer_is_requested_again(router: Troubled, ops: Visitor) -> None:
    """With a notice meanwhile; also JSON without the expected members."""
    ops.go("")
    ops.page.route("**/api/v1/targets", lambda it: it.fulfill(json={}))
    expect(ops.page.locator(".notice")).to_be_visible()
    expect(ops.row("ledger")).to_have_count(1)
    ops.page.unroute("**/api/v1/targets")
    expect(ops.page.locator(".notice")).to_be_hidden()
    expect(ops.page.locator(".live.on")).to_be_visible()
    assert ops.complaints
    ops.complaints.clear()  # the browser logs what could not be read


def test_an_unknown_place_leads_to_the_first_room(ops: Visitor) -> None:
    """For a link that was damaged."""
    ops.go("#/constructor")
    ops.sees("targets")


def test_a_link_shows_what_its_sender_sees(
    chromium: Browser, router: Troubled, ops: Visitor
) -> None:
    """It contains the filters in force."""
    router.dead("linked")
    ops.go("#/dead")
    ops.field("target").fill("audit")
    ops.field("dead.match").fill("a.gs.*")
    ops.button("filter").click()
    expect(ops.letters.first).to_be_visible()
    link = ops.page.url.removeprefix(ops.url).lstrip("/")
    with visitor(chromium, router.url, token=router.ops_token) as other:
        other.go(link)
        expect(other.field("target")).to_have_value("audit")
        expect(other.field("dead.match")).to_have_value("a.gs.*")
        expect(other.letters).to_have_count(ops.letters.count())


def test_the_keyboard_is_enough(router: Troubled, ops: Visitor) -> None:
    """A dead letter is found and discarded without a pointer; the focus follows."""
    router.dead(f"typed-{ops.language}")
    ops.go("")
    ops.page.keyboard.press("3")
    expect(ops.page.locator("h1")).to_have_text(ops.word("dead"))  # the previous room has one too
    expect(ops.page.locator("h1")).to_be_focused()
    ops.page.keyboard.press("/")
    expect(ops.field("find")).to_be_focused()
    ops.page.keyboard.press("Tab")
    button = ops.page.locator("td").get_by_role("button", name=ops.word("verb.discard")).first
    button.focus()
    ops.page.keyboard.press("Enter")
    ops.sees("would.discard", n=1)
    ops.page.keyboard.press("Escape")
    expect(ops.page.locator("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    ops.page.keyboard.press("Enter")
    ops.sees("would.discard", n=1)
    ops.page.keyboard.press("Tab")
    ops.page.keyboard.press("Enter")
    ops.sees("did.discard", n=1)


def test_the_language_is_stored(router: Troubled, ops: Visitor) -> None:
    """It applies at once, and after a reload."""
    ops.go("")
    before = ops.word("targets")
    ops.page.locator("header button[lang]").click()
    assert ops.word("targets") != before
    ops.sees("troubles")
    chosen = ops.word("targets")
    ops.page.reload()
    ops.settle()
    assert ops.word("targets") == chosen


def test_a_form_shows_the_filters_in_force(router: Troubled, ops: Visitor) -> None:
    """Also after a link, whatever was typed before."""
    ops.go("#/events")
    since = ops.page.locator("select[name=since]")
    since.select_option("1h")
    ops.field("events.failed").check()
    ops.button("filter").click()
    expect(ops.link("events.follow")).to_be_visible()
    ops.field("find").fill("never sent")
    ops.link("events.follow").click()
    ops.sees("events.following")
    expect(since).to_have_value("")
    expect(ops.field("find")).to_have_value("")
    expect(ops.field("events.failed")).not_to_be_checked()


@pytest.mark.parametrize("module", ["main.js", "rooms/nodes.js"])
def test_a_module_that_does_not_arrive_is_requested_again(ops: Visitor, module: str) -> None:
    """The page appears whole, in a moment."""
    aborted: list[Route] = []

    def abort(route: Route) -> None:
        aborted.append(route)
        route.abort()

    ops.page.route(f"**/page/*/{module}", abort, times=1)
    ops.go("#/nodes")
    ops.sees("nodes.ready")
    assert aborted
