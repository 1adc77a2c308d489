"""What a bench is told by nothing but numbers."""

from __future__ import annotations

import argparse


def numbers(bench: str, about: str | None, **defaults: int) -> list[int]:
    """The command line's numbers in the order of `defaults`, which stand where one is left out."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{bench}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in defaults.items():
        parser.add_argument(
            name,
            type=_count,
            nargs="?",
            default=default,
            metavar=name.upper(),
            help=f"else {default:,}",
        )
    return list(vars(parser.parse_args()).values())


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return number
