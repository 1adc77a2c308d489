"""Access by tokens, offers by permission, and hostile texts."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.browser.troubled import HOSTILE, Troubled
from tests.browser.visitor import Visitor, visitor
from tests.support.house import event


def test_a_token_is_required(chromium: Browser, router: Troubled) -> None:
    """A wrong one is refused; the right one opens the room, until the reader signs out."""
    with visitor(chromium, router.url) as found:
        found.go("#/nodes")
        for wrong in ("a wrong one", "打错了"):
            found.field("token").fill(wrong)
            found.button("token.enter").click()
            found.sees("token.wrong")
        found.field("token").fill(router.ops_token)
        found.button("token.enter").click()
        found.sees("nodes.ready")
        found.button("token.leave", name="ops").click()
        found.sees("token.wanted")
        found.page.reload()
        found.sees("token.wanted")


def test_all_tabs_share_a_token(chromium: Browser, router: Troubled) -> None:
    """Until one signs out, or the last one is closed."""
    with visitor(chromium, router.url) as found:
        found.go("")
        found.field("token").fill(router.ops_token)
        found.button("token.enter").click()
        expect(found.row("ledger")).to_have_count(1)
        other = Visitor(found.page.context.new_page(), router.url, "en")
        other.go("#/nodes")
        other.sees("nodes.ready")
        other.button("token.leave", name="ops").click()
        found.sees("token.wanted")
        found.field("token").fill(router.ops_token)
        found.button("token.enter").click()
        other.sees("nodes.ready")
        other.page.close()
        found.page.goto("about:blank")
        last = Visitor(found.page.context.new_page(), router.url, "en")
        last.go("")
        last.sees("token.wanted")


def test_a_valid_token_outlives_a_proxys_refusal(chromium: Browser, router: Troubled) -> None:
    """A proxy in front of the port may limit requests."""
    busy = {"title": "Too Many Requests", "detail": "too many requests"}
    with visitor(chromium, router.url, token=router.ops_token) as found:
        found.page.route(
            "**/api/v1/you",
            lambda it: it.fulfill(status=429, content_type="application/problem+json", json=busy),
            times=1,
        )
        found.go("")
        expect(found.page.locator(".notice")).to_have_text("too many requests")
        expect(found.row("ledger")).to_have_count(1)


def test_only_permitted_actions_are_offered(chromium: Browser, router: Troubled) -> None:
    """A team that may only read sees its own target alone, and no buttons."""
    router.dead("not for ledger")
    with visitor(chromium, router.url, token=router.ledger_token) as found:
        found.go("")
        expect(found.row("ledger")).to_have_count(1)
        expect(found.row("audit")).to_have_count(0)
        found.go("#/targets/ledger")
        expect(found.page.locator("main button")).to_have_count(0)
        found.go("#/dead?state=awaiting")
        expect(found.row("ledger").first).to_be_visible()
        expect(found.page.locator("main td button, main .acts button")).to_have_count(0)
        found.go("#/events")
        expect(found.link("refused")).to_have_count(0)
        found.go("#/targets/audit")
        found.sees_text("there is no such target")
    assert found.complaints == []


def test_a_reader_replays_nothing(router: Troubled, ops: Visitor) -> None:
    """A token that may only read sees refused callbacks and events, without buttons to replay."""
    router.serve.ask("POST", "/callback", event(event_type="", changes=["only read"]))
    router.post("only read too")
    reader = {"name": "reader", "owner": None, "may": ["read"], "tokens": True, "version": ""}
    ops.page.route("**/api/v1/you", lambda it: it.fulfill(json=reader))
    ops.go("#/refused")
    expect(ops.row("a.gs.cert.1").first).to_be_visible()
    expect(ops.page.locator("main .acts button, main td button")).to_have_count(0)
    ops.go("#/events?what=only read too")
    ops.row("a.gs.cert.1").get_by_role("link").first.click()
    expect(ops.button("explain.short")).to_be_visible()
    expect(ops.button("again")).to_have_count(0)


def test_hostile_texts_stay_text(router: Troubled, ops: Visitor) -> None:
    """In every room: a receiver's answer and an event's key."""
    key = f"a.gs.{HOSTILE}.1"
    router.serve.ask("POST", "/callback", event(event_type=HOSTILE, event_key=key))
    for place in ("", "#/targets/ledger", "#/events?since=1h", "#/dead?state=awaiting"):
        ops.go(place)
        ops.sees_text("<img src=x")
    ops.page.get_by_role("link", name=key).first.click()
    ops.sees_text(key)
    assert ops.page.locator("main img, main script").count() == 0
