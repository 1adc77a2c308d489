"""`demo`: what it shows, with a routes.yaml of the test's own."""

from __future__ import annotations

import json
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.command import Running, running
from tests.support.house import event, routes
from tests.support.sockets import free_port


def demonstrated(
    folder: Path, *required: str, wait: str, **optional: str
) -> AbstractContextManager[Running]:
    """The demo with these targets; EBaaS waits for `wait` before its retries."""
    file = folder / "routes.yaml"
    urls = {name: f"http://127.0.0.1:{free_port()}/" for name in required}
    file.write_text(json.dumps(routes(urls, optional, ebaas={"waits": [wait]})))
    return running("demo", "--config", str(file), "--port", "0")


def test_it_leaves_a_retry_to_be_seen(tmp_path: Path) -> None:
    """The optional target fails the demo's own event, and no other."""
    maybe = f"http://127.0.0.1:{free_port()}/"
    with demonstrated(tmp_path, "one", wait="10ms", maybe=maybe) as demo:
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
        for _ in range(6):
            request = urllib.request.Request(maybe, event(changes=[3]), method="POST")
            with urllib.request.urlopen(request) as answer:
                assert json.load(answer)["code"] == "000"


def test_it_shows_each_event_and_a_retry(tmp_path: Path) -> None:
    """The retry calls only the target that failed; a long wait is cut short."""
    with demonstrated(tmp_path, "one", "two", wait="40s") as demo:
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
        assert demo.interrupt() == 0
    story = demo.stdout[demo.stdout.index("") + 1 :]
    assert story[1] == "An event came: a.gs.cert.1 (128 bytes)"
    assert "Next, an event that two fails at first. EBaaS retries until it gets 000:" in story
    assert story[story.index("  request 2 of 21") + 1].split() == (
        ["one", "required", "not", "called", "again:", "acknowledged"]
    )


def test_events_of_others_are_not_its_own(tmp_path: Path) -> None:
    """An event that somebody sends before the retry is not shown as the retry."""
    with demonstrated(tmp_path, "one", "two", wait="1s") as demo:
        demo.wait_for(lambda: "  request 1 of 21" in demo.stdout)
        url = demo.stdout[0].removeprefix("EBaaS callback router on ")
        with urllib.request.urlopen(urllib.request.Request(url, event(), method="POST")) as answer:
            assert json.load(answer)["code"] == "000"
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
    requests = [line for line in demo.stdout if line.startswith("  request ")]
    assert requests == ["  request 1 of 21", "  request 2 of 21"]
