"""Checks by events that are awkward, and right: each has to be acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import Finding, answer_of, good, unacknowledged
from router.cli.trying.probe.samples import Sample, Samples

#: By the name of the check.
AWKWARD: Mapping[str, Callable[[Samples], Sequence[Sample]]] = {
    "twice": lambda samples: [samples.event()] * 2,
    "no-changes": lambda samples: [samples.event(changes=[])],
    "no-key": lambda samples: [samples.event(event_key=key) for key in (..., None, "")],
    "unknown-fields": lambda samples: [samples.event(tenant="t", trace={"a": [1]})],
    "scripts": lambda samples: [
        samples.event(event_type="证书🎫", event_key="证书.🎫", changes=["编号-一", "🙂"])
    ],
    "many-ids": lambda samples: [
        samples.event(changes=[f"probe-{number}" for number in range(1000)])
    ],
    "large-body": lambda samples: [samples.large()],
}


async def acknowledged(name: str, client: Client) -> Finding:
    """The check of that name; its words are below it."""
    words = client.words
    for sample in AWKWARD[name](client.samples):
        attempt = (await client.send(sample)).attempt
        if not attempt.acknowledged:
            return unacknowledged(words, attempt, words(name), words(f"{name}.mend"))
    return good(answer_of(words, attempt))
