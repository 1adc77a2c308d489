"""The page over time: a router that goes and comes back, links, the keyboard, the choices kept."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.browser.troubled import Troubled
from tests.browser.visitor import Visitor, visitor


def test_it_says_so_when_the_router_is_gone_and_comes_back(router: Troubled, ops: Visitor) -> None:
    """Without a reload; what was there stays to be read."""
    ops.go("")
    expect(ops.page.locator(".live.on")).to_be_visible()
    router.stop()
    expect(ops.page.locator(".notice")).to_be_visible()
    expect(ops.page.locator(".live.off")).to_be_visible()
    expect(ops.row("ledger")).to_have_count(1)
    router.start()
    expect(ops.page.locator(".notice")).to_be_hidden()
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.complaints.clear()  # the browser tells of each try


def test_it_says_so_when_its_stream_is_silent_for_long(ops: Visitor) -> None:
    """A connection can be cut without an end. After 40 s without even a beat the page says that it
    is not live, and asks for another stream until there is one."""
    ops.page.clock.install()  # the page's time; the router's goes on as it does
    ops.go("")
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.page.route("**/api/v1/stream**", lambda route: route.abort())
    ops.page.clock.fast_forward(41_000)
    expect(ops.page.locator(".live.off")).to_be_visible()
    ops.page.unroute("**/api/v1/stream**")
    expect(ops.page.locator(".live.on")).to_be_visible()
    ops.complaints.clear()  # the browser tells of each try


def test_what_is_no_answer_of_a_routers_is_asked_for_again(router: Troubled, ops: Visitor) -> None:
    """Also JSON that has nothing of what is to be shown; and it says so meanwhile."""
    ops.go("")
    ops.page.route("**/api/v1/targets", lambda it: it.fulfill(json={}))
    expect(ops.page.locator(".notice")).to_be_visible()
    expect(ops.row("ledger")).to_have_count(1)
    ops.page.unroute("**/api/v1/targets")
    expect(ops.page.locator(".notice")).to_be_hidden()
    expect(ops.page.locator(".live.on")).to_be_visible()
    assert ops.complaints
    ops.complaints.clear()  # the browser tells what could not be read


def test_a_place_that_is_none_leads_to_the_first_room(ops: Visitor) -> None:
    """Whatever a link has come to be on its way."""
    ops.go("#/constructor")
    ops.sees("targets")


def test_a_link_shows_what_its_sender_sees(
    chromium: Browser, router: Troubled, ops: Visitor
) -> None:
    """Filters are in it, from the moment that they are in force."""
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
    """A dead letter is found and discarded without a pointer, and the focus is where one reads."""
    router.dead(f"typed-{ops.language}")
    ops.go("")
    ops.page.keyboard.press("3")
    expect(ops.page.locator("h1")).to_have_text(ops.word("dead"))  # the room before has one, too
    expect(ops.page.locator("h1")).to_be_focused()
    ops.page.keyboard.press("/")
    expect(ops.field("dead.match")).to_be_focused()
    ops.page.keyboard.type("a.gs.cert.1")
    ops.page.keyboard.press("Enter")
    ops.settle()
    ops.page.locator("td").get_by_role("button", name=ops.word("verb.discard")).first.focus()
    ops.page.keyboard.press("Enter")
    ops.sees("would.discard", n=1)
    ops.page.keyboard.press("Tab")
    ops.page.keyboard.press("Enter")
    ops.sees("did.discard", n=1)


def test_language_and_theme_are_chosen_and_kept(router: Troubled, ops: Visitor) -> None:
    """Both at once, and after a reload."""
    ops.go("")
    before = ops.word("targets")
    ops.page.locator("header button[lang]").click()
    assert ops.word("targets") != before
    ops.sees("targets")
    ops.button("theme.dark").click()
    paper = ops.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    ops.page.reload()
    ops.settle()
    expect(ops.button("theme.light")).to_be_visible()
    ops.sees("targets")
    again = ops.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert again == paper


def test_what_a_form_says_is_what_is_shown(router: Troubled, ops: Visitor) -> None:
    """Also where another way than the form leads there, whatever had been chosen or typed."""
    ops.go("#/events")
    since = ops.page.locator("select[name=since]")
    since.select_option("1h")
    ops.field("events.failed").check()
    ops.button("search").click()
    expect(ops.link("events.follow")).to_be_visible()
    ops.field("events.what").fill("never sent")
    ops.link("events.follow").click()
    ops.sees("events.following")
    expect(since).to_have_value("")
    expect(ops.field("events.what")).to_have_value("")
    expect(ops.field("events.failed")).not_to_be_checked()


def test_a_part_that_does_not_arrive_is_asked_for_again(router: Troubled, ops: Visitor) -> None:
    """The page is there in a moment, and no half of it before."""
    ops.page.route("**/rooms/now.js", lambda route: route.abort(), times=1)
    ops.go("")
    expect(ops.row("ledger")).to_have_count(1)
