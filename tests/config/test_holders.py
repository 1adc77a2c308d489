"""The tokens file of the ops port, and the problems of a faulty one."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from router.config.holders import PERMISSIONS, TokenHolder, load_holders
from router.config.schema import document
from router.model.errors import ConfigInvalid

CANARY = "canary-canary-canary"

NAMED = "read or replay or discard or pause or bodies"

GOOD = """
tokens:
  - {name: ops, sha256: DIGEST, may: [read, replay, discard, pause, bodies]}
  - {name: ledger, token: "${file:ledger-ops}", owner: team ledger, may: [read, replay]}
  - {name: reader, token: [one-of-two-tokens, two-of-two-tokens], may: read}
"""


def load(folder: Path, text: str) -> list[tuple[bytes, TokenHolder]]:
    path = folder / "tokens.yaml"
    path.write_text(text)
    return list(load_holders(path, {"VARIABLE": CANARY}, folder).tokens)


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def test_holders_and_their_tokens(tmp_path: Path) -> None:
    """A token, its SHA-256, or several; permissions; an owner whose targets alone are visible."""
    (tmp_path / "ledger-ops").write_text("the-ledgers-own-token\n")
    tokens = dict(load(tmp_path, GOOD.replace("DIGEST", digest("the-token-of-ops").hex())))
    ops, ledger = tokens[digest("the-token-of-ops")], tokens[digest("the-ledgers-own-token")]
    assert ops.name == "ops"
    assert ops.may == {"read", "replay", "discard", "pause", "bodies"}
    assert ledger == TokenHolder("ledger", frozenset({"read", "replay"}), "team ledger")
    assert ops.sees("team ledger")
    assert ops.sees("")
    assert ledger.sees("team ledger")
    assert not ledger.sees("team audit")
    assert not ledger.sees("")
    assert tokens[digest("one-of-two-tokens")] == tokens[digest("two-of-two-tokens")]


GOOD_ENTRY = f"{{name: a, token: {CANARY}, may: read}}"
FAULTS = {
    "{name: a, may: read}": "2:5: tokens[0]: has no token: say token or sha256",
    f"{{token: {CANARY}, may: read}}": "2:5: tokens[0]: the key 'name' is missing",
    f"{{name: a, token: {CANARY}}}": "2:5: tokens[0]: the key 'may' is missing",
    f"{{name: a, token: {CANARY}, may: [red]}}": (
        f"2:50: tokens[0].may[0]: 'red' is not {NAMED}, did you mean 'read'?"
    ),
    f"{{name: a, tokn: {CANARY}, may: read}}": (
        "2:15: tokens[0]: unknown key 'tokn', did you mean 'token'?"
    ),
    f"{{name: a, sha256: {CANARY}, may: read}}": (
        "2:23: tokens[0].sha256: this is not a SHA-256 in hex"
    ),
    f"{{name: a, token: '{CANARY} and', may: read}}": (
        "2:22: tokens[0].token: this is not a token (ASCII, no blanks)"
    ),
    f"{GOOD_ENTRY}\n  - {{name: a, token: b, may: read}}": (
        "3:12: tokens[1].name: is here twice: the log could not name the holder who acted"
    ),
    f"{GOOD_ENTRY}\n  - {{name: b, token: {CANARY}, may: read}}": (
        "3:5: tokens[1]: has a token that is here twice"
    ),
    f"{{name: a, sha256: {sha256().hexdigest()}, may: read}}": (
        "2:5: tokens[0]: has the SHA-256 of an empty text for a token: anybody may try it"
    ),
    f"{{name: a, sha256: {sha256(b'test').hexdigest()}, may: read}}": (
        "2:5: tokens[0]: has the SHA-256 of 'test' for a token: anybody may try it"
    ),
    "{name: a, token: short, may: read}": (
        "2:22: tokens[0].token: is shorter than 16 characters: it can be guessed"
    ),
    "{name: a, token: secret, may: read}": (
        "2:5: tokens[0]: has the SHA-256 of 'secret' for a token: anybody may try it"
    ),
    "{name: a, token: '${file:gone}', may: read}": (
        "2:22: tokens[0].token: there is no secret file 'gone' that can be read"
    ),
}


@pytest.mark.parametrize(("line", "why"), FAULTS.items())
def test_a_fault(line: str, why: str, tmp_path: Path) -> None:
    """The problem has file, line, column and reason, and no token."""
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, f"tokens:\n  - {line}\n")
    problems = [str(problem) for problem in caught.value.problems]
    assert f"{tmp_path}/tokens.yaml:{why}" in problems
    assert CANARY not in str(caught.value)


def test_warnings(tmp_path: Path) -> None:
    """Tokens that everybody on the machine can read."""
    path = tmp_path / "tokens.yaml"
    path.write_text("tokens:\n  - {name: a, token: long-enough-to-be-one, may: read}\n")
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    holders = load_holders(path, {}, None)
    assert holders.warnings == (
        f"everybody on this machine can read the tokens in {path}: chmod 600",
    )
    assert load_holders(path, {}, None) == holders


def test_the_schema_has_every_permission() -> None:
    """The schema, which reads the file, has the permissions of the code."""
    permission = document("tokens")["definitions"]["permission"]
    assert permission["anyOf"][0]["enum"] == [*PERMISSIONS]
