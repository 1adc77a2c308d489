"""Grafana's dashboard, deploy/grafana/ebaas-router.json, which `make docs` writes.

It has three rows, for the three questions of the engineer on duty. Panels by target use series
recorded by deploy/prometheus/rules.yml, or join with them, so that owners can be selected.
"""

from __future__ import annotations

from scripts.grafana import (
    HALF,
    THIRD,
    Json,
    graph,
    legible,
    placed,
    row,
    stat,
    table,
    variable,
)

#: Selectors for the service, and for the targets that the variables choose.
JOB = 'job="$job"'
CHOSEN = f'{JOB}, owner=~"$owner", target=~"$target"'

#: Events that did not get 000, and attempts that were not acknowledged.
FAILED = 'code!="000"'
UNACKNOWLEDGED = 'reason!="acknowledged"'

#: The router's alerts, and those that fire.
ALERTS = 'alertname=~"EbaasRouter.*"'
FIRING = 'alertstate="firing"'

#: Joins a value by target with its owner, and drops targets that are not chosen.
OWNED = f"* on (job, target) group_left (owner, role) ebaas_router:target_info{{{CHOSEN}}}"

#: Columns of a table of targets.
LABELS = ("target", "owner", "role")


def of(metric: str, *more: str) -> str:
    """Return the service's series of a metric."""
    return f"ebaas_router_{metric}{{{', '.join([JOB, *more])}}}"


def rate(by: str, metric: str, *more: str, window: str = "$__rate_interval") -> str:
    return f"sum by ({by}) (rate({of(metric, *more)}[{window}]))"


def part(metric: str, whole: str) -> str:
    return f"sum({of(metric)}) / sum({of(whole)})"


def chosen(record: str, *more: str) -> str:
    """Return a recorded series of the chosen targets."""
    return f"ebaas_router:{record}{{{', '.join([CHOSEN, *more])}}}"


def owned(how: str, metric: str, *more: str) -> str:
    """Return the values other than 0 of a metric, by chosen target."""
    return f"({how} by (job, target) ({of(metric, *more)}) > 0) {OWNED}"


def alerts(series: str, *more: str) -> str:
    return f"{series}{{{', '.join([ALERTS, *more])}}}"


def quantile(share: float, window: str) -> str:
    buckets = rate("le", "event_duration_seconds_bucket", window=window)
    return f"histogram_quantile({share}, {buckets})"


#: The start of each firing alert, in seconds.
SINCE = f"{alerts('ALERTS_FOR_STATE', CHOSEN)} and ignoring (alertstate) {alerts('ALERTS', FIRING)}"

IS_IT_WELL = [
    stat(
        "Alerts firing",
        "Of all targets. docs/how-to/alerts.md says what each means, and what to do.",
        "short",
        f"count({alerts('ALERTS', JOB, FIRING)}) or vector(0)",
        (1, "red"),
    ),
    stat(
        "Requests without 000",
        "EBaaS sends those events again.",
        "percentunit",
        rate("job", "events_total", FAILED, window="5m")
        + " / "
        + rate("job", "events_total", window="5m"),
        *((0.01, "orange"), (0.05, "red")),
    ),
    stat(
        "99 % of replies within",
        "reply_within is 8 s unless routes.yaml says otherwise.",
        "s",
        quantile(0.99, "5m"),
        *((4, "orange"), (6, "red")),
    ),
    stat(
        "Since the last event",
        "Or since the start, if none has come. Orange after an hour.",
        "s",
        f"time() - max({of('last_event_timestamp_seconds')})",
        (3600, "orange"),
    ),
    stat(
        "Instances down",
        "Those that do not answer Prometheus.",
        "short",
        f"count(up{{{JOB}}} == 0) or vector(0)",
        (1, "red"),
    ),
    stat(
        "routes.yaml refused",
        "Instances where what the file says now is not in force: see /status.",
        "short",
        f"count({of('reload_last_successful')} == 0) or vector(0)",
        (1, "orange"),
    ),
    graph(
        "Requests a second, by reply",
        THIRD,
        "gone: the caller had hung up. Refused: what became no event.",
        "reqps",
        {
            "{{code}}": rate("code", "events_total"),
            "refused {{code}}": rate("code", "refused_total") + " > 0",
        },
    ),
    graph(
        "Time until the reply",
        THIRD,
        "From an event's first byte.",
        "s",
        {f"{share:.0%}": quantile(share, "$__rate_interval") for share in (0.5, 0.99)},
    ),
    graph(
        "Used of what there is",
        THIRD,
        "Places for callbacks and connections, the store, and the time that the event loop loses.",
        "percentunit",
        {
            "callbacks": part("requests_in_flight", "requests_limit"),
            "connections": part("connections_open", "connections_limit"),
            "store": f"max({of('store_fullness_ratio')})",
            "event loop": rate("job", "loop_lag_seconds_sum")
            + f" / sum by (job) ({of('build_info')})",
        },
    ),
    table(
        "Firing alerts",
        "Of the chosen owners and targets. docs/how-to/alerts.md has a section for each.",
        ("alertname", "severity", "target", "owner", "reason", "file"),
        {"since": ("dateTimeFromNow", f"1000 * {SINCE}")},
    ),
]

WHICH_TARGET = [
    table(
        "Targets",
        "The worst first. What is empty has not happened.",
        LABELS,
        {
            "fail": ("percentunit", chosen("failing:ratio5m")),
            "failing for": ("s", chosen("failing:seconds")),
            "attempts a second": (
                "reqps",
                f"sum by (job, target, owner, role) ({chosen('attempts:rate5m')})",
            ),
            "99 % within": ("s", chosen("attempt_seconds:p99_10m")),
            "in flight": ("short", f"sum by (job, target) ({of('attempts_in_flight')}) {OWNED}"),
            "breakers open": ("short", owned("sum", "breaker_state", 'state="open"')),
            "paused": ("short", owned("max", "target_paused")),
        },
    ),
    graph(
        "Failed attempts a second, and why",
        HALF,
        "docs/reference/codes.md explains each reason.",
        "reqps",
        {
            "{{target}} {{reason}}": "sum by (target, reason) "
            f"({chosen('attempts:rate5m', UNACKNOWLEDGED)})"
        },
    ),
    graph(
        "99 % of attempts within",
        HALF,
        "From the decision to send until the answer was read.",
        "s",
        {"{{target}}": f"max by (target) ({chosen('attempt_seconds:p99_10m')})"},
    ),
]

WHAT_WAITS = [
    table(
        "Deliveries that are not settled",
        "Awaiting: EBaaS's retry. Queued: the router's. Dead: a person, who replays or discards.",
        LABELS,
        {
            **{
                state: ("short", owned("max", "unsettled_deliveries", f'state="{state}"'))
                for state in ("awaiting", "queued", "dead")
            },
            "first is given up in": ("s", chosen("expires:seconds")),
        },
    ),
    graph(
        "Awaiting and queued",
        THIRD,
        "It comes down once the target is well again.",
        "short",
        {
            f"{{{{target}}}} {state}": owned("max", "unsettled_deliveries", f'state="{state}"')
            for state in ("awaiting", "queued")
        },
    ),
    graph(
        "First is given up in",
        THIRD,
        "Then it is a dead letter. EbaasRouterLastChance fires an hour before.",
        "s",
        {"{{target}}": f"min by (target) ({chosen('expires:seconds')})"},
    ),
    graph(
        "New dead letters in an hour",
        THIRD,
        "By the reason of the last attempt.",
        "short",
        {
            "{{target}} {{reason}}": "(sum by (job, target, reason) "
            f"(increase({of('dead_letters_total')}[1h])) > 0) {OWNED}"
        },
    ),
]

_INFO = f"ebaas_router:target_info{{{JOB}"

VARIABLES: list[Json] = [
    {"name": "datasource", "type": "datasource", "query": "prometheus"},
    variable("job", "label_values(ebaas_router_build_info, job)"),
    variable("owner", f"label_values({_INFO}}}, owner)", many=True),
    variable("target", f'label_values({_INFO}, owner=~"$owner"}}, target)', many=True),
]

DASHBOARD: Json = {
    "uid": "ebaas-router",
    "title": "EBaaS callback router",
    "description": "Made by scripts/dashboard.py. It needs deploy/prometheus/rules.yml.",
    "tags": ["ebaas-router"],
    "schemaVersion": 39,
    "time": {"from": "now-3h", "to": "now"},
    "refresh": "30s",
    "templating": {"list": VARIABLES},
    "panels": placed(
        [
            *(row("Is it well?"), *IS_IT_WELL),
            *(row("Which target, and why?"), *WHICH_TARGET),
            *(row("What waits, and until when?"), *WHAT_WAITS),
        ]
    ),
}


def text() -> str:
    return legible(DASHBOARD) + "\n"
