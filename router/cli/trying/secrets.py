"""Secrets on the command line, which are written as routes.yaml has them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from router.config.variables import Unresolved, Variables
from router.contract.signing import key_of
from router.model.errors import SettingInvalid
from router.model.secret import Secret


def read_secrets(option: str, texts: Iterable[str], secrets_dir: Path | None) -> tuple[Secret, ...]:
    """What the texts stand for, variables replaced; SettingInvalid where one is no secret."""
    variables = Variables(os.environ, secrets_dir)
    try:
        return secrets_of(option, [variables.resolve(text) for text in texts])
    except Unresolved as error:
        raise SettingInvalid(f"{option}: {error}") from None


def secrets_of(option: str, texts: Iterable[str]) -> tuple[Secret, ...]:
    """The same, of texts as they are."""
    secrets = tuple(map(Secret, texts))
    try:
        for secret in secrets:
            key_of(secret)
    except UnicodeError:  # its own words would have a part of the secret
        raise SettingInvalid(f"{option}: is not UTF-8") from None
    except ValueError as error:
        raise SettingInvalid(f"{option}: {error}") from None
    return secrets
