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
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from router.telemetry.log import Log
    from router.telemetry.log.lines import Level

#: A message without arguments, up to its first quotation; `f()` is not one.
_OWN_WORDS = re.compile(r"""(?:\(\)|[^'"(<\[{])*""")
_URL = re.compile(r"(https?://)\S+")
#: The folder of a file, which only reveals something about the machine.
_FOLDER = re.compile(r"(?<!\S)/(?:[^\s/]+/)*")


def place_of(error: BaseException) -> str:
    """Format an exception's kind and place: `ValueError in read, intake.py line 31`."""
    return _place(type(error), error.__traceback__)


def take_library_lines(log: Log) -> None:
    """Redirect to `log` what libraries log at `warning` and above, warnings, and uncaught
    exceptions of any thread."""
    logging.basicConfig(handlers=[_Library(log)], level=logging.WARNING, force=True)

    def warn(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        at = f"{category.__name__} in {PurePath(filename).name} line {lineno}"
        log.warning("library", library="warnings", message="a warning", at=at)

    def fail(
        kind: type[BaseException], _: BaseException | None, trace: TracebackType | None
    ) -> None:
        log.error("fault", at=_place(kind, trace))

    warnings.showwarning = warn
    sys.excepthook = fail
    threading.excepthook = lambda args: fail(args.exc_type, None, args.exc_traceback)
    sys.unraisablehook = lambda args: fail(args.exc_type, None, args.exc_traceback)


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
    """Return the first line of a record's message, in the library's own words.

    Arguments are shown if they are numbers, otherwise by their kind. A message without arguments
    ends before its first quotation.
    """
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    first = _filled(record.msg, record.args).lstrip().split("\n", 1)[0]
    return _FOLDER.sub("", _URL.sub(r"\1…", first)).strip()


def _filled(message: str, args: Any) -> str:
    if not args:
        words = _OWN_WORDS.match(message)
        return words[0] if words else ""
    try:
        if isinstance(args, dict):
            return message % {name: _shown(value) for name, value in args.items()}
        return message % tuple(map(_shown, args))
    except Exception:  # noqa: BLE001 - the message and the arguments may not fit
        return message


def _shown(value: object) -> object:
    return value if isinstance(value, int | float) else type(value).__name__


def _place(kind: type[BaseException], trace: TracebackType | None) -> str:
    if trace is None:
        return kind.__name__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    file = PurePath(code.co_filename).name
    return f"{kind.__name__} in {code.co_name}, {file} line {trace.tb_lineno}"
