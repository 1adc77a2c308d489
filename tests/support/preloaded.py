"""Import the modules of a running router, before the forks of `forked.py`."""

from __future__ import annotations

import encodings.idna
import gc
import importlib.readers

import router.app
import router.process.server
import tests.support.forked
from router.cli import COMMANDS

#: The modules, also the two that a start imports late.
PRELOADED = (
    *(encodings.idna, importlib.readers),
    *(router.app, router.process.server, tests.support.forked),
    *(importlib.import_module(f"router.cli.{COMMANDS[name][0]}") for name in ("serve", "receive")),
)

# Otherwise the first collection of each child would copy all of this memory.
gc.collect()
gc.freeze()
