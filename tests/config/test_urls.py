"""A target's URL has one reading: a URL that two programs might read differently is refused."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from router.config import loading
from router.model.errors import ConfigInvalid

URLS = Path(__file__).parents[1] / "testdata/urls"


def listed(name: str) -> list[str]:
    """The lines of a list, blanks at their ends included, without its first line."""
    return (URLS / name).read_text(encoding="utf-8").split("\n")[1:-1]


def load(url: str) -> None:
    target = {"ledger": {"url": url}}
    routes = [{"name": "all", "match": "*", "required": ["ledger"]}]
    text = json.dumps({"version": 1, "targets": target, "routes": routes})
    loading.parse(text.encode(), "routes.yaml", {}, None)


@pytest.mark.parametrize("url", listed("refused.txt"))
def test_odd(url: str) -> None:
    """An odd URL is one error at its place."""
    with pytest.raises(ConfigInvalid) as raised:
        load(url)
    assert [problem.path for problem in raised.value.problems] == ["targets.ledger.url"]


@pytest.mark.parametrize("line", listed("allowed.txt"))
def test_plain(line: str) -> None:
    """The engines read the same host and port from an allowed URL as we do."""
    url, host, port = line.split()
    load(url)
    parts, other = urlsplit(url), httpx.URL(url)
    usual = 443 if parts.scheme == "https" else 80
    assert (parts.hostname, parts.port or usual) == (host.lower(), int(port))
    assert (other.raw_host.decode().lower(), other.port or usual) == (host.lower(), int(port))
