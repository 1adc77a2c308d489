"""The pages in docs/ that promise something: what they name is there, what they show works."""

from __future__ import annotations

import ast
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from router.model import Reason
from tests.command import ROOT
from tests.serving import body, serving, target

DOCS = ROOT / "docs"

_TEST = re.compile(r"`(?:(tests/[a-z_/]+\.py)(?:::)?)?(test_\w+)?(?:\[(\w+)\])?`")


def named_tests(page: str) -> list[tuple[str, str, str]]:
    """The tests that a page names: the file, the function, the parameter's id."""
    text = (DOCS / page).read_text()
    found = (match.groups(default="") for match in _TEST.finditer(text))
    return [
        (file or "tests/test_faults.py", function, parameter)
        for file, function, parameter in found
        if file or function
    ]


@pytest.mark.parametrize("page", ["faults.md", "guarantees.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """With its parameter, where one is named."""
    named = named_tests(page)
    assert len(named) > 10
    for file, function, parameter in named:
        source = (ROOT / file).read_text()
        names = {
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not function or function in names, (file, function)
        assert not parameter or f'"{parameter}"' in source, (file, parameter)


def example(page: str) -> dict[str, Any]:
    """What the page's Python defines."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    defined: dict[str, Any] = {}
    exec(compile(code, page, "exec"), defined)
    return defined


def test_the_receiver_of_the_page_does_its_work_once(tmp_path: Path) -> None:
    """Its answer is lost once: the retry comes under the same id, and is answered without doing the
    work again. The same content as a new event is done again."""
    defined = example("receivers.md")
    done: list[dict[str, Any]] = []
    defined["work"] = lambda event, _: done.append(event)

    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        database.execute("CREATE TABLE done (webhook_id TEXT PRIMARY KEY)")

        def answer(name: str, webhook_id: str) -> str:
            code: str = defined["handle"](webhook_id, body(name), database)["code"]
            return code if len(receiver.got) else "lost"

        with target(answer) as receiver, serving(tmp_path, {"receiver": receiver}) as router:
            assert router.post("event") == "500"
            assert router.post("event") == "000"
            assert len(done) == 1
            assert router.post("event") == "000"
        assert [got.code for got in receiver.got] == ["lost", "000", "000"]
        first, again, anew = (got.webhook_id for got in receiver.got)
        assert first == again != anew
        assert len(done) == 2


def test_a_receiver_whose_work_fails_gets_the_event_again() -> None:
    """What the page's transaction began is undone, so that the retry does it."""
    defined = example("receivers.md")
    tries: list[str] = []

    def work(_: object, database: sqlite3.Connection) -> None:
        tries.append("once more")
        if len(tries) == 1:
            raise sqlite3.OperationalError

    defined["work"] = work
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE done (webhook_id TEXT PRIMARY KEY)")
        with pytest.raises(sqlite3.OperationalError):
            defined["handle"]("id", body("event"), database)
        for _ in range(2):
            assert defined["handle"]("id", body("event"), database)["code"] == "000"
    assert len(tries) == 2


def test_every_reason_is_explained() -> None:
    """The page for ops has a row for each."""
    page = (ROOT / "docs" / "ops.md").read_text()
    assert [reason for reason in Reason if f"| `{reason}` |" not in page] == []
