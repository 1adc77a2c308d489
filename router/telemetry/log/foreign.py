"""Messages of libraries and of Python itself as lines of a Log.

Only a library's own words are repeated, not the values that it was given, because these may contain
a secret. An exception is named by its kind and its place, without its text or a traceback.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.telemetry.log import Log
    from router.telemetry.log.lines import Level

#: The begin of a quotation; `f()` is not one.
_QUOTATION = re.compile(r"""['"<\[{]|\((?!\))""")
_URL = re.compile(r"(https?://)\S+")
#: The folder of a file, which only reveals something about the machine.
_FOLDER = re.compile(r"(?<!\S)/(?:[^\s/]+/)*")


def place_of(error: BaseException) -> str:
    """Format an exception's kind and place: `ValueError in read, intake.py line 31`."""
    kind, trace = type(error).__name__, error.__traceback__
    if trace is None:
        return kind
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{kind} in {code.co_name}, {PurePath(code.co_filename).name} line {trace.tb_lineno}"


def take_library_lines(log: Log) -> None:
    """Redirect to `log` what libraries log at `warning` and above, warnings, and uncaught
    exceptions of any thread."""
    logging.basicConfig(handlers=[_Library(log)], level=logging.WARNING, force=True)

    def warn(kind: type[Warning], file: str, line: int) -> None:
        at = f"{kind.__name__} in {PurePath(file).name} line {line}"
        log.warning("library", library="warnings", message="a warning", at=at)

    def fail(kind: type[BaseException], error: BaseException | None) -> None:
        log.error("fault", at=kind.__name__ if error is None else place_of(error))

    warnings.showwarning = lambda _, kind, file, line, *rest: warn(kind, file, line)
    sys.excepthook = lambda kind, error, _: fail(kind, error)
    threading.excepthook = lambda args: fail(args.exc_type, args.exc_value)
    sys.unraisablehook = lambda args: fail(args.exc_type, args.exc_value)


class _Library(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        fields = {"library": record.name, "message": own_words(record)}
        if record.exc_info and record.exc_info[1] is not None:
            fields["at"] = place_of(record.exc_info[1])
        self._log.write(level, "library", fields)


def own_words(record: logging.LogRecord) -> str:
    """Return the first line of a record's message, in the library's own words: without arguments,
    and up to its first quotation."""
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    words = record.msg if record.args else _QUOTATION.split(record.msg, 1)[0]
    first = words.lstrip().partition("\n")[0]
    return _FOLDER.sub("", _URL.sub(r"\1…", first)).strip()
