"""How one target is contained: its breaker and its rate, as routes.yaml has them."""

from __future__ import annotations

import math
import re
from typing import Literal

from router.config.document import ScalarNode, shown
from router.config.kinds import VARIABLE, Choice, Duration, Number, ScalarKind
from router.config.reader import Fault, Schema
from router.config.section import Key, Section
from router.routing.target import BreakerPolicy, Rate

Refusals = Literal["ignore", "count"]

_BY_DEFAULT = BreakerPolicy()


class Share(ScalarKind[float]):
    """A share in per cent; the value is from 0 to 1."""

    what = "a share from 1% to 100%"
    harmless = True

    def value(self, text: str, node: ScalarNode) -> float:
        match = re.fullmatch(r"([0-9]{1,3})(%?)", text)
        if match is None or not 1 <= int(match[1]) <= 100:
            raise Fault(f"{shown(node.text)} is not {self.what}")
        if not match[2]:
            raise Fault(f"{shown(node.text)} has no unit, did you mean {shown(node.text + '%')}?")
        return int(match[1]) / 100

    def schema(self) -> Schema:
        share = {"type": "string", "pattern": "^([1-9]|[1-9][0-9]|100)%$"}
        return {"anyOf": [{**share, "patternErrorMessage": "A share like 50%."}, VARIABLE]}


class PerSecond(ScalarKind[float]):
    """How often something may happen in a second."""

    what = "a number from 0.001 to 10000"
    harmless = True

    def value(self, text: str, node: ScalarNode) -> float:
        if not node.plain and text == node.text:
            raise Fault("a number is meant: take off the quotes")
        plain = re.fullmatch(r"(0|[1-9][0-9]{0,4})(\.[0-9]{1,3})?", text)
        number = float(text) if plain else 0.0
        if not 0.001 <= number <= 10_000:
            raise Fault(f"{shown(node.text)} is not {self.what}")
        return number

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "number", "minimum": 0.001, "maximum": 10_000}, VARIABLE]}


class BreakerSection(Section):
    """When a target's breaker opens. What is written here by default is BreakerPolicy's."""

    failures = Key(
        Share(),
        "It opens when at least this share of the attempts has failed.",
        default=_BY_DEFAULT.failures,
        written="50%",
    )
    of_at_least = Key(
        Number(1, 10_000),
        "Of fewer attempts than this it takes no notice.",
        default=_BY_DEFAULT.of_at_least,
    )
    within = Key(
        Duration("1s", "10m"),
        "How far back it looks.",
        default=_BY_DEFAULT.within,
        written="30s",
    )
    pause = Key(
        Duration("100ms", "1h"),
        "How long it lets no attempt begin, before a single one probes the target.",
        default=_BY_DEFAULT.pause,
        written="10s",
    )
    refusals: Key[Refusals] = Key(
        Choice("ignore", "count"),
        "Whether the target's own refusal of an event (a code that is not 000, or a 4xx other than "
        "408 and 429) is a failure: it does answer.",
        default=_BY_DEFAULT.refusals,
    )

    @property
    def policy(self) -> BreakerPolicy:
        return BreakerPolicy(
            self.failures, self.of_at_least, self.within, self.pause, self.refusals
        )


class RateSection(Section):
    """How often a target may be called."""

    per_second = Key(
        PerSecond(),
        "How many attempts a second each process of the router begins.",
        default=1.0,
        required=True,
    )
    burst: Key[int | None] = Key(
        Number(1, 10_000),
        "How many may begin at once after a rest; a second's worth by default.",
        default=None,
    )

    @property
    def rate(self) -> Rate:
        return Rate(self.per_second, self.burst or math.ceil(self.per_second))
