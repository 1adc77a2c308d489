"""The tokens that are good at the ops port, and who has each: what the files say now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from router.config.holders import Holder, Holders, load_holders
from router.model.errors import StartFailed
from router.model.files import why_not
from router.model.secret import Secret, is_exposed
from router.net.access import AUTHORIZATION, SHORT, Denial, Tokens

#: What is read without any token, where that is allowed: nothing of what is in events.
ANYBODY = Holder(None, frozenset({"read"}))

#: Who has a token of `--ops-token-file`.
_READER = Holder("ops", frozenset({"read"}))

#: The most that is read of a file of tokens, in bytes.
_MAX_FILE = 64 * 1024


class OpsTokens:
    """Who has which token. With no file nobody needs one."""

    def __init__(
        self,
        plain: Path | None,
        tokens: Path | None,
        environ: Mapping[str, str],
        secrets_dir: Path | None,
    ) -> None:
        """`plain` is a file of tokens that may read, a line each; `tokens` one that says more.
        Raises RouterError for a file that can't be used."""
        self._plain = plain
        self._file = tokens
        self._environ = environ
        self._secrets_dir = secrets_dir
        self.take(self.read())

    def __bool__(self) -> bool:
        return self._plain is not None or self._file is not None

    def read(self) -> Holders:
        """What the files say now. Raises RouterError."""
        found = [] if self._plain is None else [_plain(self._plain)]
        if self._file is not None:
            found.append(load_holders(self._file, self._environ, self._secrets_dir))
        return Holders(
            tuple(token for each in found for token in each.tokens),
            " ".join(each.hash for each in found),
            tuple(warning for each in found for warning in each.warnings),
        )

    def take(self, holders: Holders) -> None:
        """From now on these are good, and no others."""
        self.holders = holders
        self._tokens = Tokens([], AUTHORIZATION, [digest for digest, _ in holders.tokens])

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Holder | Denial:
        """Who has the token that a request with these headers brings."""
        found = self._tokens.find(headers)
        return found if isinstance(found, Denial) else self.holders.tokens[found][1]


def _plain(path: Path) -> Holders:
    tokens, warnings = secrets_in(path), []
    if is_exposed(path):
        warnings.append(f"--ops-token-file: everybody on this machine can read {path}: chmod 600")
    if any(len(token.reveal()) < SHORT for token in tokens):
        warnings.append(
            f"--ops-token-file: a token is shorter than {SHORT} characters: it can be guessed"
        )
    digests = [sha256(token.reveal().encode()).digest() for token in tokens]
    mark = sha256(b"".join(digests)).hexdigest()
    return Holders(tuple((digest, _READER) for digest in digests), mark, tuple(warnings))


def secrets_in(path: Path, option: str = "--ops-token-file") -> list[Secret]:
    """A file's tokens, one on each line that is not blank; `option` has named it.

    Raises StartFailed with one clear line where it has none that can be used.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("ascii")
    except OSError as error:
        problem = f"{option}: {path} can't be read: {why_not(path, error)}"
        raise StartFailed(problem) from None
    except UnicodeDecodeError:
        raise StartFailed(f"{option}: {path} has more than ASCII in it") from None
    tokens = [line.strip() for line in text.splitlines() if line.strip()]
    if not tokens:
        raise StartFailed(f"{option}: {path} has no token in it")
    if not all(token.isprintable() and " " not in token for token in tokens):
        raise StartFailed(f"{option}: a token in {path} has a blank in it")
    return [Secret(token) for token in tokens]
