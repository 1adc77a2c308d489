"""What goes on beside the events that bench.tails measures: reloads, scrapes, prunes, rotations.

Each goes on in a thread from `start` to `stop`; its spans tell when it did what.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.spans import Span
from router.store.sqlite.file import connect

#: Routes of each file that is reloaded, besides those that the bench's events need.
ROUTES = 10_000

#: Seconds between two reloads, from one that is taken to the next edit; between two scrapes.
RELOAD_EVERY, SCRAPE_EVERY = 1.0, 1.0

#: Rows of the store that become old each second: as many events had failed once, an hour before.
OLD_EVERY_SECOND = 500

#: Seconds between two looks at whether rows have gone.
_LOOK = 0.01


class GoingOn:
    """Something that is done again and again."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.over = threading.Event()
        self._thread = threading.Thread(target=self.run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.over.set()
        self._thread.join()

    def run(self) -> None:
        """Until `over` is set."""
        raise NotImplementedError

    def note(self, what: str, began: float) -> None:
        now = time.time()
        self.spans.append(Span(what, began, now, now - began))


class Reloads(GoingOn):
    """Edits of routes.yaml, each with 10,000 other routes, as soon as the last one was taken."""

    def __init__(self, routes: Path, taken: Callable[[], int]) -> None:
        """`taken` tells how many reloads there were since it was asked last."""
        super().__init__()
        self._path = routes
        self._taken = taken
        self._table: dict[str, Any] = json.loads(routes.read_text())

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._edited(number)))
            began = time.time()
            part.replace(self._path)
            while not self._taken() and not self.over.wait(_LOOK):
                pass
            self.note("routes.yaml edited and taken", began)
            self.over.wait(RELOAD_EVERY)

    def _edited(self, number: int) -> dict[str, Any]:
        name = next(iter(self._table["targets"]))
        others = [
            {"name": f"{number}-{each}", "match": f"c.{number}.{each}.*", "required": [name]}
            for each in range(ROUTES)
        ]
        return {**self._table, "routes": [*self._table["routes"], *others]}


class Scrapes(GoingOn):
    """GET /metrics, as Prometheus does it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def run(self) -> None:
        while not self.over.wait(SCRAPE_EVERY):
            began = time.time()
            with urlopen(self._url, timeout=10) as answer:
                answer.read()
            self.note("scrape", began)


class Prunes(GoingOn):
    """Rows of the store become old, and the router deletes them."""

    def __init__(self, store: Path) -> None:
        """The rows are those of `fill`; they become old from now on."""
        super().__init__()
        self._store = store
        with closing(connect(store)) as connection:
            connection.execute(
                "UPDATE events SET stage = 'ended', expires_at = ? + seq / ? "
                "WHERE event_id LIKE 'filled-%'",
                (time.time(), float(OLD_EVERY_SECOND)),
            )

    def run(self) -> None:
        with closing(connect(self._store)) as connection:
            before, looked = self._oldest(connection), time.time()
            while not self.over.wait(_LOOK):
                oldest, began = self._oldest(connection), looked
                looked = time.time()
                if oldest != before:
                    self.note("prune", began)
                before = oldest

    @staticmethod
    def _oldest(connection: Any) -> float | None:
        ((oldest,),) = connection.execute("SELECT min(expires_at) FROM events").fetchall()
        return oldest  # type: ignore[no-any-return]
