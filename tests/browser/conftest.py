"""A browser, a router with problems, and a visitor of its page: `make browser`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

# The environment of all other tests has no driver for browsers.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

if find_spec("playwright"):
    from playwright.sync_api import Browser, sync_playwright

    from tests.browser.troubled import Troubled, troubled
    from tests.browser.visitor import CHROMIUM, Visitor, visitor

    @pytest.fixture(scope="session")
    def chromium() -> Iterator[Browser]:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(**CHROMIUM)
            yield browser
            browser.close()

    @pytest.fixture(scope="module")
    def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
        """One for all tests of a module, which do not disturb each other."""
        with troubled(tmp_path_factory.mktemp("router")) as started:
            yield started

    @pytest.fixture(params=["en", "zh"])
    def ops(
        request: pytest.FixtureRequest, chromium: Browser, router: Troubled
    ) -> Iterator[Visitor]:
        """A visitor with all permissions, in each language, without errors in the console."""
        with visitor(chromium, router.url, request.param, token=router.ops_token) as found:
            yield found
        assert found.complaints == []
