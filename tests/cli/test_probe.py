"""`probe` against receivers of its own, each with one fault, and against those that are shipped."""

from __future__ import annotations

import json
import os
import pty
import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from router.cli.probe_checks import REASONS, Samples, checks
from tests.cli.faulty_receivers import FAULTS
from tests.support.certificates import issued
from tests.support.command import PATIENCE, ROOT, command, environment, receiver
from tests.support.inprocess import ran
from tests.support.receivers import SECRET, Right, answering, serving
from tests.support.sockets import free_port

#: Quick enough for a test, and long enough for a right receiver.
QUICK = ("--yes", "--timeout", "1s")


def probe(url: str, *arguments: str | Path) -> dict[str, Any]:
    """The result of each check, and the exit code as `code`."""
    result = ran("probe", url, "--secret", SECRET, "--format", "json", *QUICK, *arguments)
    results = {line["check"]: line for line in map(json.loads, result.lines)}
    return {**results, "code": result.code}


def breaches(results: dict[str, Any]) -> list[str]:
    return [name for name, line in results.items() if name != "code" and line["grade"] == "breach"]


@pytest.mark.parametrize("fault", FAULTS)
def test_it_finds_the_fault(fault: str) -> None:
    """Exactly one check fails, with the router's reason and a fix."""
    handler, check, reason, mend = FAULTS[fault]
    with serving(handler) as url:
        results = probe(url)
    assert breaches(results) == [check]
    assert results["code"] == 1
    assert results[check]["reason"] == reason
    assert bool(results[check]["router"]) == bool(reason)
    assert mend in results[check]["mend"]


def test_a_right_receiver_passes_every_check() -> None:
    """No check fails; a check that cannot be made is skipped."""
    with serving(Right) as url:
        results = probe(url)
    assert results.pop("code") == 0
    assert [name for name, line in results.items() if line["grade"] != "good"] == ["tls"]


def test_the_receivers_that_are_shipped_pass() -> None:
    """`receive --verify`, and `receive` alone, where there is nothing to sign with."""
    with receiver("--verify", SECRET) as shipped:
        assert probe(shipped.url)["code"] == 0
    with receiver() as shipped:
        result = ran("probe", shipped.url, *QUICK)
    assert result.code == 0
    assert result.lines[-1] == "checks: 18, good 13, breach 0, skipped 5"


def test_the_output_is_chinese_on_request() -> None:
    """The question, each line and the numbers, in columns of one width; what a machine reads stays
    as it is."""
    with serving(answering({"code": "500"})) as url:
        asked = ("probe", url, "--secret", SECRET, *QUICK, "--lang")
        chinese = ran(*asked, "zh")
        machine, english = (ran(*asked, language, "--format", "json") for language in ("zh", "en"))
    assert chinese.err.startswith("ebaas-router: 检查项：18，最多向 ")
    assert chinese.lines == [
        "跳过    tls              URL 是 http",
        "不符    answers          示例事件没有得到确认：HTTP 200，返回了错误码：code '500'",
        "          影响           原因 `code`：事件会被重发，14.1 小时内最多 20 次",
        '          修正方法       处理结果落盘后返回 {"code": "000", "msg": "成功"}；code 是字符串',
        "检查项：18，通过 0，不符 1，跳过 17",
    ]
    outputs = [
        [{**json.loads(line), "seconds": 0} for line in run.lines] for run in (machine, english)
    ]
    assert outputs[0] == outputs[1]


def test_if_no_event_is_acknowledged_the_other_checks_are_skipped() -> None:
    """One breach with the router's reason; the checks that follow are counted."""
    result = ran("probe", f"http://127.0.0.1:{free_port()}/", *QUICK)
    assert result.code == 1
    first, *breach, total = result.lines
    assert first.startswith("skipped tls")
    assert breach[0].startswith("BREACH  answers")
    assert "Connection refused" in breach[0]
    assert "`connect_refused`: the event is sent again, up to 20 times within 14.1 h" in breach[1]
    assert "start the receiver" in breach[2]
    assert total == "checks: 18, good 0, breach 1, skipped 17"


@pytest.mark.parametrize(
    ("days", "trusted", "reason", "text"),
    [
        (90, True, None, "expires in 9"),
        (3, True, None, "expires in 3.0 days"),
        (90, False, "tls", "unable to get local issuer"),
        (-0.5, True, "tls", "expired"),
    ],
)
def test_a_certificate_is_looked_at(
    tmp_path: Path, days: float, trusted: bool, reason: str | None, text: str
) -> None:
    """Its authority and its expiry are checked."""
    pair = issued(tmp_path, days=days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair.load_into(context)
    with serving(Right, context) as url:
        ca = ("--ca", tmp_path / "cert.ca") if trusted else ()
        results = probe(url, "--only", "tls", *ca)
    assert text in results["tls"]["said"]
    assert results["tls"]["reason"] == reason
    assert results["code"] == (days != 90 or not trusted)


def routes(folder: Path, url: str, **target: Any) -> Path:
    file = folder / "routes.yaml"
    expected = {"url": url, "secret": f"${{PROBED:-{SECRET}}}", "timeout": "1s", **target}
    file.write_text(
        json.dumps(
            {
                "version": 1,
                "queue": {"retries": 2, "waits": ["1h"]},
                "targets": {"ledger": expected},
                "routes": [{"name": "all", "match": "*", "optional": ["ledger"]}],
            }
        )
    )
    return file


def test_a_target_is_probed_as_routes_yaml_has_it(tmp_path: Path) -> None:
    """URL, headers, secret, timeout and what acknowledges; and who sends again."""
    seen: list[str | None] = []

    class Ledger(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            seen.extend(headers.get(name) for name in ("x-tenant", "x-ebaas-target"))
            return 202, b"later"

    with serving(Ledger) as url:
        more = {"headers": {"X-Tenant": "7"}, "acknowledge": "status"}
        only = ("probe", "--target", "ledger", "--yes", "--only", "answers", "--config")
        assert ran(*only, routes(tmp_path, url, **more)).code == 0
        assert seen == ["7", "ledger"]
        for own, again in (({}, "2 times within 2.0 h"), ({"retries": 3}, "3 times within 3.0 h")):
            queue = {"queue": own} if own else {}
            result = ran(*only, routes(tmp_path, url, **queue))
            assert result.code == 1
            assert f"the router sends the event again, up to {again}" in result.lines[1]


def test_a_routes_yaml_of_no_use_is_no_breach(tmp_path: Path) -> None:
    """Exit code 3, with what is wrong and where."""
    result = ran("probe", "--target", "x", "--yes", "--config", tmp_path / "routes.yaml")
    assert (result.code, result.out) == (3, "")
    assert "can't be read" in result.err


def test_it_sends_nothing_unasked() -> None:
    """Without a terminal it says what it would send, and ends with exit code 2."""
    with serving(Right) as url:
        result = ran("probe", url, "--only", "answers")
    assert (result.code, result.out) == (2, "")
    assert f"checks: 1, with up to 1 real requests to {url}" in result.err
    assert "--yes sends without asking" in result.err


@pytest.mark.parametrize(("text", "code"), [(b"y\n", 0), (b"\n", 1)])
def test_it_asks_on_a_terminal(text: bytes, code: int) -> None:
    """Only `y` or `yes` sends."""
    ours, theirs = pty.openpty()
    with serving(Right) as url:
        os.write(ours, text)
        asked = ("probe", url, "--secret", SECRET, "--only", "answers")
        done = subprocess.run(
            command(*asked), stdin=theirs, capture_output=True, cwd=ROOT, env=environment(),
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code
    assert b"send them? [y/N]" in done.stderr
    assert bool(done.stdout) == (code == 0)


def test_no_packet_goes_where_events_may_not_go(tmp_path: Path) -> None:
    """`egress` of routes.yaml holds for a probe too."""
    file = routes(tmp_path, f"http://localhost:{free_port()}/")
    file.write_text(file.read_text().replace('"version"', '"egress": ["10.0.0.0/8"], "version"'))
    result = ran("probe", "--target", "ledger", "--config", file, "--yes", "--format", "json")
    [breach] = [line for line in map(json.loads, result.lines) if line["grade"] == "breach"]
    assert (result.code, breach["check"], breach["reason"]) == (1, "answers", "forbidden")


def test_the_page_has_every_check() -> None:
    """The page lists the checks in their order, in each language."""
    ours = [check.name for check in checks(Samples("a.b.c.d"))]
    pages = [*(ROOT / "docs").glob("**/probe.md")]
    assert pages
    for page in pages:
        rows = re.findall(r"^\| ?`([a-z-]+)` ?\|", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [row for row in rows if row in ours] == ours


def test_a_reason_has_the_same_chinese_name_as_on_the_page() -> None:
    """The names of reasons agree with the console."""
    page = (ROOT / "router/ops/page/words.js").read_text("utf-8")
    worded = dict(re.findall(r'^  "reason\.(\w+)": \[.*, "([^"]+)"\],$', page, re.MULTILINE))
    ours = {str(reason): name for reason, (name, _) in REASONS.items() if name}
    assert ours == {reason: worded[reason] for reason in ours}


def test_the_locale_chooses_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of LC_ALL, LC_MESSAGES and LANG that is set; `--lang` has the last word."""
    for lc_all, lang, option, passed in (
        ("", "zh_CN.UTF-8", (), "跳过"),
        ("C", "zh_CN.UTF-8", (), "skipped"),
        ("", "zh_CN.UTF-8", ("--lang", "en"), "skipped"),
    ):
        monkeypatch.setenv("LC_ALL", lc_all)
        monkeypatch.setenv("LC_MESSAGES", "")
        monkeypatch.setenv("LANG", lang)
        result = ran("probe", "http://127.0.0.1:1/", "--only", "tls", "--yes", *option)
        assert result.lines[0].startswith(passed)
