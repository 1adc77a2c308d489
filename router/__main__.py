"""`python -m router` is `ebaas-router`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line of this process; its exit code.

    Ctrl-C ends it as the system does, while modules are imported and at its very end: a
    KeyboardInterrupt there is a traceback, a crash in somebody's C code, or is lost. In between
    whoever has something to finish heeds it: see `heed_ctrl_c`, and running.py.
    """
    _die_of_ctrl_c()
    from router.cli import main

    try:
        return main()
    finally:
        _die_of_ctrl_c()


def _die_of_ctrl_c() -> None:
    """But for one who ignores it, a shell's background job, say."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
