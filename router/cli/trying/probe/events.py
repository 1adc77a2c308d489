"""Checks by events that are awkward, and right: each has to be acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import Finding, answer_of, good, unacknowledged
from router.cli.trying.probe.samples import Sample, Samples


def acknowledges(
    name: str, samples: Callable[[Samples], Iterable[Sample]]
) -> Callable[[Client], Awaitable[Finding]]:
    """The check by these samples; its words are below its name."""

    async def run(client: Client) -> Finding:
        words = client.words
        for sample in samples(client.samples):
            attempt = (await client.send(sample)).attempt
            if not attempt.acknowledged:
                return unacknowledged(words, attempt, words(name), words(f"{name}.mend"))
        return good(answer_of(words, attempt))

    return run


twice = acknowledges("twice", lambda samples: [samples.event()] * 2)

no_changes = acknowledges("no-changes", lambda samples: [samples.event(changes=[])])

no_key = acknowledges(
    "no-key", lambda samples: [samples.event(event_key=key) for key in (..., None, "")]
)

unknown_fields = acknowledges(
    "unknown-fields", lambda samples: [samples.event(tenant="t", trace={"a": [1]})]
)

scripts = acknowledges(
    "scripts",
    lambda samples: [
        samples.event(event_type="证书🎫", event_key="证书.🎫", changes=["编号-一", "🙂"])
    ],
)

many_ids = acknowledges(
    "many-ids",
    lambda samples: [samples.event(changes=[f"probe-{number}" for number in range(1000)])],
)

large_body = acknowledges("large-body", lambda samples: [samples.large()])
