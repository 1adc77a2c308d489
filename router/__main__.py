"""`python -m router` is `ebaas-router`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line of this process; return its exit code.

    While modules are imported and at the very end, Ctrl-C kills the process: a KeyboardInterrupt
    there would be a traceback, a crash in C code, or lost. In between, commands that have something
    to finish handle it: see `heed_ctrl_c`, and running.py.
    """
    _die_of_ctrl_c()
    from router.cli import main

    try:
        return main()
    finally:
        _die_of_ctrl_c()


def _die_of_ctrl_c() -> None:
    """Let SIGINT kill the process, unless it is ignored as in a shell's background job."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
