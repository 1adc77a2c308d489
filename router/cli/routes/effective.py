"""`check --print`: the configuration as the router has it, with every default filled in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from router.cli.annotations import CI_FORMATS
from router.cli.options import BAD, GOOD
from router.cli.printing import say_as
from router.cli.routes.inputs import config_names, read_config, usable
from router.model.errors import SettingInvalid


def say_effective(args: argparse.Namespace) -> int:
    """Print the FILE as a routes.yaml of the same meaning, but for what is masked."""
    from router.config.effective import effective_of

    names = config_names(args)
    if len(names) > 1:
        raise SettingInvalid("--print takes one FILE")
    if args.format in CI_FORMATS:
        raise SettingInvalid(f"--print has no format {args.format!r}")
    found = read_config(names[0], args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    effective = effective_of(loaded)
    shape = {"file": found.name, "hash": loaded.hash, **effective}
    say_as(args.format, [shape], _lines(f"# {found.name}, hash {loaded.hash}", effective))
    return GOOD


def _lines(heading: str, effective: dict[str, Any]) -> Iterator[str]:
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
