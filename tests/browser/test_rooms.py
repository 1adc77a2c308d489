"""The main action of each room, by clicking, in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Route, expect

from router.delivery.observations import Observations
from tests.browser.troubled import Troubled
from tests.browser.visitor import Visitor
from tests.support.house import event
from tests.support.queueing import TERMS
from tests.support.serving import always
from tests.support.waiting import wait_until


def test_the_overview_shows_problems_and_leads_there(router: Troubled, ops: Visitor) -> None:
    """Failing targets come first, a line each, with their reasons; a click opens one."""
    router.post("now")
    ops.go("")
    ops.page.locator(".opener").first.click()
    expect(ops.page.locator(".doing").first).to_be_visible()
    ops.sees("why.failing", reason=ops.word("reason.code"))
    first = ops.page.locator(".troubles tbody tr").first
    words = [ops.word(key) for key in ("severity.critical", "as.required", "failures")]
    for word in ("ledger", "team ledger", "100%", *words):
        expect(first).to_contain_text(word)
    ops.sees("do.code")
    expect(ops.page.locator("tbody tr").last).to_contain_text("certificates")
    ops.page.locator("tbody").get_by_role("link", name="ledger", exact=True).click()
    ops.sees("target.gets")
    ops.sees_text("everything under gs")


def test_the_headline_counts_what_is_wrong(ops: Visitor) -> None:
    """As the router says: a pause and callers that were turned away are shown, but not counted; an
    event without a route has its keys. Since when the router counts is shown as well."""
    params = {"count": 3, "since": "2026-11-29T05:53:00Z", "last": "2026-11-29T05:54:00Z"}
    about = {"keys": "'a.b.c' (3)", "key": "a.b.c", "until": "2026-11-29T19:53:00Z"}
    denied = {"code": "401", "advice": "compare tokens", "faults": ""}
    causes = [
        {"check": "callbacks", "code": "unmatched", "severity": "critical", "text": "'a.b.c' (3)",
         "params": {**params, **about}},
        {"check": "callbacks", "code": "turned_away", "severity": "notice", "text": "3 turned away",
         "params": {**params, **denied}},
        {"check": "targets", "code": "paused", "severity": "notice", "text": "certificates paused",
         "params": {"target": "certificates"}},
    ]  # fmt: skip

    def status(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "causes": causes})

    ops.page.route("**/api/v1/status", status)
    ops.go("")
    ops.sees("now.wrong", n=1)
    rows = ops.page.locator(".troubles tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("'a.b.c' (3)")
    expect(rows.nth(1)).to_contain_text(ops.word("severity.notice"))
    expect(rows.nth(2)).to_contain_text("certificates")
    ops.sees_text({"en": "Counted since", "zh": "起统计"}[ops.language])
    del causes[0]
    ops.go("#/routes")
    ops.go("")
    ops.sees("now.well")


def test_the_overview_shows_dead_letters_of_removed_targets(ops: Visitor) -> None:
    """No other room shows that there are some."""

    def quiet(route: Route) -> None:
        route.fulfill(json={"targets": []})

    def removed(route: Route) -> None:
        answer = route.fetch()
        cause = {"check": "targets", "code": "dead_letters", "text": "(removed) has dead letters",
                 "severity": "warning", "params": {"target": "(removed)", "count": 3}}  # fmt: skip
        route.fulfill(response=answer, json={**answer.json(), "causes": [cause]})

    ops.page.route("**/api/v1/targets", quiet)
    ops.page.route("**/api/v1/status", removed)
    ops.go("")
    ops.sees("now.wrong", n=1)
    ops.button("details", name=ops.word("check.targets")).click()
    ops.sees("do.check.targets")


def test_the_overview_shows_how_ebaas_differs(ops: Visitor) -> None:
    """With the YAML that would be right."""
    observations = Observations(0.0)
    for _ in range(12):
        observations.hang_ups.add(5.0)
    view = observations.view(TERMS)

    def differs(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "observed": view})

    ops.page.route("**/api/v1/status", differs)
    ops.go("")
    ops.sees("now.observed")
    [difference] = view["differences"]
    ops.sees_text({"en": difference["text"], "zh": "EBaaS 在 5 s 后断开"}[ops.language])
    ops.sees_text("reply_within: 4s")


def test_a_long_list_of_problems_is_folded(router: Troubled, ops: Visitor) -> None:
    """A click unfolds it. A delivery that is overdue has not expired yet."""

    router.post("many")
    ops.multiply("ledger", 50, expires_at="2026-01-01T00:00:00Z")
    ops.go("")
    ops.sees("expires.next")
    last = ops.page.locator(".troubles").get_by_text("ledger-49", exact=True)
    expect(last).to_have_count(0)
    ops.page.locator("main p > button").click()
    expect(last).to_be_visible()


def test_a_chart_is_read_by_the_keyboard(router: Troubled, ops: Visitor) -> None:
    """Minute by minute. Enter opens the events of one."""
    router.post("charted")
    ops.go("")
    chart = ops.page.locator("figure").first
    chart.locator(".plot").press("End")
    readout = chart.locator("output")
    expect(readout).to_contain_text("· ")
    before = readout.inner_text()
    chart.locator(".plot").press("ArrowLeft")
    expect(readout).not_to_have_text(before)
    minute = readout.inner_text()[:5]
    for _ in range(2):  # also while the page updates
        with ops.page.expect_response("**/api/v1/minutes"):
            pass
    expect(readout).to_contain_text(f"{minute} · ")
    chart.locator(".plot").press("Enter")
    ops.settle()
    expect(ops.page.locator("select[name=since] option:checked")).to_contain_text(f"{minute}:00")


def test_a_target_is_paused_and_resumed(router: Troubled, ops: Visitor) -> None:
    """The room then shows the reason and the holder, and offers to resume it."""
    ops.go("#/targets/certificates")
    ops.button("pause").click()
    ops.field("pause.because").fill("database upgrade")
    ops.button("pause.do", target="certificates").click()
    ops.sees("pause.done")
    ops.sees_text("database upgrade")
    ops.sees("state.paused")
    ops.button("resume").click()
    ops.sees("resume.done")
    expect(ops.button("resume")).to_be_hidden()


def test_a_pause_never_contradicts_the_state(ops: Visitor) -> None:
    """The button and the state change together, once the router has both."""
    stale: list[Any] = []

    def late(route: Route) -> None:
        answer = route.fetch()
        stale.append(answer.json())
        route.fulfill(response=answer, json=stale[max(0, len(stale) - 4)])

    ops.page.route("**/api/v1/targets/certificates", late)
    ops.go("#/targets/certificates")
    pause, resume = ops.word("pause"), ops.word("resume")
    ops.page.evaluate("""([paused]) => {
        globalThis.seen = new Set();
        new MutationObserver(() => seen.add([document.querySelector('h1 .badge').innerText,
            document.querySelector('main .acts button').innerText].join())
        ).observe(document.querySelector('main'), {subtree: true, childList: true,
            characterData: true, attributes: true});
    }""", [paused := ops.word("state.paused")])  # fmt: skip
    ops.button("pause").click()
    ops.field("pause.because").fill("observed")
    ops.button("pause.do", target="certificates").click()
    ops.sees("pause.done")
    ops.button("resume").click()
    ops.sees("resume.done")
    seen = [each.split(",") for each in ops.page.evaluate("[...seen]")]
    assert {(badge.endswith(paused), button) for badge, button in seen} == {
        (True, resume),
        (False, pause),
    }


def test_lines_of_an_event_are_one_row(ops: Visitor) -> None:
    """The earlier ones are behind a button."""

    def twice(route: Route) -> None:
        answer = route.fetch()
        output = answer.json()
        [first] = output["events"][:1]
        earlier = {**first, "at": "2026-01-01T00:00:00.000Z", "code": "504"}
        route.fulfill(response=answer, json={**output, "events": [first, earlier]})

    ops.page.route("**/api/v1/events?*", twice)
    ops.go("#/events?since=1h")
    expect(ops.page.locator("tbody tr")).to_have_count(1)
    ops.page.locator("tbody").get_by_role("button").click()
    ops.sees_text("504")


def test_events_appear_live(router: Troubled, ops: Visitor) -> None:
    """Without a reload, with the code for EBaaS and failed targets; not in a frozen list."""
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


def test_an_event_is_found_by_an_id_in_its_changes(router: Troubled, ops: Visitor) -> None:
    """And shown as a timeline, with each attempt and what comes next."""
    name = f"order-{ops.language}"
    router.post(name)
    ops.go("#/nodes")
    ops.page.keyboard.press("/")
    ops.page.keyboard.type(name)
    ops.page.keyboard.press("Enter")
    ops.sees("place.archive")
    ops.sees("events.matched", id=ops.word("event.changes"))
    ops.row("a.gs.cert.1").get_by_role("link").first.click()
    ops.sees("step.request", n=1, of=21)
    ops.sees_text(ops.word("reason.code"))
    ops.sees("next.given_up")
    ops.link("event.show_body").click()
    expect(ops.page.locator("pre")).to_contain_text(f'"{name}"')
    ops.button("explain.short").click()
    ops.sees("explain.by", routes="everything under gs")
    ops.sees("explain.nearest")
    expect(ops.page.locator(".steps time").first).to_have_attribute("title", re.compile("UTC$"))
    copy = ops.button("copy.what", name=ops.word("event.changes"))
    copy.click()
    expect(copy).to_have_text(ops.word("copied"))
    ops.page.keyboard.press("/")
    ops.page.keyboard.press("Control+v")
    expect(ops.field("find")).to_have_value(name)


def test_an_invalid_pattern_is_not_followed(ops: Visitor) -> None:
    """It is searched for as a text."""
    ops.go("#/events?what=a.%5B")
    ops.sees("events.none")
    expect(ops.page.locator(".live.on")).to_be_visible()


def test_a_dead_letter_is_replayed(router: Troubled, ops: Visitor) -> None:
    """After a preview, which warns of a failing target; the outcome is counted as it comes."""
    name = f"replayed-{ops.language}"
    router.dead(name)
    router.targets["audit"].code = always("000")
    try:
        ops.go("#/dead?target=audit")
        ops.letters.last.get_by_role("button", name=ops.word("verb.replay")).click()
        ops.sees("would.replay", n=1)
        ops.sees("held.failing", target="audit")
        ops.button("do.replay", n=1).click()
        ops.sees("did.replay", n=1)
        ops.sees("outcome", n=1, done=1, failed=0)
        ops.sees_text("ops")
    finally:
        router.targets["audit"].code = always("700")


def test_what_awaits_ebaas_is_sent_now(router: Troubled, ops: Visitor) -> None:
    """After a preview; the target's room shows how far its recovery is."""
    name = f"asked-{ops.language}"
    router.post(name)
    router.serve.wait_for(lambda: [*filter(lambda line: line["changes"] == [name], _lines(router))])
    (line,) = (line for line in _lines(router) if line["changes"] == [name])
    count = len(router.targets["ledger"].of(name))
    ops.go(f"#/dead?state=awaiting&event={line['event_id']}")
    ops.letters.last.get_by_role("button", name=ops.word("verb.retry")).click()
    ops.sees("dead.retry_means")
    ops.button("do.retry", n=1).click()
    expect(ops.page.locator("dialog")).to_contain_text(ops.word("did.retry", n=1))
    wait_until(lambda: len(router.targets["ledger"].of(name)) > count)
    recovery = {"trigger": "operator", "since": "", "delivered": 3, "left": 312, "per_second": 41.5}

    def recovers(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "recovery": recovery})

    ops.page.route("**/api/v1/targets/ledger", recovers)
    ops.go("#/targets/ledger")
    trigger = ops.word("trigger.operator")
    ops.sees("why.recovering", trigger=trigger, left=312, pace=41.5)


def _lines(router: Troubled) -> list[dict[str, Any]]:
    return router.serve.lines("event")


def test_a_double_click_acts_once(router: Troubled, ops: Visitor) -> None:
    """The second click sends no request while the first one's is under way."""
    router.dead(f"clicked-{ops.language}")
    ops.go("#/dead?target=audit&match=a.gs.*")
    expect(ops.letters.first).to_be_visible()
    count = ops.letters.count()
    ops.button("all.discard").click()
    held: list[Route] = []
    ops.page.route("**/api/v1/deliveries/discard", lambda route: held.append(route))
    ops.button("do.discard", n=count).dblclick()
    while not held:
        ops.page.wait_for_timeout(20)
    ops.sees("would.discard", n=count)  # a round trip to the page: all requests are held
    for each in held:
        # The router never gets it: other tests count discarded deliveries.
        each.fulfill(json={"changed": count, "left": 0, "more": False})
    ops.sees("did.discard", n=count)
    assert len(held) == 1


def test_a_discard_is_undone(router: Troubled, ops: Visitor) -> None:
    """All filtered deliveries are discarded, and restored by the button of the result."""
    router.dead(f"discarded-{ops.language}")
    ops.go("#/dead?target=audit&match=a.gs.*")
    expect(ops.letters.first).to_be_visible()
    count = ops.letters.count()
    ops.button("all.discard").click()
    ops.button("do.discard", n=count).click()
    ops.sees("did.discard", n=count)
    ops.sees("dead.none")
    ops.button("undo").click()
    ops.button("do.restore", n=count).click()
    ops.sees("did.restore", n=count)
    ops.button("dismiss").click()
    expect(ops.letters).to_have_count(count)


def test_a_key_is_explained(router: Troubled, ops: Visitor) -> None:
    """With its targets and routes, and the field by which the nearest other route fails."""
    ops.go("#/routes")
    ops.field("explain.what").fill("a.gs.cert.1")
    ops.button("explain.short").click()
    ops.sees("explain.by", routes="everything under gs")
    ops.sees("explain.nearest")
    ops.field("routes.find").fill("auditors")
    expect(ops.page.locator("tbody tr")).to_have_count(1)
    expect(ops.row("audit")).to_contain_text(re.compile(ops.word("as.optional") + r"\s+team audit"))
    expect(ops.page.locator("main h3 code").last).to_have_text(str(router.config))


def test_a_reload_shows_its_changes(router: Troubled, ops: Visitor) -> None:
    """Each with what was there before; also after a restart."""
    good = router.config.read_text()
    router.config.write_text(good.replace("*.cert.*", f"*.cert.{ops.language}"))
    try:
        router.serve.wait_for(lambda: [*_reloads(router, "taken")])
        ops.go("#/routes")
        ops.sees("reload.taken")
        expect(ops.page.locator(".diff").first).to_contain_text(f"*.cert.{ops.language}")
        expect(ops.page.locator(".diff").first).to_contain_text("for the auditors")
        router.stop()
        router.start()
        ops.page.reload()
        ops.settle()
        expect(ops.page.locator(".diff").first).to_contain_text(f"*.cert.{ops.language}")
    finally:
        router.config.write_text(good)
        count = len([*_reloads(router, "taken")])
        router.serve.wait_for(lambda: len([*_reloads(router, "taken")]) > count)


def _reloads(router: Troubled, result: str) -> Iterator[dict[str, Any]]:
    return (line for line in router.serve.lines("reload") if line["result"] == result)


def test_a_refused_file_is_shown_with_its_line(router: Troubled, ops: Visitor) -> None:
    """In its room and in the overview, until the next valid file."""
    good = router.config.read_text()
    router.config.write_text(json.dumps({**json.loads(good), "tragets": {}}))
    try:
        router.serve.wait_for(lambda: router.serve.lines("reload"))
        ops.go("#/routes")
        ops.sees_text(ops.word("routes.refused").rpartition("}")[2].strip())
        ops.sees_text("did you mean 'targets'?")
        ops.go("")
        ops.sees("check.configuration")
    finally:
        router.config.write_text(good)


def test_a_refused_callback_is_found_with_its_fault(router: Troubled, ops: Visitor) -> None:
    """By an id in its body: in the list, and as a timeline."""
    name = f"refused-{ops.language}"
    router.serve.ask("POST", "/callback", event(event_source=1, changes=[name]))
    ops.go("#/nodes")
    ops.go(f"#/events?what={name}")
    why = ops.word("fault.type", field="event_source")
    ops.sees("step.refused", why=why)
    ops.page.locator("tbody a").first.click()
    ops.sees("event.refused")
    ops.sees("step.refused", why=why)
    ops.link("refused").click()
    expect(ops.field("dead.match")).to_have_value("a.gs.cert.1")
    expect(ops.row(why)).to_have_count(1)


def test_refused_callbacks_are_replayed(router: Troubled, ops: Visitor) -> None:
    """From the overview: by fault and key, with a preview of those that would still be refused, the
    progress, and the outcome. A second replay finds them delivered."""
    source = f"z-{ops.language}"
    bodies = [
        event(event_key=f"{source}.y", changes=[source]),
        event(event_type=1, event_key=f"{source}.x", changes=["a fault"]),
    ]
    for body in bodies:
        router.serve.ask("POST", "/callback", body)
    good = json.loads(router.config.read_text())
    route = {"name": "late", "match": f"{source}.*", "required": ["certificates"]}
    ops.go("")
    label = f"{ops.word('check.callbacks')} ({ops.word('no_route')})"
    name = f"{ops.word('refused')}{ops.word('colon')}{label}"
    ops.page.get_by_role("link", name=name, exact=True).click()
    ops.settle()
    ops.field("dead.match").fill(f"{source}.*")
    ops.button("filter").click()
    expect(ops.page.locator("tbody tr")).to_have_count(2)
    fault = ops.word("fault.type", field="event_type")
    expect(ops.row(fault)).to_contain_text(f"{source}.x")
    expect(ops.row(ops.word("no_route")).get_by_role("link")).to_have_count(2)
    try:
        count = len([*_reloads(router, "taken")])
        router.config.write_text(json.dumps({**good, "routes": [*good["routes"], route]}))
        router.serve.wait_for(lambda: len([*_reloads(router, "taken")]) > count)
        ops.button("refused.replay").click()
        dialog = ops.page.locator("dialog")
        expect(dialog).to_contain_text(ops.word("refused.fine", n=1))
        expect(dialog).to_contain_text(ops.word("refused.still", n=1, why=fault))
        ops.button("do.replay", n=1).click()
        expect(dialog).to_contain_text(ops.word("outcome", n=1, done=1, failed=0))
        assert len(router.targets["certificates"].of(source)) == 1
        ops.button("dismiss").click()
        ops.button("refused.replay").click()
        expect(dialog).to_contain_text(ops.word("refused.fine", n=0))
        expect(dialog).to_contain_text(ops.word("refused.replayed", n=1))
        expect(dialog.get_by_role("button")).to_have_count(1)
    finally:
        router.config.write_text(json.dumps(good))


def test_an_event_is_replayed(router: Troubled, ops: Visitor) -> None:
    """To one of its targets or to all, from its own page. The preview warns of a target that fails,
    and a delivery that is still being retried is left alone."""
    name = f"again-{ops.language}"
    router.dead(name)
    ops.go(f"#/events?what={name}")
    ops.row("a.gs.cert.1").get_by_role("link").first.click()
    ops.button("again").click()
    dialog = ops.page.locator("dialog")
    expect(dialog.locator("option")).to_have_count(4)
    ops.button("again.look").click()
    expect(dialog).to_contain_text(ops.word("held.failing", target="ledger"))
    ops.button("do.replay", n=3).click()
    expect(dialog).to_contain_text(ops.word("again.did", n=2))
    expect(dialog).to_contain_text(ops.word("again.left", n=1))
    expect(dialog).to_contain_text(ops.word("outcome", n=2, done=1, failed=1))
    ops.button("dismiss").click()
    ops.sees("done.replay")
    ops.button("again").click()
    dialog.locator("select").select_option("certificates")
    ops.button("again.look").click()
    expect(dialog).to_contain_text(ops.word("again.would", targets="certificates"))
    ops.button("do.replay", n=1).click()
    expect(dialog).to_contain_text(ops.word("outcome", n=1, done=1, failed=0))
    got = {target: len(router.targets[target].of(name)) for target in ("certificates", "ledger")}
    assert got == {"certificates": 3, "ledger": 1}


def test_nodes_are_listed(router: Troubled, ops: Visitor) -> None:
    """The process that serves, and that it is ready."""
    ops.go("#/nodes")
    row = ops.row(str(router.serve.process.pid))
    expect(row).to_contain_text(ops.word("nodes.ready"))


def test_a_missing_page_is_explained_in_the_readers_language(ops: Visitor) -> None:
    """A problem of the API has its Chinese by its code."""
    sentences = {
        "#/targets/none": ("there is no such target", "没有这个业务端"),
        "#/events/none": ("there is no such event", "没有这个事件"),
    }
    for place, words in sentences.items():
        ops.page.goto(f"{ops.url}/{place}")
        ops.sees_text(words[ops.language == "zh"])
