"""`config`: the configuration as the router has it, with every default filled in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from router.cli.options import BAD, GOOD, Help, add_format
from router.cli.printing import say_as
from router.cli.routes.inputs import add_config, config_names, read_config, usable

HELP = Help(
    about="""Prints a routes.yaml as the router has it once it is loaded: every default filled in,
    variables replaced, merge keys written out; and its hash, by which two routers are told apart.
    What may be a secret is ***: a header's value, a URL's query, a path that a variable brings in.
    But for that the output is a routes.yaml with the same meaning. FILE may be '-' for stdin.""",
    examples=(
        "ebaas-router config",
        "ebaas-router config config/routes.yaml --format json",
        "diff <(ebaas-router config old.yaml) <(ebaas-router config new.yaml)",
    ),
    exit_codes={GOOD: "printed", BAD: "a file that is not valid or can't be read"},
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from router.config.effective import effective_of

    found = read_config(config_names(args)[0], args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    effective = effective_of(loaded)
    shape = {"file": found.name, "hash": loaded.hash, **effective}
    say_as(args.format, [shape], _told(f"# {found.name}, hash {loaded.hash}", effective))
    return GOOD


def _told(heading: str, effective: dict[str, Any]) -> Iterator[str]:
    from router.config.document import write

    yield heading
    yield from write(_escaped(effective)).splitlines()


def _escaped(value: Any) -> Any:
    """With every `$` doubled, as a routes.yaml has to have it."""
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
