"""Who is probed, as the arguments or routes.yaml say, and who sends to it again."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from router.cli.options import add_settings, mind_target, parse_url, parse_wait, read_setting, value
from router.cli.printing import NAME
from router.cli.trust import add_ca, trust
from router.cli.trying.request import parse_header
from router.cli.trying.secrets import read_secrets, secrets_of
from router.config.loading import load
from router.config.schema import is_own
from router.config.settings import parse_file
from router.contract.schedule import PLATFORM, Schedule
from router.model.errors import SettingInvalid
from router.model.files import why_not
from router.model.secret import Secret
from router.routing.target import Target

#: The options that routes.yaml has the say in where --target is given, each with its default.
_OF_A_URL: Mapping[str, Any] = {
    "header": [], "ca": None, "timeout": None, "acknowledge": None, "secret": [],
    "secret_file": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Receiver:
    target: Target
    #: The URL as it may be printed.
    shown: str
    #: Who sends it an event again that it has not acknowledged, and when.
    sender: Literal["ebaas", "queue", "somebody"]
    schedule: Schedule


def parse_own_header(text: str) -> tuple[bytes, bytes]:
    """One that a target may have in routes.yaml."""
    name, content = parse_header(text)
    if is_own(name.decode()):
        raise ValueError(f"{name.decode()} is set by the router alone")
    return name, content


def add_receiver(parser: argparse.ArgumentParser) -> None:
    """What `read_receiver` reads."""
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the endpoint, as the router calls it"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="instead of URL and all below: what routes.yaml has of it"
    )
    add_settings(parser, "config", "secrets_dir")
    of_url = parser.add_argument_group("of a URL")
    of_url.add_argument(
        "--secret",
        action="append",
        metavar="SECRET",
        default=[],
        help="sign by it; written as in routes.yaml: whsec_…, or ${NAME} and ${file:NAME} that "
        "keep it out of the command line; twice for two that sign",
    )
    of_url.add_argument(
        "--secret-file", type=value(parse_file), metavar="FILE", help="sign by what is in it"
    )
    of_url.add_argument(
        "--header",
        action="append",
        type=value(parse_own_header),
        default=[],
        metavar="'NAME: VALUE'",
        help="sent besides the router's own; may be repeated",
    )
    of_url.add_argument(
        "--timeout",
        type=value(parse_wait),
        metavar="TIME",
        help="how long one answer may take (default 5s)",
    )
    of_url.add_argument(
        "--acknowledge",
        choices=("code", "status"),
        help="what counts: a 2xx with code 000, or any 2xx (default code)",
    )
    add_ca(of_url)


def read_receiver(args: argparse.Namespace) -> Receiver:
    """Raises SettingInvalid for arguments, and ConfigInvalid for a routes.yaml, of no use."""
    if (args.url is None) == (args.target is None):
        raise SettingInvalid("URL or --target NAME has to be given, and not both")
    return _by_url(args) if args.target is None else _by_name(args)


def _by_url(args: argparse.Namespace) -> Receiver:
    try:
        url = parse_url(args.url)
    except ValueError as error:
        raise SettingInvalid(f"URL: {error}") from None
    said = {name: getattr(args, name) for name in ("timeout", "acknowledge")}
    target = Target(
        NAME,
        url,
        **{name: each for name, each in said.items() if each is not None},
        headers=tuple(
            (name.decode(), Secret(text.decode("latin-1"))) for name, text in args.header
        ),
        secret=_secrets(args),
        tls=trust(args),
    )
    return Receiver(target, url, "somebody", PLATFORM)


def _by_name(args: argparse.Namespace) -> Receiver:
    for name, absent in _OF_A_URL.items():
        if getattr(args, name) != absent:
            option = f"--{name.replace('_', '-')}"
            raise SettingInvalid(f"{option}: can't be given with --target: routes.yaml has it")
    config = load(read_setting(args, "config"), os.environ, read_setting(args, "secrets_dir"))
    mind_target(args.target, config.table.targets, "routes.yaml")
    target = config.table.targets[args.target]
    if any(target.name in route.required for route in config.table.routes):
        return Receiver(target, target.public_url, "ebaas", config.ebaas.schedule)
    return Receiver(target, target.public_url, "queue", config.queue)


def _secrets(args: argparse.Namespace) -> tuple[Secret, ...]:
    given = read_secrets("--secret", args.secret, read_setting(args, "secrets_dir"))
    path: Path | None = args.secret_file
    if path is None:
        return given
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = why_not(path, error) if isinstance(error, OSError) else "is no text in UTF-8"
        raise SettingInvalid(f"--secret-file: {str(path)!r} can't be read: {why}") from None
    return (*given, *secrets_of("--secret-file", [text]))
