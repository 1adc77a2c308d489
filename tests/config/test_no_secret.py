"""Problems repeat no secret, wherever it is and whatever fault is near it.

A configuration with a secret in every form is damaged in every way at each of them. All output
about it is searched, as text and as JSON. `tests/whole/test_canary.py` does the same with a whole
router, its log and its ops port, and with fewer faults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest

from router.config import loading
from router.model.errors import ConfigInvalid
from tests.support.effort import LONG
from tests.support.inprocess import ran

#: The faults are split into parts, each of which has every kind at other secrets. One part runs,
#: and all with LONG=1, which `make test-long` sets.
PARTS = 16
PART = range(PARTS) if LONG else [0]

#: The beginning of each secret.
MARK = "cnry"

#: Every `S` that stands alone is another secret.
FULL = """\
version: 1
unmatched: reject
ebaas:
  reply_within: 8s
  token: [S, "S",
    'S']   # S
  token_header: x-token
  allow_from: 10.0.0.0/8
defaults: {timeout: 3s, breaker: {failures: 50%}}
egress: [public, 10.0.0.0/8]
targets:
  flow: {url: "http://127.0.0.1:9001/S?a=S", headers: {X-A: Bearer S, x-b: "S", name: S}, secret: S}
  ? ledger
  : url: http://127.0.0.1:9002/${NOT_SET:-S}
    headers:
      Authorization: Bearer S
      X-Quoted: "Bearer S"
      X-Default: ${NOT_SET:-S}
      ? X-Question
      : S
      name: S
      version:
        S
      X-Lines: Bearer
        S
      X-Folded: >-
        S
    secret:
      - S
      # the old one: S
      - "S"
    tls:
      ca: S
      cert: S
      key: |
        S
    rate: {per_second: 5}
    owner: the team
routes:
  - name: all
    match: [a.gs.*, "*.cert.1"]
    required: [ledger]
    optional: [flow]
"""

#: Replacements for a secret; `S` is the secret.
INSTEAD = [
    "*S", "*S ", "&S x", "&S S", "@S", "%S", "`S", "!S", "!!S x", "|S", ">S", "{S}", "[S]", "{S",
    "[S", "{S: x}", "{a: S, S}", '"S', "'S", 'S"', "S'", '"S\\q"', '"S"S', "S: S", "S:", ": S",
    "x: S", "- S", "? S", "S, S", "S,S", "S]", "S}", "S # S", "S\n  S", "S\n        S: x",
    "S\n\n\n          S", "\tS", "S\t", "S\x07", "S\ufffe", "S\xa0", "S：", "，S", "“S”", "${A:S}",
    "${A S}", "$S", "${file:../S S}x$", "~", "S é", "'S''S", "<<: S", "*", "",
]  # fmt: skip

#: Edits of the line of a secret, as a pattern and its replacement.
LINES = [
    (r"(\w)(\w)([\w-]*: )", r"\1\3"), (r"[\"'}\]]", ""), (r"^(.*)$", r"\1\n\1"), (r"^ ", ""),
    *((": ", into) for into in (":", " ", "：", ":\xa0", ": : ", ": - ", ": {", ": [", ": '")),
    *((": ", into) for into in (": &x ", ": *")),
    *(("^", into) for into in (" ", "\xa0", "\t", "- ", "? ")),
    *(("$", into) for into in ("\n[", " x: y", ", x", "\n  x")),
]  # fmt: skip

#: Lines put above and below it.
NEAR = ['"', "'", "[", "{", "x", ": x", "*", "&a", "- ", "\t", "，", "|", "---", "${"]


def damaged() -> Iterator[str]:
    """Iterate over texts with one fault at one of the secrets."""
    for match in re.finditer(r"\bS\b", FULL):
        before, after = FULL[: match.start()], FULL[match.end() :]
        for instead in INSTEAD:
            yield before + instead + after
        begin, end = before.rfind("\n") + 1, match.end() + after.index("\n")
        for pattern, into in LINES:
            line = re.sub(pattern, into, FULL[begin:end], count=1)
            yield FULL[:begin] + line + FULL[end:]
        for near in NEAR:
            yield FULL[: begin - 1] + near + FULL[begin - 1 :]
            yield FULL[:end] + near + FULL[end:]
            yield FULL[: end + 1] + near + FULL[end + 1 :]


def secret(text: str) -> bytes:
    """Fill in the secrets."""
    numbers = iter(range(1_000))
    return re.sub(r"\bS\b", lambda _: f"{MARK}{next(numbers)}", text).encode()


def output(content: bytes) -> str:
    """Return all output about a configuration: problems as text and as JSON."""
    try:
        problems = loading.parse(content, "f", {}, None).warnings
    except ConfigInvalid as error:
        problems = error.problems
    return "\n".join(text for problem in problems for text in (str(problem), repr(asdict(problem))))


@pytest.mark.parametrize("part", PART)
def test_no_problem_repeats_a_secret(part: int) -> None:
    """No fault at or near a secret brings it out."""
    texts = [FULL, *islice(damaged(), part, None, PARTS)]
    leaks = [line for text in texts for line in output(secret(text)).splitlines() if MARK in line]
    assert leaks == []


def test_the_search_finds() -> None:
    """The search would find a secret: values that are harmless are shown in problems."""
    assert MARK in output(secret(re.sub(r"\bS\b", "x", FULL).replace("[flow]", "[S]")))


@pytest.mark.parametrize("format", ["text", "json"])
def test_check(format: str, tmp_path: Path) -> None:
    """The same of the command itself, with one fault of each kind."""
    path = tmp_path / "routes.yaml"
    texts = list(damaged())
    for text in texts[:: len(texts) // 50]:
        path.write_bytes(secret(text))
        done = ran("check", path, "--format", format)
        assert MARK not in done.out + done.err
        assert format == "text" or json.loads(done.out)
