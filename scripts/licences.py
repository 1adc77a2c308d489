"""Print the licences of the router's dependencies, including extras: python -m scripts.licences, in
the environment of dev.

The exit code is 1 if a licence is unknown, or not permissive.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements" / "otel.txt"

#: Permissive licences. MPL-2.0 and the LGPL only bind changes to the library itself, which is
#: installed beside the router and can be replaced.
ALLOWED = (
    *("MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "ISC"),
    *("MPL", "Mozilla", "LGPL"),
)

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)


def main() -> int:
    wrong = 0
    for name, version, marker in _PINNED.findall(LOCK.read_text()):
        if "win32" in marker and "!=" not in marker:
            continue  # for another system
        found = licence(distribution(name))
        wrong += not allowed(found)
        print(f"{name:<40}{version:<14}{found or 'unknown'}{'' if allowed(found) else '  <--'}")
    return 1 if wrong else 0


def licence(package: Distribution) -> str:
    """Return a package's licence, from the newest of the three ways to declare it."""

    def declared(name: str) -> list[str]:
        return package.metadata.get_all(name) or []

    classifiers = [
        c.rpartition(" :: ")[2] for c in declared("Classifier") if c.startswith("License ::")
    ]
    old = [text.partition("\n")[0] for text in declared("License")]
    return ", ".join(declared("License-Expression") or classifiers or old)


def allowed(text: str) -> bool:
    return any(word in text for word in ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())
