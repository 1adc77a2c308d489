"""Fixtures and options of every suite."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from tests.support import postgres
from tests.support.disks import Disks
from tests.support.effort import TORTURE, many
from tests.support.engines import ENGINES, Engine
from tests.support.shop import PostgresShop, Shop, SqliteShop

# Files that tests make are their user's alone, as secrets and stores should be.
os.umask(0o077)


# How long an example takes depends on what else the machine does; speed lives in bench/.
settings.register_profile(
    "any machine",
    max_examples=many(50),
    deadline=None,
    derandomize=not TORTURE,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a PostgreSQL server, and skip them unless one is requested."""
    skip = pytest.mark.skip(reason="needs a PostgreSQL server: make postgresql")
    for item in items:
        if isinstance(item, pytest.Function) and "postgresql" in item.fixturenames:
            item.add_marker("postgresql")
        # A parameter that asks for one is marked where it stands.
        if item.get_closest_marker("postgresql") and not postgres.REQUIRED:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line says how many tests were skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        output = "; ".join(f"{count} ({why})" for why, count in reasons.most_common())
        terminalreporter.write_line(f"skipped {reasons.total()}: {output}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """In a fresh checkout, compile the tests once, on two cores. Otherwise each worker compiles
    all of them, because all workers start at the same time."""
    folder = Path(__file__).parent
    compiled = f"*/__pycache__/test_*.{sys.implementation.cache_tag}-pytest-*.pyc"
    if sys.dont_write_bytecode or any(folder.glob(compiled)):
        return
    rooms = sorted(each for each in folder.iterdir() if (each / "__init__.py").exists())
    collect = [sys.executable, "-m", "pytest", "-n", "0", "--collect-only", "-qq"]
    halves = [
        subprocess.Popen([*collect, *rooms[half::2]], stdout=subprocess.DEVNULL) for half in (0, 1)
    ]
    for each in halves:
        each.wait()


def pytest_collection_finish() -> None:
    """Exclude the tests themselves from garbage collection while they run."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Disable garbage collection during a test, so that cycles remain, and no measurement contains
    a collection of the garbage of earlier tests."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them has to pass the suite."""
    return ENGINES[request.param]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Server]:
    """One for each process of the test run, whose tests may stop it and have to start it again."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def database(postgresql: postgres.Server) -> Iterator[postgres.Database]:
    """A test's own, and empty."""
    with postgresql.database() as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteShop]:
    opened = SqliteShop(tmp_path / "store.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tables(postgresql: postgres.Server) -> Iterator[PostgresShop]:
    """One database for all tests of this module."""
    password = {"PGPASSWORD": postgres.PASSWORD}
    with postgresql.database() as made, patch.dict(os.environ, password):
        opened = PostgresShop(made)
        opened.prepare()
        yield opened
        opened.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def shop(request: pytest.FixtureRequest) -> Shop:
    """An empty store of each kind."""
    if request.param == "sqlite":
        opened: SqliteShop = request.getfixturevalue("file")
        return opened
    kept: PostgresShop = request.getfixturevalue("tables")
    kept.clear()
    return kept


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with closing(Disks(tmp_path)) as own:
        yield own
