"""Run Schemathesis against a real router's API, by the description that the router serves. Every
answer must be described, and no request may cause a fault.

    python -m scripts.api_fuzz FOLDER [ARGUMENTS OF st run]

FOLDER is an environment with Schemathesis.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.console import Console, bearer, console
from tests.support.serving import always

#: Checks left out: wrong tokens bar the address, as intended; a value of the right type may be
#: refused for its meaning; TRACE is refused before the path is known.
LEFT_OUT = "ignored_auth,positive_data_acceptance,unsupported_method"


def main(environment: Path, *arguments: str) -> int:
    with tempfile.TemporaryDirectory() as folder, console(Path(folder)) as router:
        filled(router)
        address = f"{router.url}/api/v1/openapi.json"
        for who in ("ops", "ledger"):
            authorization = f"authorization: {bearer(who)['authorization']}"
            command = [
                *(str(environment / "bin" / "st"), "run", address, "--header", authorization),
                *("--exclude-checks", LEFT_OUT, "--exclude-path", "/api/v1/stream"),
                *("--phases", "examples,coverage,fuzzing", "--warnings", "off", *arguments),
            ]
            if code := subprocess.run(command, cwd=folder, check=False).returncode:
                return code
        faults = [line for line in router.router.lines("library") if "at" in line]
        for line in faults:
            print(line)
        return 1 if faults else 0


def filled(router: Console) -> None:
    """Create something of every kind that the API returns."""
    for name in ("ledger", "auditors"):
        router.targets[name].code = always("700")
    for key in ("l.x.fuzz.1", "u.x.fuzz.1", "b.x.fuzz.1"):
        router.send(key, key)
    router.wait_for("dead", 2, "ledger")
    router.wait_for("dead", 2, "auditors")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
