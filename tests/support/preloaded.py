"""Import the modules of a running router, before the forks of `forked.py`."""

from __future__ import annotations

import gc
from importlib import import_module

for name in (
    "encodings.idna",
    "importlib.readers",
    "router.app",
    "router.cli.serve",
    "router.cli.trying.receive",
    "router.process.server",
    "tests.support.forked",
):
    import_module(name)
# Otherwise the first collection of each child would copy all of this memory.
gc.collect()
gc.freeze()
