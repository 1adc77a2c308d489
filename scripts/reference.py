"""Write every file that is made from code: python -m scripts.reference

`FILES` lists them. tests/whole/test_pages.py fails if one of them is stale.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from router.cli import COMMANDS, configured
from router.cli.options import Parser
from router.config.schema import Name, Shape, document, shape_of
from router.config.settings import SETTINGS, VARIABLE_PREFIX
from router.config.values import expected
from router.model.event import SELF_INFLICTED, Reason
from router.ops.api.application import ENDPOINTS, PREFIX
from router.ops.api.endpoint import Endpoint
from router.store.protocol import State
from router.telemetry.health import STATES
from router.telemetry.metrics import PROCESS, REMOVED, TARGET, Label, Metric
from scripts import api_description, dashboard, openapi

ROOT = Path(__file__).parents[1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(cell.replace("|", "\\|") for cell in cells) + "|"


def page(*lines: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


# The keys of routes.yaml.


def routes() -> str:
    shape = shape_of("routes")
    share = shape_of("routes.common").keys["share"]
    owner = shape_of("routes.team").keys["owner"]
    return page(
        "# Keys of routes.yaml",
        "",
        "Made from `schemas/routes.schema.json` by `make docs`. Examples are in",
        "[routes.md](../how-to/routes.md) and in `config/routes.yaml`. A key without a default is",
        "off until you set it. Where a list is allowed, a single value needs no brackets.",
        "Durations are written `500ms`, `8s`, `2m`, `1h` or `7d`; networks `10.0.0.0/8`,",
        "`192.0.2.7` or `2001:db8::/32`.",
        "",
        *_keys("At the top", shape),
        *_keys("Only in a folder", Shape({}, keys={"share": share, "owner": owner})),
        *_sections(shape, ""),
    )


def _sections(shape: Shape, path: str) -> Iterator[str]:
    """The tables of the mappings inside `shape`, outermost first."""
    for key, each in shape.keys.items():
        where, inner = f"{path}{key}", each
        if each.rest and each.rest.keys:
            where, inner = f"{where}.NAME", _own_keys(each.rest)
        elif each.item and each.item.keys:
            where, inner = f"{where}[]", each.item
        if inner.keys:
            more = " These, and every key of `defaults`:" if where == "targets.NAME" else ""
            yield from _keys(f"`{where}`", inner, more.strip())
            yield from _sections(inner, f"{where}.")


def _own_keys(target: Shape) -> Shape:
    """A target without the keys that `defaults` has too."""
    policy = shape_of("routes").keys["defaults"].keys
    own = {key: each for key, each in target.keys.items() if key not in policy}
    return Shape(target.schema, fixed=target.fixed, keys=own)


def _keys(title: str, shape: Shape, about: str = "") -> list[str]:
    required = shape.fixed.get("required", ())
    rows = [
        (
            f"`{key}`",
            _type(each),
            "required" if key in required else _default(each.schema.get("default")),
            each.schema["description"],
        )
        for key, each in shape.keys.items()
    ]
    above = [about, ""] if about else []
    return [f"## {title}", "", *above, *table(("key", "type", "default", "meaning"), rows)]


def _default(value: Any) -> str:
    return "" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(shape: Shape) -> str:
    found = [re.sub(r" like .*", "", expected(shape.leaf))] if shape.leaf else []
    if shape.leaf and "x-from" in shape.leaf:
        found = [f"{found[0]}, {shape.leaf['x-from']} to {shape.leaf['x-to']}"]
    if shape.item:
        found.append("a list" if found or not shape.item.leaf else f"a list of {_type(shape.item)}")
    if shape.is_map and "a mapping" not in " ".join(found):
        found.append("a mapping of names" if shape.rest else "a mapping")
    return re.sub(r"\ban? (?!list|mapping)", "", " or ".join(found))


# The command line.


def commands() -> str:
    parsers = {name: _parser(name) for name in COMMANDS}
    users: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, parser in parsers.items():
        for action in _options(parser):
            users[_key(action)].append(name)
    several = {key for key, names in users.items() if len(names) > 1 and "serve" not in names}
    shared = {_key(each): each for parser in parsers.values() for each in _options(parser)}
    return page(
        "# Commands, options and variables",
        "",
        "Made from the command line's own declarations by `make docs`. For examples, run",
        "`ebaas-router COMMAND --help`. Exit codes of every command: 0 good, 1 a bad result,",
        "2 a wrong option, argument or variable, 3 could not start. `ebaas-router --version`",
        "prints the version.",
        "",
        "## `serve`",
        "",
        f"Every option is also a variable: `--max-requests` is `{VARIABLE_PREFIX}MAX_REQUESTS`.",
        "The option wins. A change needs a restart; settings that reload are in",
        "[routes.yaml](routes.md). Other commands read the variables of their options.",
        "",
        *table(
            ("option", "value", "default", "meaning"),
            [
                (f"`{each.option}`", each.metavar, each.default or "", each.about)
                for each in SETTINGS.values()
            ],
        ),
        "## Options of several commands",
        "",
        "`ebaas-router COMMAND --help` says which of these, and of those above, a command has.",
        "",
        *(_bullet(shared[key]) for key in users if key in several and key[0].startswith("-")),
        "",
        *(
            line
            for name, parser in parsers.items()
            if name != "serve"
            for line in _command(name, parser, several)
        ),
    )


def _parser(name: str) -> Parser:
    parser = Parser(name)
    configured(name, parser)
    return parser


def _options(parser: Parser) -> list[argparse.Action]:
    """Every option and argument that help shows."""
    hidden = (argparse.SUPPRESS, "show this help message and exit")
    return [each for each in parser._actions if each.help not in hidden]


def _key(action: argparse.Action) -> tuple[str, str]:
    return "/".join(action.option_strings) or str(action.metavar), action.help or ""


def _named(action: argparse.Action) -> str:
    value = action.metavar or "|".join(map(str, action.choices or ()))
    words = "" if action.nargs == 0 else value
    if not action.option_strings:
        return f"`{words}`"
    name = next(each for each in action.option_strings if each.startswith("--"))
    return f"`{f'{name} {words}'.strip()}`"


def _bullet(action: argparse.Action) -> str:
    return f"- {_named(action)}: {action.help}"


def _command(name: str, parser: Parser, several: set[tuple[str, str]]) -> Iterator[str]:
    words = [each for each in _options(parser) if not each.option_strings]
    usage = " ".join(f"[{each.metavar}]" if each.nargs else str(each.metavar) for each in words)
    yield from (f"## `{f'{name} {usage}'.strip()}`", "", f"{COMMANDS[name][1]}", "")
    for action in _options(parser):
        if _key(action) not in several and action.dest not in SETTINGS and action not in words:
            yield _bullet(action)
    yield ""


# The metrics.


def metrics() -> str:
    every = [*PROCESS.values(), *TARGET.values()]
    return page(
        "# Metrics",
        "",
        "Made from the table in `router/telemetry/metrics.py` by `make docs`. Queries are in",
        "[monitoring.md](../how-to/monitoring.md), alerts in [alerts.md](../how-to/alerts.md).",
        "Every series exists from the start at 0, unless its meaning says otherwise. The series of",
        "a target end when a reload removes it; its remaining attempts and dead letters then count",
        f"for the target `{REMOVED}`. No label contains anything of an event.",
        "",
        *_metrics("Of the service", PROCESS, ()),
        *_metrics("Of each target", TARGET, ("target",)),
        *_labels(every),
        *_buckets(every),
    )


def _metrics(title: str, of: Mapping[str, Metric], labels: tuple[str, ...]) -> list[str]:
    rows = [(f"`{each.full_name}`", _kind(each, labels), each.help) for each in of.values()]
    return [f"## {title}", "", *table(("name", "kind, labels", "meaning"), rows)]


def _kind(metric: Metric, labels: tuple[str, ...]) -> str:
    own = (metric.label.name,) if metric.label else ()
    return ", ".join((metric.kind, *labels, *own))


def _labels(every: Iterable[Metric]) -> list[str]:
    users: dict[Label, list[str]] = defaultdict(list)
    for metric in every:
        if metric.label is not None:
            users[metric.label].append(f"`{metric.full_name}`")
    rows = [(label.name, ", ".join(names), _values(label.values)) for label, names in users.items()]
    return ["## Labels", "", *table(("label", "of", "values"), rows)]


def _values(values: Sequence[str]) -> str:
    """The values; reasons by a link to their own page."""
    failures = {each.value for each in Reason if each is not Reason.ACKNOWLEDGED}
    if not failures <= set(values):
        return ", ".join(values)
    others = [each for each in values if each not in failures]
    return f"every [reason](codes.md#reasons) of a failure, {', '.join(others)}"


def _buckets(every: Iterable[Metric]) -> list[str]:
    rows = [
        (f"`{each.full_name}`", ", ".join(f"{bound:g}" for bound in each.buckets))
        for each in every
        if each.kind == "histogram"
    ]
    return ["## Buckets", "", *table(("of", "upper bounds in seconds; and `+Inf`"), rows)]


# The API of the ops port.


def api() -> str:
    return page(
        "# API",
        "",
        f"`make docs` generates this page. Paths are below `{PREFIX}` of the ops port.",
        "[api.json](../../schemas/api.json) (OpenAPI 3.1) describes parameters, bodies and",
        f"answers; a running router serves it at `{PREFIX}/openapi.json`.",
        "[console.md](../how-to/console.md) says how to use the API, and which token may do what.",
        "",
        *table(("request", "needs", "answer"), map(_endpoint, ENDPOINTS)),
    )


def _endpoint(endpoint: Endpoint) -> tuple[str, str, str]:
    query = ", ".join(param.name for param in endpoint.params if endpoint.method == "GET")
    return (
        f"`{endpoint.method} {endpoint.path}`{query and f' ({query})'}",
        "any" if len(endpoint.may) > 2 else " or ".join(endpoint.may),
        " ".join((endpoint.answer.__doc__ or "").split()),
    )


# Reply codes and reasons, in both languages.

_WORD = re.compile(r'^ +"([a-z0-9_.]+)": (\[.*\]),$', re.MULTILINE)

#: The console's own words: English, Chinese.
_WORDS: dict[str, list[str]] = {
    name: json.loads(words)
    for page in ("words.js", "rooms/words.js")
    for name, words in _WORD.findall((ROOT / "router/ops/page" / page).read_text("utf-8"))
}

_CODES = (
    """\
# Reply codes and reasons

`make docs` generates this page. The HTTP status of a reply is its code (`000` is 200), unless
routes.yaml has `ebaas: {http_status: ok}`: then every reply to a callback is 200, except `508`.

## Reply codes
""",
    """\
# 返回码与原因

由 `make docs` 从代码生成。应答的 HTTP 状态与返回码相同（`000` 对应 200）；若 routes.yaml 中设置了
`ebaas: {http_status: ok}`，则对回调的应答一律为 200，`508` 除外。

## 返回码
""",
)
_REASONS = (
    """\
## Reasons

A reason says how an attempt ended. The log, the metrics, the API and the console use the same word.
The router itself causes a reason marked with *. An optional delivery loses no retry, and a breaker
does not count it.
""",
    """\
## 原因

原因说明一次尝试如何结束。日志、指标、API 和控制台使用同一个词。
带 * 的原因出自路由服务自身：可选投递不因此消耗重试次数，熔断器也不计入。
""",
)
_STATES = (
    """\
## States

The API, JSON and the log have the identifiers; the console has the words.
""",
    """\
## 状态

API、JSON 和日志使用标识符，控制台使用文字。
""",
)
_STATE_HEADS = (("identifier", "of a target", "of a delivery"), ("标识符", "业务端", "投递"))
_HEADS = (("code", "reply", "when"), ("返回码", "应答", "何时"))
_REASON_HEADS = (("reason", "meaning", "what to do"), ("原因", "含义", "处理"))


def codes(language: int) -> str:
    replies = [
        (f"`{'000' if status == '200' else status}`", openapi.message(status), when[language])
        for status, when in openapi.WHEN.items()
    ]
    reasons = [
        (
            f"`{each}`{'*' if each in SELF_INFLICTED else ''}",
            _WORDS[f"reason.{each}"][language],
            _WORDS.get(f"do.{each}", ["", ""])[language],
        )
        for each in Reason
    ]
    states = [
        *((f"`{each}`", _WORDS[f"state.{each}"][language], "") for each in STATES),
        *((f"`{each}`", "", _WORDS[f"delivery.{each}"][language]) for each in State),
    ]
    return page(
        _CODES[language],
        *table(_HEADS[language], replies),
        _REASONS[language],
        *table(_REASON_HEADS[language], reasons),
        _STATES[language],
        *table(_STATE_HEADS[language], states),
    )


# All of it.

#: The schemas of a folder's files, by the keys that each may have.
_DERIVED: Mapping[Name, tuple[str, ...]] = {
    "routes.common": (*document("routes")["properties"], "share"),
    "routes.team": ("version", "owner", "targets", "routes"),
}


def _schema(name: Name) -> Callable[[], str]:
    """Make the schema of a sort of file. Only `version` is required: the rest may be elsewhere."""
    schema = document("routes")
    every = {**schema["definitions"], **schema["properties"]}
    derived = {
        **schema,
        "$id": f"urn:ebaas-router:{name}.yaml",
        "title": f"ebaas-router {name}.yaml",
        "$comment": "Made of routes.schema.json by make docs.",
        "required": ["version"],
        "properties": {key: every[key] for key in _DERIVED[name]},
    }
    return lambda: json.dumps(derived, indent=2, ensure_ascii=False) + "\n"


#: Every file that is made from code, and its maker.
FILES: dict[str, Callable[[], str]] = {
    "docs/reference/routes.md": routes,
    "docs/reference/commands.md": commands,
    "docs/reference/metrics.md": metrics,
    "docs/reference/api.md": api,
    "docs/reference/codes.md": lambda: codes(0),
    "docs/zh-CN/codes.md": lambda: codes(1),
    "schemas/api.json": api_description.text,
    "schemas/openapi.yaml": openapi.text,
    "deploy/grafana/ebaas-router.json": dashboard.text,
    **{f"schemas/{name}.schema.json": _schema(name) for name in _DERIVED},
}


if __name__ == "__main__":
    for name, make in FILES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
