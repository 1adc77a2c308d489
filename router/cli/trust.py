"""Whom a command that calls a router over https trusts."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from router.cli.options import value
from router.config.settings import parse_file
from router.model.errors import SettingInvalid, why_not
from router.net.tls import USUAL, BadCertificate, Tls, certificates_in


def add_ca(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The option that `trust` reads."""
    parser.add_argument(
        "--ca",
        type=value(parse_file),
        metavar="FILE",
        help="for an https URL: trust whom these certificates (PEM) vouch for, and nobody else "
        "(default whom the system trusts)",
    )


def context_of(url: str, args: argparse.Namespace) -> ssl.SSLContext | None:
    """What connections to an https URL are made with, and None for http. Raises SettingInvalid for
    a file of no use, also where none is needed."""
    whom = trust(args)
    return whom.trust if urlsplit(url).scheme == "https" else None


def trust(args: argparse.Namespace) -> Tls:
    """Raises SettingInvalid for a file of no use."""
    path: Path | None = args.ca
    if path is None:
        return USUAL
    try:
        ca = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"--ca: {str(path)!r} can't be read: {why_not(path, error)}"
        raise SettingInvalid(problem) from None
    if not certificates_in(ca):
        raise SettingInvalid(f"--ca: {str(path)!r} has no certificate in PEM in it")
    try:
        return Tls.of(ca)
    except BadCertificate as error:
        raise SettingInvalid(f"--ca: {str(path)!r}: {error}") from None
