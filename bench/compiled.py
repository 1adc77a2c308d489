"""The compiled router, which scripts/compiled-tree makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def compiled_tree() -> Path:
    """Return the folder of a compiled router. If a source has changed, making it takes a minute."""
    environ = {**os.environ, "VENV": sys.prefix}
    if subprocess.run(["scripts/compiled-tree"], cwd=ROOT, env=environ).returncode:
        raise SystemExit(
            "the compiled router could not be made; it takes a C compiler and the headers of"
            " Python, and --no-compiled leaves it out"
        )
    return ROOT / ".tools" / "compiled"
