"""Plain data as the text of a document."""

from __future__ import annotations

from math import inf
from typing import Any

import yaml

from router.config.document.nodes import ScalarNode


def write(value: Any) -> str:
    """YAML for mappings, lists, strings, numbers and booleans, in the order that they have.

    A list of single values is on one line, and a string that may be taken for anything else is in
    quotes.
    """
    style: dict[str, Any] = {"default_flow_style": None, "width": inf, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """What is there twice is written twice: an alias would only puzzle."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=False)


def _string(dumper: _Dumper, text: str) -> Any:
    plain = ScalarNode(text, True, 0, 0).what == "a string"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if plain else "'")


_Dumper.add_representer(str, _string)
