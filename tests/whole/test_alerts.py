"""The alerts, their page and the dashboard fit each other; `make monitoring` tries them."""

from __future__ import annotations

import re

import pytest
import yaml

from scripts.dashboard import DASHBOARD
from tests.support.command import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
FILE = ROOT / "deploy/grafana/ebaas-router.json"
FOLDERS = ("docs/how-to", "docs/zh-CN")

[GROUP] = yaml.load((PROMETHEUS / "rules.yml").read_text("utf-8"), yaml.CSafeLoader)["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"] if "alert" in rule}
RECORDS = {rule["record"] for rule in GROUP["rules"] if "record" in rule}

TESTS = [
    test
    for file in PROMETHEUS.glob("*.test.yml")
    for test in yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)["tests"]
]


def sections(folder: str) -> dict[str, str]:
    page = (ROOT / folder / "alerts.md").read_text("utf-8")
    parts = re.split(r"^## (.*)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    """In both languages, in the order of the rules, each with the same numbered steps. The alerts'
    annotations lead there."""
    english, chinese = map(sections, FOLDERS)
    assert list(english) == list(chinese) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/how-to/alerts.md#{name.lower()}"
        steps, theirs = (
            re.findall(r"^(\d)\. ", page[name], re.MULTILINE) for page in (english, chinese)
        )
        assert steps == theirs == [str(number + 1) for number in range(len(steps))] != []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_to_fire_not_sooner_and_not_for_ever(name: str) -> None:
    """One test of each alert looks before it, during it, and after it."""
    looks = [
        [bool(look.get("exp_alerts")) for look in test.get("alert_rule_test", [])
         if look["alertname"] == name]
        for test in TESTS
    ]  # fmt: skip
    assert [False, True, False] in [each[:3] for each in looks]


def test_no_optional_target_wakes_anybody() -> None:
    """An alert about a target is a page by its role alone, and has its owner."""
    role = '{{ if eq $labels.role "required" }}page{{ else }}ticket{{ end }}'
    for rule in ALERTS.values():
        if "$labels.target" in rule["annotations"]["summary"]:
            assert rule["labels"]["severity"] in (role, "ticket")
            joined = "group_left (owner, role) ebaas_router:target_info" in rule["expr"]
            assert joined or rule["expr"].split()[0] in RECORDS


def test_the_dashboard_asks_for_what_it_has() -> None:
    """Variables, recorded series and query names of the dashboard exist."""
    text = FILE.read_text("utf-8")
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == variables
    assert set(re.findall(r"ebaas_router:[a-z0-9_:]+", text)) <= RECORDS
    for panel in DASHBOARD["panels"]:
        names = [query["refId"] for query in panel.get("targets", [])]
        assert len(names) == len(set(names))
