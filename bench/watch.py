"""The router, and a file that says when its garbage collector held it up.

Each thread tells the system its name too, by which it is known to whoever looks at the process.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
from pathlib import Path

#: The shortest collection that is written down, in seconds.
_LEAST = 0.0005


def watch_collections(path: Path) -> None:
    """A line for each collection: when it began, by Unix time, its seconds, its generation."""
    out = path.open("w", buffering=1)
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        now = time.time()
        if phase == "start":
            began = now
        elif now - began >= _LEAST:
            out.write(f"{began:.6f} {now - began:.6f} {info['generation']}\n")

    gc.callbacks.append(note)


def name_threads() -> None:
    """As Python does from 3.14 on."""
    run = threading.Thread.run

    def named(thread: threading.Thread) -> None:
        Path(f"/proc/self/task/{thread.native_id}/comm").write_text(thread.name[:15])
        run(thread)

    threading.Thread.run = named  # type: ignore[method-assign, assignment]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.watch", description=__doc__)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("command", metavar="serve ...", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    watch_collections(args.file)
    name_threads()
    sys.argv[1:] = args.command
    from router.__main__ import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
