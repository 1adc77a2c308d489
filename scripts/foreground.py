"""Run a command as the terminal's foreground job, so that Ctrl-C ends it and not make.

make would print "Interrupt" and fail. Without a terminal, or in the background, the command
replaces this process. With a terminal, this process forwards make's signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


def hand_over(terminal: int, group: int) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.tcsetpgrp(terminal, group)


def run_in_foreground(terminal: int, command: list[str]) -> int:
    """Return the command's exit status. While it is stopped (Ctrl-Z), this process and make are
    stopped too."""
    group = os.getpgrp()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = subprocess.Popen(command, process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: job.send_signal(number))
    while True:
        hand_over(terminal, job.pid)
        os.kill(job.pid, signal.SIGCONT)
        _, status = os.waitpid(job.pid, os.WUNTRACED)
        hand_over(terminal, group)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        os.killpg(group, signal.SIGSTOP)


def main(command: list[str]) -> None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        in_foreground = os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        in_foreground = False
    if not in_foreground:
        os.execv(command[0], command)
    sys.exit(run_in_foreground(terminal, command))


main(sys.argv[1:])
