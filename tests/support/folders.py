"""Folders with a routes.yaml and a routes.d: valid ones, and one for each fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from router.config.files import MAX_FILES

#: The text of each file, by its path in the folder.
Files = Mapping[str, str]

COMMON = """\
version: 1
targets:
  audit: {url: https://audit.example.com/hook}
routes:
  - {name: for the auditors, match: "*.cert.*", optional: [audit]}
"""
LEDGER = """\
version: 1
owner: team ledger
targets:
  ledger: {url: https://ledger.example.com/hook}
routes:
  - {name: everything to the ledger, match: a.*, required: [ledger]}
"""
CERTS = """\
version: 1
owner: team certs
targets:
  certs: {url: https://certs.example.com/hook}
routes:
  - {name: certificates, match: a.gs.cert.*, required: [certs], optional: [audit]}
"""

#: The files of two teams, and the common one.
GOOD: Files = {
    "routes.yaml": COMMON,
    "routes.d/certs.yaml": CERTS,
    "routes.d/ledger/routes.yml": LEDGER,
}

_INTRUDES = CERTS.replace("[certs]", "[certs, ledger]")
_AT_LEDGER = "routes.d/certs.yaml:6:64: routes[0].required: 'ledger' is the target of"


def _with(**changed: str) -> Files:
    """Return GOOD with other texts for `common`, `certs` or `ledger`."""
    names = dict(zip(("common", "certs", "ledger"), GOOD, strict=True))
    return {**GOOD, **{names[name]: text for name, text in changed.items()}}


#: The faulty files, and the message without the name of the folder, `config`.
FAULTS: dict[str, tuple[Files, str]] = {
    "undefined": (
        _with(certs=CERTS.replace("[audit]", "[adit]")),
        (
            "routes.d/certs.yaml:6:76: routes[0].optional: no target 'adit', did you mean "
            "'audit'? (team certs)"
        ),
    ),
    "route_twice": (
        _with(certs=CERTS.replace("name: certificates", "name: for the auditors")),
        (
            "routes.d/certs.yaml:6:12: routes[0].name: the route in config/routes.yaml:5 has "
            "this name already (team certs)"
        ),
    ),
    "target_twice": (
        _with(ledger=LEDGER.replace("  ledger:", "  audit:").replace("[ledger]", "[audit]")),
        (
            "routes.d/ledger/routes.yml:4:3: targets.audit: config/routes.yaml has a target of "
            "this name already (team ledger)"
        ),
    ),
    "another_ones_target": (
        _with(certs=_INTRUDES),
        (
            f"{_AT_LEDGER} 'team ledger': `share` in config/routes.yaml can let 'team certs' use "
            "it (team certs)"
        ),
    ),
    "a_file_without_an_owner": (
        _with(certs=_INTRUDES.replace("owner: team certs\n", "# nobody's\n")),
        (
            f"{_AT_LEDGER} 'team ledger': `share` in config/routes.yaml can let a file without an "
            "owner use it"
        ),
    ),
    "another_owner_of_a_target": (
        _with(ledger=LEDGER.replace("hook}", "hook, owner: team certs}")),
        (
            "routes.d/ledger/routes.yml:4:57: targets.ledger.owner: the file belongs to "
            "'team ledger', and so do its targets (team ledger)"
        ),
    ),
    "owner_a_variable": (
        _with(certs=CERTS.replace("team certs", "${PATH}")),
        "routes.d/certs.yaml:2:8: owner: '${PATH}' can't have a variable or a $ in it",
    ),
    "share_of_no_target": (
        _with(common=f"{COMMON}share: {{ledgr: everybody}}\n"),
        "routes.yaml:6:9: share.ledgr: no target 'ledgr', did you mean 'ledger'?",
    ),
    "share_of_everybodys": (
        _with(common=f"{COMMON}share: {{audit: team ledger}}\n"),
        "routes.yaml:6:9: share.audit: the target is everybody's: its file has no owner",
    ),
    "share_with_no_one": (
        _with(common=f"{COMMON}share: {{ledger: team cert}}\n"),
        (
            "routes.yaml:6:9: share.ledger: no file has the owner 'team cert', did you mean "
            "'team certs'?"
        ),
    ),
    "what_is_everybodys": (
        _with(certs=f"{CERTS}unmatched: accept\n"),
        (
            "routes.d/certs.yaml:7:1: unknown key 'unmatched'; there are version, owner, "
            "targets, routes (team certs)"
        ),
    ),
    "no_yaml": (
        _with(certs=CERTS.replace("[certs]", "[certs")),
        (
            "routes.d/certs.yaml:6:56: this bracket is not closed, or a comma is missing, or a "
            "value needs quotes (team certs)"
        ),
    ),
    "routes_d_a_file": (
        {"routes.yaml": COMMON, "routes.d": ""},
        "routes.d: can't be read: not a directory",
    ),
    "too_many": (
        {"routes.yaml": COMMON, **{f"routes.d/{n}.yaml": "" for n in range(MAX_FILES)}},
        ": has more than 1,000 files",
    ),
}


def written(files: Files, folder: Path) -> Path:
    """Write the files, and return the folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
