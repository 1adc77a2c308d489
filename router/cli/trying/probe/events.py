"""Checks by events that are awkward, and right: each has to be acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import Finding, answer_of, good, unacknowledged
from router.cli.trying.probe.samples import Sample, Samples


def acknowledges(
    samples: Callable[[Samples], Iterable[Sample]], what: str, mend: str
) -> Callable[[Client], Awaitable[Finding]]:
    """The check by these samples; `what` each of them is, and how to mend who refuses one."""

    async def run(client: Client) -> Finding:
        for sample in samples(client.samples):
            attempt = (await client.send(sample)).attempt
            if not attempt.acknowledged:
                return unacknowledged(attempt, f"{what} is not acknowledged", mend)
        return good(answer_of(attempt))

    return run


twice = acknowledges(
    lambda samples: [samples.event()] * 2,
    "the same webhook-id for the second time",
    "answer 000 to an id that is done already, and do nothing else",
)

no_changes = acknowledges(
    lambda samples: [samples.event(changes=[])],
    "an event with `changes: []`",
    "take an empty list for a list: there is nothing to do for it",
)

no_key = acknowledges(
    lambda samples: [samples.event(event_key=key) for key in (..., None, "")],
    "an event whose event_key is absent, null or empty",
    "let event_key be optional; else it is the four other fields, joined by dots",
)

unknown_fields = acknowledges(
    lambda samples: [samples.event(tenant="t", trace={"a": [1]})],
    "an event with fields of no known name",
    "ignore fields that you don't know: the platform may grow",
)

scripts = acknowledges(
    lambda samples: [
        samples.event(event_type="证书🎫", event_key="证书.🎫", changes=["编号-一", "🙂"])
    ],
    "an event with Chinese and emoji",
    "read the body as UTF-8 whatever the locale is, and let the database have all of Unicode",
)

many_ids = acknowledges(
    lambda samples: [samples.event(changes=[f"probe-{number}" for number in range(1000)])],
    "an event with 1,000 ids in `changes`",
    "let `changes` be of any length, and do the work for its ids after the answer",
)

large_body = acknowledges(
    lambda samples: [samples.large()],
    "an event of 1 MiB",
    "let a body have 1 MiB: in the server, in its framework, in any proxy before it",
)
