"""Schemathesis against a real router's API, by the description that it serves itself: every answer
has to be one that is described, and nothing that is sent may be a fault of the router's.

    python -m scripts.api_fuzz FOLDER [ARGUMENTS OF st run]

FOLDER is the environment that has Schemathesis.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.console import Console, bearer, console
from tests.support.serving import always

#: What is left out: to show wrong tokens bars the address, as it should; what has the right type
#: may still be refused for what it means; TRACE is refused before anybody knows the path.
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
    """Something of everything that can be asked for."""
    for name in ("ledger", "auditors"):
        router.targets[name].code = always("700")
    for key in ("l.x.fuzz.1", "u.x.fuzz.1", "b.x.fuzz.1"):
        router.send(key, key)
    router.wait_for("dead", 2, "ledger")
    router.wait_for("dead", 2, "auditors")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
