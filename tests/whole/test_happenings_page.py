"""docs/reference/notifications.md: its samples are what the router makes.

After a change that is meant, `UPDATE_GOLDEN=1 pytest tests/whole/test_happenings_page.py` writes
them anew; read the difference.
"""

from __future__ import annotations

import re
from unittest.mock import patch

import pytest

from router.delivery import notifications
from router.delivery.notifications import EVENTS_BACK, EVENTS_SILENT, NotificationKind
from router.delivery.target.gate import Failing
from router.store.opening import NoStore
from router.store.protocol import State, StoreFailed
from router.telemetry.log.lines import utc
from tests.support.command import ROOT
from tests.support.golden import check_golden
from tests.support.notified import NO, TARGETS, YES, Process, to

pytestmark = pytest.mark.anyio

PAGE = ROOT / "docs/reference/notifications.md"

#: When it all begins: 2026-11-26T09:00:00Z.
SINCE = 1_795_683_600.0

_SAMPLES = re.compile(r"(?<=```json\n).+?(?=```)", re.DOTALL)


async def samples() -> list[str]:
    clock = SINCE
    one = Process(NoStore(), to("bot"))
    ledger, own = TARGETS["ledger"], one.notifications
    own._monotonic = lambda: clock
    numbers = one.metrics.of("ledger")
    numbers.unsettled.update({State.AWAITING: 30, State.QUEUED: 7})
    numbers.expires_at = SINCE + 50_000
    own.failing(ledger, Failing(SINCE, 41, NO))
    await own.hand_over(one.store, one.send)
    own.failing(ledger, Failing(SINCE, 187, YES.replace(at=SINCE + 1935.0)))
    missed, expires_at = dict(numbers.unsettled), numbers.expires_at
    numbers.unsettled.clear()
    numbers.expires_at = None
    clock += 12.5
    own.waiting(())
    clock -= 12.5
    numbers.unsettled.update(missed)
    numbers.expires_at = expires_at
    for number in range(37):
        own.dead(
            "ledger", "timeout", f"b372be68-6fa6-4590-b927-a4096e6a05{number:02}", "a.gs.cert.1"
        )
    own.expires_at({"ledger": SINCE + 3600}, SINCE)
    await own.hand_over(one.store, one.send)
    changes = ["route everything under gs: optional audit → ledger"]
    own.reloaded("9f2c41d07b6e", changes, (), "")
    problem = "routes[1].optional: no target 'ledgr', did you mean 'ledger'?"
    own.reloaded("", (), [f"config/routes.yaml:22:16: {problem}"], "")
    with patch("time.time", lambda: clock):
        own.store_failed(StoreFailed("lost"))
        clock += 30.0
        own.store_failed(StoreFailed("lost"))
    own.store_back(412.3)
    own.notify(EVENTS_SILENT, {"since": utc(SINCE)})
    own.notify(EVENTS_BACK, {"since": utc(SINCE)})
    await own.hand_over(one.store, one.send)
    return [letter.event.body.decode() for _, letter in one.sent]


async def test_the_page_shows_each_kind_as_it_is_made() -> None:
    """Byte for byte, and every kind that there is."""
    made = await samples()
    page = PAGE.read_text(encoding="utf-8")
    anew = _SAMPLES.sub(lambda _: "\n".join(made) + "\n", page)
    check_golden(PAGE, anew)
    of = {f'"event_topic":"{k.topic}","event_type":"{k.type}"' for k in _kinds()}
    assert all(sum(each in sample for sample in made) == 1 for each in of)
    keys = set(re.findall(r"`ebaas-router\.(\w+\.\w+)(?:\.TARGET)?`\|", page))
    assert keys == {f"{k.topic}.{k.type}" for k in _kinds()}


def _kinds() -> list[NotificationKind]:
    return [kind for kind in vars(notifications).values() if isinstance(kind, NotificationKind)]
