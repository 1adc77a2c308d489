"""Whom a command that calls a router over https trusts."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

from router.cli.options import value
from router.config.settings import parse_file
from router.errors import SettingInvalid


def add_ca(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The option that `trust` reads."""
    parser.add_argument(
        "--ca",
        type=value(parse_file),
        metavar="FILE",
        help="for an https URL: trust whom these certificates (PEM) vouch for, and nobody else "
        "(default whom the system trusts)",
    )


def trust(args: argparse.Namespace) -> ssl.SSLContext:
    """Raises SettingInvalid for a file of no use."""
    path: Path | None = args.ca
    try:
        context = ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise SettingInvalid(f"--ca: {_name(path)} has no certificate in PEM in it") from None
    except OSError as error:
        why = (error.strerror or "the system refused").lower()
        raise SettingInvalid(f"--ca: {_name(path)} can't be read: {why}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _name(path: Path | None) -> str:
    return "the system's own" if path is None else repr(path.name)
