"""Services on one loop, from their start to their stop."""

from __future__ import annotations

import subprocess
import sys

from tests.support.command import PATIENCE, ROOT

#: Two services that print what they do, and take a moment to end.
SERVICES = """
import asyncio, os, signal
from router.process.running import run

class Service:
    def __init__(self, name):
        self.name, self.stopped = name, None

    async def serve(self):
        self.stopped = asyncio.Event()
        print("begins", self.name)
        await self.stopped.wait()
        await asyncio.sleep(0.05)
        print("ends", self.name)

    async def up(self):
        while self.stopped is None:
            await asyncio.sleep(0)

    def stop(self):
        print("stops", self.name)
        self.stopped.set()

    def hurry(self):
        self.stop()

async def then():
    os.kill(os.getpid(), signal.SIGTERM)

run(Service("first"), Service("last"), then=then)
"""


def test_services_are_stopped_in_the_reverse_order() -> None:
    """Each once the one after it is done, which may need it to its end."""
    ran = subprocess.run(
        [sys.executable, "-c", SERVICES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        *("begins first", "begins last", "stops last", "ends last", "stops first", "ends first"),
    ]
