"""The licences of what the router is run with, extras too: python -m scripts.licences, in dev's
environment.

A table on stdout; exit code 1 where one is unknown, or not among those that allow any use.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements" / "otel.txt"

#: Those that ask for no more than to be named. MPL-2.0 and the LGPL bind changes to the library
#: itself alone; it is installed beside the router, and anybody can put another in its place.
ALLOWED = (
    *("MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "ISC"),
    *("MPL", "Mozilla", "LGPL"),
)

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)


def main() -> int:
    wrong = 0
    for name, version, marker in _PINNED.findall(LOCK.read_text()):
        if "win32" in marker and "!=" not in marker:
            continue  # for a system that is not this one
        found = licence(distribution(name))
        wrong += not allowed(found)
        print(f"{name:<40}{version:<14}{found or 'unknown'}{'' if allowed(found) else '  <--'}")
    return 1 if wrong else 0


def licence(package: Distribution) -> str:
    """What a package says of its own, in the newest of the three ways to say it."""

    def said(name: str) -> list[str]:
        return package.metadata.get_all(name) or []

    classifiers = [
        c.rpartition(" :: ")[2] for c in said("Classifier") if c.startswith("License ::")
    ]
    old = [text.partition("\n")[0] for text in said("License")]
    return ", ".join(said("License-Expression") or classifiers or old)


def allowed(text: str) -> bool:
    return any(word in text for word in ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())
