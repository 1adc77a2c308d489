"""How a sender proves who it is: secrets that sign, and headers, written as in routes.yaml."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.options import add_settings, read_setting
from router.cli.printing import note
from router.config.variables import Unresolved, Variables
from router.contract.signing import Signer, key_of
from router.model.errors import SettingInvalid
from router.model.secret import Secret

if TYPE_CHECKING:
    from router.cli.trying.caller import Response

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x1f\x7f]*)")
#: What the connection's own code writes.
_FRAMING = {"connection", "content-length", "host", "transfer-encoding"}


def read_secrets(option: str, texts: Iterable[str], secrets_dir: Path | None) -> tuple[Secret, ...]:
    """What the texts stand for, variables replaced; SettingInvalid where one is no secret."""
    return secrets_of(option, _resolved(option, texts, secrets_dir))


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


def _resolved(option: str, texts: Iterable[str], secrets_dir: Path | None) -> list[str]:
    variables = Variables(os.environ, secrets_dir)
    try:
        return [variables.resolve(text) for text in texts]
    except Unresolved as error:
        raise SettingInvalid(f"{option}: {error}") from None


def add_sign(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--sign`, which `read_signer` reads."""
    parser.add_argument(
        "--sign",
        metavar="SECRET",
        help="sign it by this secret of a target, written as in routes.yaml, and send all headers "
        "that a target gets",
    )
    add_settings(parser, "secrets_dir")


def read_signer(args: argparse.Namespace) -> Signer | None:
    """None where nothing is to be signed. Raises SettingInvalid."""
    if args.sign is None:
        return None
    return Signer(read_secrets("--sign", [args.sign], read_setting(args, "secrets_dir")))


def parse_header(text: str) -> tuple[str, str]:
    """A name in lower case, and a value whose variables are still to be replaced."""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header (like 'x-request-id: 7')")
    name = match[1].lower()
    if name in _FRAMING:
        raise ValueError(f"{name} can't be set: it belongs to the connection")
    return name, match[2]


def read_headers(args: argparse.Namespace) -> dict[bytes, bytes]:
    """The headers of `--header`, variables replaced. Raises SettingInvalid."""
    names = [name for name, _ in args.header]
    texts = [text for _, text in args.header]
    values = _resolved("--header", texts, read_setting(args, "secrets_dir"))
    for name, text in zip(names, values, strict=True):
        if _HEADER.fullmatch(f"{name}: {text}") is None:
            raise SettingInvalid(f"--header: {name} has a control character in its value")
    return {
        name.encode("ascii"): text.strip(" \t").encode("utf-8", "surrogateescape")
        for name, text in zip(names, values, strict=True)
    }


def note_401(response: Response, args: argparse.Namespace) -> bool:
    """Say how to prove who is sending, where the receiver asked for that; whether it did."""
    if response.status != 401 and response.code != "401":
        return False
    if args.sign is not None:
        note("401: is --sign the secret by which the receiver verifies, and is its clock right?")
    elif any(name == "authorization" for name, _ in getattr(args, "header", ())):
        note("401: is the token of --header the one that the receiver wants?")
    elif hasattr(args, "header"):
        note(
            "401: to sign it, --sign SECRET; for a token, --header 'authorization: Bearer ${NAME}'"
        )
    else:
        note("401: to sign it, --sign SECRET")
    return True
