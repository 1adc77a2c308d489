"""The limits of the callback port that a caller meets, as they are without any setting."""

from __future__ import annotations

import time

from router.config.settings import Settings
from router.net.http.lifetime import Limits
from router.process.running import caller_limits
from tests.support.wire import PROBE, answer_on, post, running


def test_a_body_may_have_a_mebibyte() -> None:
    """A larger one gets 413."""
    with running(Limits()) as router:
        assert router.ask(post(body=b" " * 2**20)).status == 400
        assert router.ask(post(body=b" " * (2**20 + 1))).status == 413


def test_times_and_connections() -> None:
    """A request has 10 s to arrive; an idle connection outlives those of common balancers; and
    callers have four connections for each request in flight."""
    limits = caller_limits(Settings(max_requests=7))
    assert (limits.first_byte, limits.receive, limits.keep_alive) == (10.0, 10.0, 620.0)
    assert limits.connections == 28


def test_a_request_that_takes_too_long_to_arrive_reaches_nobody() -> None:
    """A request that is complete after `reply_within` gets 408, and reaches no target."""
    ebaas = {"reply_within": "300ms"}
    with running(Limits(), ebaas=ebaas) as router, router.line() as line:
        whole = post()
        line.say(whole[:-1])
        time.sleep(0.6)
        line.say(whole[-1:])
        assert answer_on(line).status == 408
        assert router.events == []


def test_a_request_that_has_come_is_answered_though_keep_alive_is_over() -> None:
    """A loop that was held up looks at what has come before it closes what seems idle."""
    with running(Limits(keep_alive=0.4)) as router, router.line() as line:
        line.say(PROBE)
        answer_on(line)
        router.loop.call_soon_threadsafe(time.sleep, 1.0)
        line.say(post())
        assert answer_on(line).status == 200
