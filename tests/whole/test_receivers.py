"""The receivers of docs/receivers/: each is run as its page says, and probed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from router.contract.signing import Signer
from router.model.secret import Secret
from tests.support.command import PATIENCE, ROOT
from tests.support.house import event
from tests.support.inprocess import ran
from tests.support.receivers import SECRET
from tests.support.sockets import HeldPort, listens
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif("RECEIVERS" not in os.environ, reason="make receivers")

PAGES = ROOT / "docs/receivers"
TOOLS = Path(os.environ.get("RECEIVERS", "")) / "bin"

_GUNICORN = "gunicorn --threads 8 --keep-alive 5 --bind 127.0.0.1:{port}"

#: The command of each receiver, as its first comment has it but for the port.
COMMANDS = {
    "flask": f"{TOOLS}/{_GUNICORN} flask_receiver:app",
    "fastapi": f"{TOOLS}/uvicorn --port {{port}} fastapi_receiver:app",
    "django": f"{TOOLS}/{_GUNICORN} django_receiver:app",
    "express": "node express_receiver.mjs",
}


@contextmanager
def started(name: str, folder: Path) -> Iterator[str]:
    """Run a receiver, with its database in the folder; yield its URL."""
    port = HeldPort()
    environment = {
        "PATH": os.environ["PATH"],
        "SECRET": SECRET,
        "DATABASE": str(folder / "inbox.db"),
        "PORT": str(port.number),
    }
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            COMMANDS[name].format(port=port.number).split(),
            cwd=PAGES, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_until(lambda: listens(port.number) or process.poll() is not None)
        assert process.poll() is None, (folder / "output").read_text()
        yield f"http://127.0.0.1:{port.number}/callback"
    finally:
        process.terminate()
        process.wait(PATIENCE)
        port.close()


def sent(url: str) -> str:
    """Send the one event, signed and by the same id each time; the code of the answer."""
    body, at = event(changes=["order-17"]), str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "webhook-id": "the-one-event",
        "webhook-timestamp": at,
        "webhook-signature": Signer([Secret(SECRET)])
        .sign(b"the-one-event", at.encode(), body)
        .decode(),
    }
    answer = httpx.post(url, content=body, headers=headers, timeout=PATIENCE, trust_env=False)
    return str(answer.json()["code"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_receiver_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """`probe` finds nothing; the work for an event that comes five times is done once."""
    if name == "express" and not (shutil.which("node") and (PAGES / "node_modules").exists()):
        pytest.skip("no Node.js, or its packages could not be fetched")
    with started(name, tmp_path) as url:
        probed = ran("probe", url, "--secret", SECRET, "--yes")
        assert probed.code == 0, probed.out
        with ThreadPoolExecutor(5) as senders:
            assert [*senders.map(sent, [url] * 5)] == ["000"] * 5
        with closing(sqlite3.connect(tmp_path / "inbox.db", timeout=PATIENCE)) as database:
            undone = "SELECT count(*) FROM inbox WHERE NOT done"
            wait_until(lambda: database.execute(undone).fetchone() == (0,))
        assert (tmp_path / "output").read_text().count("order-17") == 1


def test_they_say_how_they_are_started() -> None:
    """The first comment of each has the command that it is run by here."""
    for name, started_by in COMMANDS.items():
        program, *rest = started_by.format(port=9002).split()
        [page] = PAGES.glob(f"{name}_receiver.*")
        assert " ".join([Path(program).name, *rest]) in page.read_text()
