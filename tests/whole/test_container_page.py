"""docs/how-to/containers.md: what it names of deploy/ is there."""

from __future__ import annotations

import re

from tests.support.command import ROOT

PAGE = (ROOT / "docs/how-to/containers.md").read_text(encoding="utf-8")


def test_the_secrets_that_it_makes_are_those_that_are_asked_for() -> None:
    """The page makes the secrets that Compose and the Kubernetes overlays ask for."""
    loop = re.search(r"for name in ([a-z -]+); do", PAGE)
    assert loop
    compose = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    asked = re.findall(r"file: \./compose/secrets/([a-z-]+)", compose)
    assert sorted(loop[1].split()) == sorted(asked)
    example = (ROOT / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"^  ([a-z.-]+): ", example.split("stringData:")[1], re.MULTILINE)
    made = re.findall(r"--from-(?:file|literal)=([a-z.-]+)=", PAGE)
    assert sorted(set(made)) == sorted(keys)
