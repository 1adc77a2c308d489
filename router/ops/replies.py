"""What one process says to each question of whoever owns the ops port."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from router.config import Explained, RefusedEvent, Standing, explained, refused
from router.model import Event, Refused
from router.ops.answers import Answer, Answers, Topic
from router.ops.report import Report
from router.ops.table import table_of
from router.store import Node, node_shape
from router.telemetry import Log, Minutes

if TYPE_CHECKING:
    from router.contract.intake import Intake


def answers_of(
    report: Callable[[], Report],
    describe: Callable[[], Node],
    standing: Standing,
    intake: Intake,
    minutes: Minutes,
    log: Log,
) -> Answers:
    """Of the process that has this configuration in force."""
    here: dict[Topic, Answer] = {
        Topic.REPORT: lambda _: report(),
        Topic.NODE: lambda _: node_shape(describe()),
        Topic.MINUTES: lambda _: minutes.told(),
        Topic.HEARD: lambda bodies: log.heard(bodies=bodies),
        Topic.RELOADS: lambda _: [asdict(each) for each in standing.reloads],
    }
    aside: dict[Topic, Answer] = {
        Topic.TABLE: lambda _: table_of(standing),
        Topic.EXPLAIN: partial(_explain, standing, intake),
    }
    return Answers(here, aside, log)


def _explain(standing: Standing, intake: Intake, what: Any) -> Explained | RefusedEvent:
    """Of a key, or of a whole event, which is checked as EBaaS's would be."""
    try:
        if "key" in what:
            event = Event.of({"event_key": what["key"]})
        else:
            event = intake.read(json.dumps(what["event"]).encode())
    except Refused as error:
        return refused(error)
    return explained(event, standing.config, whole="all" in what)
