"""What one hung target does to the others: python -m bench.hung [--quick]

Events arrive at a fixed rate for three targets that acknowledge at once, with and without as many
events as `max_in_flight` allows in flight to a fourth one that never answers. The two take turns;
the figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.arrivals import Latency, arrivals
from bench.compare import WRK_CORE, beside_a_bad_one, machine

#: Events in flight to the hung target.
HELD = 256

#: Events a second to the others.
RATE = 500.0

_EVENT = '{"event_source":"h","event_topic":"u","event_type":"n","event_status":"%03d"}'


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hung", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    args = parser.parse_args()
    rounds, seconds = (1, 1.0) if args.quick else (5, 5.0)
    print(machine(), file=sys.stderr)
    found: dict[str, list[Latency]] = {"without": [], "with": []}
    with _routed() as url:
        for _ in range(rounds):
            found["without"].append(arrivals(url, RATE, seconds, WRK_CORE))
            with _held(url):
                found["with"].append(arrivals(url, RATE, seconds, WRK_CORE))
    print("| one hung target | p50 ms | p99 ms | failures |", "| --- | --- | --- | --- |", sep="\n")
    for title, runs in found.items():
        median, p99 = (statistics.median(getattr(run, at) for run in runs) for at in _COLUMNS)
        print(f"| {title} | {median:.2f} | {p99:.2f} | {sum(run.failures for run in runs)} |")
    return 1 if any(run.failures for runs in found.values() for run in runs) else 0


_COLUMNS = ("median", "p99")


@contextlib.contextmanager
def _routed() -> Iterator[str]:
    """A router whose fourth target never answers; its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=HELD) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/callback"
        hung = {"url": url, "max_in_flight": HELD, "timeout": "60s"}
        with beside_a_bad_one(hung, "h.*", ebaas={"reply_within": "60s"}) as router:
            yield router


@contextlib.contextmanager
def _held(url: str) -> Iterator[None]:
    """As many events in flight to the hung target as it may have."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(_EVENT % 0)}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for number in range(HELD):
            caller = stack.enter_context(
                socket.create_connection((parts.hostname or "", parts.port or 80))
            )
            caller.sendall((head + _EVENT % number).encode())
        yield


if __name__ == "__main__":
    raise SystemExit(main())
