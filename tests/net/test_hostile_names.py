"""Names that lead to forbidden addresses, and names that hang: a real resolver and a stub
server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.behind_dns import ADDRESSES, ALIASES, ODD, REBINDS
from tests.support.command import ROOT
from tests.support.engines import ENGINES

#: In a network namespace of its own, with the metadata address, and no other network.
_SETUP = """
set -e
mount --make-rprivate /
mount --bind {folder}/resolv.conf /etc/resolv.conf
mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf
ip link set lo up
ip address add 169.254.169.254/32 dev lo
exec {python} -m tests.net.behind_dns
"""

METADATA = "forbidden: a cloud metadata address"
EXPECTED = {
    **dict.fromkeys([*ADDRESSES, *ALIASES, *ODD], METADATA),
    "zero.test": "forbidden: no host's address",
    "multicast.test": "forbidden: a multicast address",
    "broadcast.test": "forbidden: a reserved address",
    "link-local-6.test": "forbidden: a link-local address",
    "good.test": "answer",
    "one-good.test": "answer",
    REBINDS: f"answer then {METADATA}",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network of its own")
def test_names_that_lead_astray(tmp_path: Path) -> None:
    """No forbidden address gets a connection from either engine, in any notation and among any
    others; and twelve names that hang do not delay others."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    script = _SETUP.format(folder=shlex.quote(str(tmp_path)), python=shlex.quote(sys.executable))
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    for engine in ENGINES:
        table = results[engine]["table"]
        # With several forbidden addresses any may be named.
        assert table.pop("all-bad.test").startswith("forbidden: ")
        assert table == {
            name: result for name, result in EXPECTED.items() if name != "all-bad.test"
        }
        assert results[engine]["hanging"] == ["answer", "0 of 12 over"]
    assert results["reached"] == ["127.0.0.1"]
