"""A real browser with the page, in one language, theme and width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect

#: How to start Debian's browser, without any requests of its own.
CHROMIUM: dict[str, Any] = {
    "executable_path": "/usr/bin/chromium",
    "args": [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    ],
}

#: How long something may take to appear, in milliseconds.
PATIENCE = 15_000

#: The text of a key, as the page makes it. Some texts arrive after the first view.
_WORD = """async ([key, values]) => {
    const {src} = document.querySelector('script');
    await import(new URL('rooms/words.js', src));
    return (await import(new URL('logic.js', src))).text(key, values);
}"""

_LOCALES = {"en": "en-GB", "zh": "zh-CN"}


class Visitor:
    """One tab, with the page's texts in its language."""

    def __init__(self, page: Page, url: str, language: str) -> None:
        self.page = page
        self.url = url
        self.language = language
        #: Errors and warnings in the browser's console.
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # The browser also reports replies other than 2xx, which the page handles.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def go(self, place: str) -> None:
        """Go to a place, and wait until it is shown."""
        self.page.goto(f"{self.url}/{place}")
        self.settle()

    def settle(self) -> None:
        expect(self.page.locator("main[aria-busy=false] h1")).to_be_visible()

    def word(self, key: str, **values: Any) -> str:
        """Return the page's text for `key`, by its own code."""
        found: str = self.page.evaluate(_WORD, [key, values])
        return found

    def button(self, key: str, **values: Any) -> Locator:
        return self.page.get_by_role("button", name=self.word(key, **values), exact=True)

    def link(self, key: str, **values: Any) -> Locator:
        return self.page.get_by_role("link", name=self.word(key, **values), exact=True)

    def field(self, key: str) -> Locator:
        return self.page.get_by_label(self.word(key), exact=True)

    def multiply(self, name: str, count: int, **changes: Any) -> None:
        """Let the router answer with so many targets like this one, with their troubles."""

        def targets(route: Route) -> None:
            answer = route.fetch()
            [one] = [each for each in answer.json()["targets"] if each["name"] == name]
            many = [{**one, **changes, "name": f"{name}-{number}"} for number in range(count)]
            route.fulfill(response=answer, json={"targets": many})

        def status(route: Route) -> None:
            answer = route.fetch()
            causes = [
                {**cause, "params": {**cause["params"], "target": f"{name}-{number}"}}
                for cause in answer.json()["causes"]
                if cause["params"].get("target") == name
                for number in range(count)
            ]
            route.fulfill(response=answer, json={**answer.json(), "causes": causes})

        self.page.route("**/api/v1/targets", targets)
        self.page.route("**/api/v1/status", status)

    @property
    def letters(self) -> Locator:
        """Return the rows of deliveries with buttons."""
        return self.page.locator("tr:has(td.does button)")

    def row(self, text: str) -> Locator:
        """Return the rows that contain it."""
        return self.page.locator("tbody tr").filter(has_text=text)

    def sees(self, key: str, **values: Any) -> None:
        """Wait until the text of `key` is somewhere in the room."""
        self.sees_text(self.word(key, **values))

    def sees_text(self, text: str) -> None:
        pattern = re.compile(re.escape(text).replace(r"\ ", r"\s+"))
        expect(self.page.locator("main")).to_contain_text(pattern)


@contextmanager
def visitor(
    browser: Browser, url: str, language: str = "en", *, token: str = "", dark: bool = False,
    width: int = 1280,
) -> Iterator[Visitor]:  # fmt: skip
    """Open a tab, signed in with a token if there is one."""
    with browser.new_context(
        locale=_LOCALES[language],
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 800},
    ) as context:
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        if token:
            kept = f"sessionStorage.setItem('ebaas-router-token', '{token}')"
            context.add_init_script(kept)
        page = context.new_page()
        try:
            yield Visitor(page, url, language)
        finally:
            # A reply that a test still changes would fail the next test, and one that never comes
            # would hold it for ever.
            page.unroute_all(behavior="ignoreErrors")
