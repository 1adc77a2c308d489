"""The compiled router from scripts/compiled-tree, made if it is missing or out of date."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_TREE = ROOT / ".tools" / "compiled"


def compiled_tree() -> Path:
    """Return the folder of a compiled router; making it takes a minute."""
    if not (_is_of_these_sources(_TREE) and _is_compiled(_TREE)):
        print("making the compiled router in .tools/compiled: a minute of CPU", file=sys.stderr)
        made = subprocess.run(
            ["scripts/compiled-tree"],
            cwd=ROOT,
            env={**os.environ, "VENV": sys.prefix},
            stdout=sys.stderr,
        )
        if made.returncode:
            raise SystemExit(
                "the compiled router could not be made; it takes a C compiler and the headers of"
                " Python, and --no-compiled leaves it out"
            )
    return _TREE


def _is_of_these_sources(tree: Path) -> bool:
    """Return whether the compiled sources are those here."""
    return _sources(tree) == _sources(ROOT)


def _sources(tree: Path) -> dict[str, bytes]:
    files = [*tree.glob("*.py"), *(tree / "router").rglob("*.py")]
    return {str(each.relative_to(tree)): each.read_bytes() for each in files}


def _is_compiled(tree: Path) -> bool:
    """Return the command for this Python: another version would silently run the sources."""
    output = subprocess.run(
        [sys.executable, "-m", "router", "--version"], cwd=tree, capture_output=True, text=True
    )
    return ", compiled, " in output.stdout
