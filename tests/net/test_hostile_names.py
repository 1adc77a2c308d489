"""Names that lead where no event may go, and names that hang: a resolver and a stub server."""

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

#: In a network of its own: the address of the metadata is there, and every other way is closed.
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
    """Whatever a name's addresses are and however an address is written, no forbidden one gets a
    connection, whichever the engine; and twelve names that hang hold up no other's look-up."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    script = _SETUP.format(folder=shlex.quote(str(tmp_path)), python=shlex.quote(sys.executable))
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    for engine in ENGINES:
        table = said[engine]["table"]
        # Of several forbidden addresses any may be the one that is told.
        assert table.pop("all-bad.test").startswith("forbidden: ")
        assert table == {name: told for name, told in EXPECTED.items() if name != "all-bad.test"}
        assert said[engine]["hanging"] == ["answer", "0 of 12 over"]
    assert said["reached"] == ["127.0.0.1"]
