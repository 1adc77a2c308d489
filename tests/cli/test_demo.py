"""`demo`: what it tells of itself, with a routes.yaml of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.command import ROOT, Running, environment, running
from tests.support.house import event, routes
from tests.support.sockets import free_port

THIRD = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1","changes":[3]}'
)


def demonstrated(
    folder: Path, *required: str, wait: str, **optional: str
) -> AbstractContextManager[Running]:
    """The demo with these required targets, whose EBaaS waits for so long, and optional ones."""
    file = folder / "routes.yaml"
    urls = {name: f"http://127.0.0.1:{free_port()}/" for name in required}
    file.write_text(json.dumps(routes(urls, optional, ebaas={"waits": [wait]})))
    return running("demo", "--config", str(file), "--port", "0")


def test_it_leaves_a_retry_to_be_seen(tmp_path: Path) -> None:
    """The optional target fails the demo's own event, whatever else is sent meanwhile."""
    maybe = f"http://127.0.0.1:{free_port()}/"
    with demonstrated(tmp_path, "one", wait="10ms", maybe=maybe) as demo:
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
        for _ in range(6):
            request = urllib.request.Request(maybe, event(changes=[3]), method="POST")
            with urllib.request.urlopen(request) as answer:
                assert json.load(answer)["code"] == "000"


def test_it_says_what_it_sends_and_why(tmp_path: Path) -> None:
    """It plays EBaaS twice: once all is well, and once a retry calls the one that failed alone."""
    with demonstrated(tmp_path, "one", "two", wait="10ms") as demo:
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
        assert demo.interrupt() == 0
    told = demo.stdout[demo.stdout.index("") + 1 :]
    assert told[0] == "The demo plays EBaaS, and sends the sample event of the platform's page."
    assert told[1] == "An event came: a.gs.cert.1 (128 bytes)"
    assert "Another one, and two fails at first. EBaaS sends again what gets no 000:" in told
    assert told[told.index("  request 2 of 21") + 1].split() == (
        ["one", "not", "called", "again:", "acknowledged"]
    )


def test_a_wait_that_is_long_is_not_waited_for(tmp_path: Path) -> None:
    """The retry is left out, which is told, and the rest of the story is there."""
    maybe = f"http://127.0.0.1:{free_port()}/"
    with demonstrated(tmp_path, "one", wait="40s", maybe=maybe) as demo:
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout or demo.stderr)
        assert demo.interrupt() == 0
    assert "A retry is not shown: by `ebaas: waits` it would come after 40 s." in demo.stdout
    assert any(line.startswith("A third one, which maybe fails") for line in demo.stdout)


def test_a_story_without_an_end_is_cut(tmp_path: Path) -> None:
    """No retry reaches a target that is paused; the demo serves all the same."""
    file = tmp_path / "routes.yaml"
    urls = {"one": f"http://127.0.0.1:{free_port()}/"}
    told = routes(urls, ebaas={"waits": ["10ms"]})
    told["targets"]["one"] = {"url": urls["one"], "paused": True}
    file.write_text(json.dumps(told))
    code = (
        "import os, sys; from router.cli import main; from router.cli.trying import demo;"
        "demo._PATIENCE, say = 0.5, demo.say;"
        "demo.say = lambda text: (say(text), text.startswith('Serving') and os._exit(0));"
        f"sys.exit(main(['demo', '--config', {str(file)!r}, '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment(), check=True
    )
    assert b"that goes on for more than 0.5 s; its end is left out" in done.stdout


def test_events_of_others_are_not_its_own(tmp_path: Path) -> None:
    """What somebody sends while it waits for its retry is not told as that."""
    with demonstrated(tmp_path, "one", "two", wait="1s") as demo:
        demo.wait_for(lambda: "  request 1 of 21" in demo.stdout)
        url = demo.stdout[0].removeprefix("EBaaS callback router on ")
        with urllib.request.urlopen(urllib.request.Request(url, event(), method="POST")) as answer:
            assert json.load(answer)["code"] == "000"
        demo.wait_for(lambda: "Serving until Ctrl-C." in demo.stdout)
    requests = [line for line in demo.stdout if line.startswith("  request ")]
    assert requests == ["  request 1 of 21", "  request 2 of 21"]
