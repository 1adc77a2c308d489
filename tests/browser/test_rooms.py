"""Each room's main deed, by clicking, in both languages."""

from __future__ import annotations

import json

from playwright.sync_api import Route, expect

from tests.browser.troubled import Troubled
from tests.browser.visitor import Visitor
from tests.support.serving import always


def test_now_says_what_is_wrong_and_leads_there(router: Troubled, ops: Visitor) -> None:
    """Failing targets come first, with why in words; a click shows all of one."""
    router.post("now")
    ops.go("")
    ops.sees("why.failing", reason=ops.word("reason.code"))
    expect(ops.page.locator("tbody tr").last).to_contain_text("certificates")
    ops.page.locator("tbody").get_by_role("link", name="ledger", exact=True).click()
    ops.sees("target.gets")
    ops.sees_text("everything under gs")


def test_now_has_what_no_target_there_is_has(ops: Visitor) -> None:
    """Dead letters of targets that are in no configuration any more: nothing else tells of them."""

    def quiet(route: Route) -> None:
        route.fulfill(json={"targets": []})

    def removed(route: Route) -> None:
        answer = route.fetch()
        reasons = ["targets: (removed) has 3 dead letters"]
        route.fulfill(response=answer, json={**answer.json(), "reasons": reasons})

    ops.page.route("**/api/v1/targets", quiet)
    ops.page.route("**/api/v1/status", removed)
    ops.go("")
    ops.sees("now.wrong", n=1)
    ops.sees("do.check.targets")


def test_a_long_list_of_wrongs_is_not_in_the_way(router: Troubled, ops: Visitor) -> None:
    """What does not fit is there once it is wanted; and what is overdue is not over."""

    def multiply(route: Route) -> None:
        answer = route.fetch()
        [ledger] = [each for each in answer.json()["targets"] if each["name"] == "ledger"]
        ledger["gives_up"] = "2026-01-01T00:00:00Z"
        many = [{**ledger, "name": f"ledger-{number}"} for number in range(50)]
        route.fulfill(response=answer, json={"targets": many})

    router.post("many")
    ops.page.route("**/api/v1/targets", multiply)
    ops.go("")
    ops.sees("why.gives_up_next")
    last = ops.page.locator(".wrongs").get_by_text("ledger-49", exact=True)
    expect(last).to_be_hidden()
    ops.page.locator("main summary").click()
    expect(last).to_be_visible()


def test_a_chart_is_told_minute_by_minute(router: Troubled, ops: Visitor) -> None:
    """By the arrow keys: the last minute has the event."""
    router.post("charted")
    ops.go("")
    chart = ops.page.locator("figure").first
    chart.locator(".plot").focus()
    chart.locator(".plot").press("End")
    expect(chart.locator("output")).to_contain_text("· ")


def test_a_target_is_paused_and_resumed(router: Troubled, ops: Visitor) -> None:
    """With why and by whom, as the room then says; and it is offered to resume it."""
    ops.go("#/targets/certificates")
    ops.page.locator("summary", has_text=ops.word("pause")).click()
    ops.field("pause.because").fill("database upgrade")
    ops.button("pause.do", target="certificates").click()
    ops.sees("pause.done")
    ops.sees_text("database upgrade")
    ops.sees("state.paused")
    ops.button("resume").click()
    ops.sees("resume.done")
    expect(ops.button("resume")).to_be_hidden()


def test_events_appear_as_they_come(router: Troubled, ops: Visitor) -> None:
    """Without a reload, with what EBaaS was told and who failed; held still, none moves."""
    ops.go("#/events")
    expect(ops.page.locator(".live.on")).to_be_visible()
    router.post("live")
    # A dead letter's row may come above it.
    expect(ops.row("audit").filter(has_text="500").first).to_be_visible()
    ops.button("events.hold").click()
    before = ops.page.locator("tbody tr").count()
    router.post("held")
    expect(ops.page.get_by_role("button", pressed=True)).not_to_contain_text("(0")
    assert ops.page.locator("tbody tr").count() == before


def test_an_event_is_found_by_an_id_of_its_business(router: Troubled, ops: Visitor) -> None:
    """And shown as a timeline: each attempt in the receiver's words, what comes next."""
    name = f"order-{ops.language}"
    router.post(name)
    ops.go("#/events")
    ops.field("events.what").fill(name)
    ops.button("search").click()
    ops.sees("place.archive")
    ops.row("a.gs.cert.1").get_by_role("link").first.click()
    ops.sees("step.request", n=1, of=21)
    ops.sees_text(ops.word("reason.code"))
    ops.sees("next.given_up")
    ops.link("event.show_body").click()
    expect(ops.page.locator("pre")).to_contain_text(f'"{name}"')


def test_what_is_no_pattern_is_not_followed(ops: Visitor) -> None:
    """It is looked for as it is written; nothing says that more would come."""
    ops.go("#/events?what=a.%5B")
    ops.sees("events.none")
    expect(ops.page.locator(".live.on")).to_be_visible()


def test_a_dead_letter_is_replayed(router: Troubled, ops: Visitor) -> None:
    """First it is shown what would be, then it is done, and told where it was asked for."""
    name = f"replayed-{ops.language}"
    router.dead(name)
    router.targets["audit"].code = always("000")
    try:
        ops.go("#/dead?target=audit")
        ops.letters.last.get_by_role("button", name=ops.word("verb.replay")).click()
        ops.sees("would.replay", n=1)
        ops.button("do.replay", n=1).click()
        expect(ops.page.locator("tr .panel")).to_contain_text(ops.word("did.replay", n=1))
        ops.sees_text("ops")
    finally:
        router.targets["audit"].code = always("700")


def test_a_double_click_acts_once(router: Troubled, ops: Visitor) -> None:
    """The second click comes while the first one's request is on its way, and sends none."""
    router.dead(f"clicked-{ops.language}")
    ops.go("#/dead?target=audit&match=a.gs.*")
    expect(ops.letters.first).to_be_visible()
    count = ops.letters.count()
    ops.button("all.discard").click()
    held: list[Route] = []
    ops.page.route("**/api/v1/deliveries/discard", lambda route: held.append(route))
    ops.button("do.discard", n=count).dblclick()
    ops.sees("would.discard", n=count)  # a round trip to the page: all that was sent is held
    for each in held:
        # The router never gets it: other tests count what is discarded.
        each.fulfill(json={"changed": count, "left": 0, "more": False})
    ops.sees("did.discard", n=count)
    assert len(held) == 1


def test_a_discard_is_taken_back(router: Troubled, ops: Visitor) -> None:
    """All that a filter shows is discarded, and restored by what is offered there."""
    router.dead(f"discarded-{ops.language}")
    ops.go("#/dead?target=audit&match=a.gs.*")
    expect(ops.letters.first).to_be_visible()
    count = ops.letters.count()
    ops.button("all.discard").click()
    ops.button("do.discard", n=count).click()
    ops.sees("did.discard", n=count)
    ops.sees("none.dead")
    ops.button("undo").click()
    ops.button("do.restore", n=count).click()
    ops.sees("did.restore", n=count)
    expect(ops.letters).to_have_count(count)


def test_a_key_is_explained(router: Troubled, ops: Visitor) -> None:
    """Who would get it and by which routes; and what stops the nearest other one."""
    ops.go("#/routes")
    ops.field("explain.what").fill("a.gs.cert.1")
    ops.button("explain.do").click()
    ops.sees("explain.by", routes="everything under gs")
    ops.sees("explain.nearest")
    ops.field("routes.find").fill("auditors")
    expect(ops.page.locator("tbody tr")).to_have_count(1)


def test_a_refused_file_is_told_with_its_line(router: Troubled, ops: Visitor) -> None:
    """In the room, and among what is wrong; it is over with the next good one."""
    good = router.config.read_text()
    router.config.write_text(json.dumps({**json.loads(good), "tragets": {}}))
    try:
        router.serve.wait_for(lambda: router.serve.lines("reload"))
        ops.go("#/routes")
        ops.sees_text("did you mean 'targets'?")
        ops.go("")
        ops.sees("check.configuration")
    finally:
        router.config.write_text(good)


def test_nodes_are_listed(router: Troubled, ops: Visitor) -> None:
    """The process that serves, and that it is ready."""
    ops.go("#/nodes")
    row = ops.row(str(router.serve.process.pid))
    expect(row).to_contain_text(ops.word("nodes.ready"))


def test_what_is_not_there_is_told_in_the_readers_words(ops: Visitor) -> None:
    """As the router has it in English, and what that means in Chinese."""
    told = {
        "#/targets/none": ("there is no such target", "没有这个业务端"),
        "#/events/none": ("there is no such event", "没有这个事件"),
    }
    for place, words in told.items():
        ops.page.goto(f"{ops.url}/{place}")
        ops.sees_text(words[ops.language == "zh"])
        expect(ops.page.locator(".live")).to_have_count(0)
