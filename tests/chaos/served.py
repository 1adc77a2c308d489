"""The router's own command, with the one wait that no setting shortens sped up like the schedule:
how long a delivery stays leased to a process that has died."""

from __future__ import annotations

import sys

from router.cli import main
from router.delivery import queue

queue.LEASE_MARGIN = 2.0

if __name__ == "__main__":
    sys.exit(main())
