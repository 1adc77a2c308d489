"""The router's own command, with a shorter lease of deliveries after the death of a process: the
one wait that no setting shortens."""

from __future__ import annotations

import sys

from router.cli import main
from router.delivery import queue

queue.LEASE_MARGIN = 2.0

if __name__ == "__main__":
    sys.exit(main())
