"""Each file of a folder is taken or refused alone, by rules for files that need each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.config import fitting, loading
from router.config.files import Part, Written
from router.config.loading import Config, load_files
from router.config.schema import Name
from router.model.errors import ConfigInvalid

#: The files of a folder; None for none.
Texts = Mapping[str, str | None]

COMMON = "version: 1\n"


def team(owner: str, targets: Iterable[str] = (), uses: Iterable[str] = (), route: str = "") -> str:
    """Return a team's file with some targets, and a route that uses some."""
    text: dict[str, Any] = {"version": 1, "owner": f"team {owner}"}
    text["targets"] = {name: {"url": f"https://{owner}.example/{name}"} for name in targets}
    match = f"{owner}.*"
    if uses := [*uses]:
        text["routes"] = [{"name": route or owner, "match": match, "required": uses}]
    return json.dumps({key: value for key, value in text.items() if value})


def format_of(name: str) -> Name:
    return "routes.common" if name == "routes" else "routes.team"


def written(texts: Texts) -> list[Written]:
    return [
        Written(f"config/{name}.yaml", text.encode(), format_of(name))
        for name, text in sorted(texts.items(), key=lambda item: (item[0] != "routes", item[0]))
        if text is not None
    ]


def update(
    before: Texts, after: Texts, environ: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Edit a folder in force. Return the texts in force then, and the problems of refused files."""
    in_force = [*load_files(written(before), environ or {}, None)[0].files.values()]
    config, refused = load_files(written(after), environ or {}, None, in_force=in_force)
    return texts_of(config), {
        name_of(file): [
            re.sub(r"^config/([^:]*)(:[0-9]+)*", r"\1", str(problem)) for problem in one.problems
        ]
        for file, one in refused.items()
    }


def name_of(file: str) -> str:
    return file.removeprefix("config/").removesuffix(".yaml")


def texts_of(config: Config) -> dict[str, str]:
    return {name_of(name): file.content.decode() for name, file in config.files.items()}


def share(**targets: str) -> str:
    return f"{COMMON}share: {json.dumps({name: f'team {one}' for name, one in targets.items()})}\n"


A = team("a", ["x"], ["x"])
B = team("b", ["y"], ["x", "y"])
#: Team b uses a target of team a.
BEFORE = {"routes": share(x="b"), "a": A, "b": B}

#: Problems of several cases.
USED = "the route in config/b.yaml:1 (team b) still uses the target 'x'"
NOWHERE = "routes[0].required: no target 'nowhere'"


def foreign(target: str, owner: str, user: str) -> str:
    """The problem of a use that `share` does not allow."""
    return (
        f"routes[0].required: '{target}' is the target of 'team {owner}': `share` in "
        f"config/routes.yaml can let 'team {user}' use it (team {user})"
    )


def held_back(target: str, file: str) -> str:
    """The problem of a use of a target in a refused file."""
    return (
        f"routes[0].required: no target '{target}' is in force: it is in config/{file}.yaml, "
        "which is refused"
    )


def taken_by(file: str, target: str) -> str:
    return f"targets.{target}: config/{file}.yaml has a target of this name already"


#: What happens: the edit, the files that take effect, and the problems of the refused ones.
#: docs/how-to/teams.md has this table.
CASES: dict[str, tuple[Texts, str, dict[str, list[str]]]] = {
    "a mistake in one file": (
        {"a": "version: 1\nowner: team a\nroots: []\n", "b": team("b", ["y"])},
        "b",
        {"a": ["a.yaml: unknown key 'roots', did you mean 'routes'? (team a)"]},
    ),
    "a new file with a mistake": (
        {"c": "version: 1\nowner: team c\ntargets: {z: {url: nowhere}}\n", "b": team("b", ["y"])},
        "b",
        {"c": ["c.yaml: targets.z.url: a URL has to begin with http:// or https:// (team c)"]},
    ),
    "a mistake in routes.yaml": (
        {"routes": share(x="b") + "unmatchd: accept\n", "a": team("a", ["x", "x2"], ["x"])},
        "",
        {"routes": ["routes.yaml: unknown key 'unmatchd', did you mean 'unmatched'?"], "a": []},
    ),
    "a target that is removed in use": (
        {"a": team("a", ["x2"], ["x2"])},
        "",
        {"a": [f"a.yaml: {USED} (team a)"]},
    ),
    "a file that is removed in use": ({"a": None}, "", {"a": [f"a.yaml: {USED} (team a)"]}),
    "removed in use, by a file with a mistake that no longer uses it": (
        {"a": team("a", ["x2"]), "b": team("b", ["y"], ["y"])[:-1]},
        "",
        {
            "a": [f"a.yaml: {USED} (team a)"],
            "b": [
                (
                    "b.yaml: this bracket is not closed, or a comma is missing, or a value needs "
                    "quotes (team b)"
                )
            ],
        },
    ),
    "removed with its last use": (
        {"a": team("a", ["x2"], ["x2"]), "b": team("b", ["y"], ["y"])},
        "a b",
        {},
    ),
    "a target gets another name, beside a mistake": (
        {
            "routes": share(x2="b"),
            "a": team("a", ["x2"], ["x2"]),
            "b": team("b", ["y"], ["x2", "y"]),
            "c": team("c", ["z"], ["zz"]),
        },
        "routes a b",
        {"c": ["c.yaml: routes[0].required: no target 'zz', did you mean 'z'? (team c)"]},
    ),
    "a mistyped name that is like another team's target": (
        {"a": team("a", ["x", "payroll"], ["x"]), "c": team("c", ["z"], ["payrol"])},
        "a",
        {"c": ["c.yaml: routes[0].required: no target 'payrol' (team c)"]},
    ),
    "a use of a target in a refused file": (
        {"c": team("c", ["z", "y"], ["z"]), "d": team("c", [], ["z"], route="d"), "a": A + "\n"},
        "a",
        {
            "c": [f"c.yaml: {taken_by('b', 'y')} (team c)"],
            "d": [f"d.yaml: {held_back('z', 'c')} (team c)"],
        },
    ),
    "a target moves to another file of its owner": (
        {"a": team("a", ["x2"], ["x"]), "a2": team("a", ["x"])},
        "a a2",
        {},
    ),
    "a target moves to another owner, and its own team still uses it": (
        {"b": team("b", [], ["x", "y"]), "c": team("c", ["y"])},
        "",
        {
            "b": [f"b.yaml: {foreign('y', 'c', 'b')}"],
            "c": [f"c.yaml: {taken_by('b', 'y')} (team c)"],
        },
    ),
    "a target moves to another owner, and share allows the use": (
        {"a": None, "c": team("c", ["x"])},
        "a c",
        {},
    ),
    "a file gets another owner, and its target is in use": (
        {"a": team("c", ["x"]), "routes": COMMON},
        "a",
        {"routes": [f"routes.yaml: {USED}"]},
    ),
    "share ends in use": (
        {"routes": COMMON, "a": team("a", ["x", "x2"], ["x"])},
        "a",
        {"routes": [f"routes.yaml: {USED}"]},
    ),
    "share goes to another owner in use": (
        {"routes": share(x="c")},
        "",
        {"routes": [f"routes.yaml: {USED}"]},
    ),
    "routes.yaml depends on a refused file, and another file on routes.yaml": (
        {
            "routes": f"{COMMON}targets: {{w: {{url: 'https://w.example/'}}}}\n",
            "b": team("b", ["y"], ["nowhere"]),
            "c": team("c", ["z"], ["w"]),
        },
        "",
        {
            "routes": [f"routes.yaml: {USED}"],
            "b": [f"b.yaml: {NOWHERE} (team b)"],
            "c": [f"c.yaml: {held_back('w', 'routes')} (team c)"],
        },
    ),
    "a file gets another owner, who may not use what the file uses": (
        {"b": team("d", ["y"], ["x", "y"], "b")},
        "",
        {"b": [f"b.yaml: {foreign('x', 'a', 'd')}"]},
    ),
    "a use that share does not allow": (
        {"a": team("a", ["x"], ["x", "y"])},
        "",
        {"a": [f"a.yaml: {foreign('y', 'b', 'a')}"]},
    ),
    "a new file with a name that is in force": (
        {"0": team("c", ["y"])},
        "",
        {"0": [f"0.yaml: {taken_by('b', 'y')} (team c)"]},
    ),
    "two new files with one name: the first by path": (
        {"c": team("c", ["z"], ["z"]), "d": team("d", ["z"], ["z"])},
        "c",
        {"d": [f"d.yaml: {taken_by('c', 'z')} (team d)"]},
    ),
    "two new files with one name, and the first depends on a refused file": (
        {
            "c": team("c", ["z"], ["w"]),
            "d": team("d", ["z"], ["z"]),
            "g": team("c", ["w"], ["nowhere"], "g"),
        },
        "d",
        {
            "c": [
                f"c.yaml: {taken_by('d', 'z')} (team c)",
                f"c.yaml: {held_back('w', 'g')} (team c)",
            ],
            "g": [f"g.yaml: {NOWHERE} (team c)"],
        },
    ),
    "two new routes with one name": (
        {"c": team("c", ["z"], ["z"], "new"), "d": team("d", ["w"], ["w"], "new")},
        "c",
        {
            "d": [
                (
                    "d.yaml: routes[0].name: the route in config/c.yaml:1 has this name already "
                    "(team d)"
                )
            ]
        },
    ),
    "egress excludes an address in force": (
        {"routes": share(x="b") + "egress: public\n", "a": A + "\n"},
        "a",
        {
            "routes": [
                "routes.yaml: egress excludes 10.1.2.3, the address of 'local' in config/e.yaml"
            ]
        },
    ),
    "the last target": (
        {"routes": COMMON, "a": None, "b": team("b"), "e": team("e")},
        "routes b e",
        {"a": ["a.yaml: no file has a target (team a)"]},
    ),
    "the last target, beside a new one that is refused": (
        {
            "routes": COMMON,
            "a": None,
            "b": team("b"),
            "e": None,
            "f": team("f", ["z"], ["nowhere"]),
        },
        "routes b e",
        {"a": ["a.yaml: no file has a target (team a)"], "f": [f"f.yaml: {NOWHERE} (team f)"]},
    ),
    "a variable that is missing": (
        {"a": A.replace("https://a.example/x", "${URL}"), "b": B + "\n"},
        "b",
        {
            "a": [
                (
                    "a.yaml: targets.x.url: the variable 'URL' is not set, and has no default "
                    "(team a)"
                )
            ]
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_case(name: str) -> None:
    """A change that does not fit stays out, with a problem for its owner that names all files in
    question; every other change takes effect."""
    edits, taken, problems = CASES[name]
    local = json.dumps(
        {"version": 1, "owner": "team e", "targets": {"local": {"url": "http://10.1.2.3/"}}}
    )
    before = {**BEFORE, "e": local}
    in_force, refused = update(before, {**before, **edits})
    assert refused == problems
    expected = {**before, **{file: edits[file] for file in taken.split()}}
    assert in_force == {file: text for file, text in expected.items() if text is not None}


def test_routes_yaml_may_not_exclude_its_own_address() -> None:
    """Its own edit is to blame, whichever of the two came first."""
    before = {"routes": f"{COMMON}targets: {{local: {{url: 'http://10.1.2.3/'}}}}\n"}
    _, refused = update(before, {"routes": f"{before['routes']}egress: public\n"})
    assert refused["routes"] == [
        "routes.yaml: targets.local.url: 10.1.2.3 is no public address, and egress allows no other"
    ]


def test_a_value_that_is_gone_stays_in_force() -> None:
    """A variable or secret file that is lost while the router runs: its file is refused as it is,
    and keeps the values that it has in force. A new value is an edit like any other."""
    text = A.replace("https://a.example", "https://${HOST}")
    in_force = load_files(written({**BEFORE, "a": text}), {"HOST": "h1"}, None)[0]
    after = written({**BEFORE, "a": text, "b": B + "\n"})
    files = [*in_force.files.values()]
    config, refused = load_files(after, {}, None, in_force=files)
    assert [*map(name_of, refused)] == ["a"]
    assert config.table.targets["x"].url == "https://h1/x"
    assert texts_of(config)["b"] == B + "\n"
    config, refused = load_files(after, {"HOST": "h2"}, None, in_force=[*config.files.values()])
    assert (config.table.targets["x"].url, refused) == ("https://h2/x", {})


# At work.


def teams(count: int) -> dict[str, str | None]:
    return {
        "routes": COMMON,
        **{f"t{n}": team(f"t{n}", [f"t{n}"], [f"t{n}"]) for n in range(count)},
    }


def test_three_broken_files_of_200_cost_as_much_as_three_files_more() -> None:
    """A file that is refused is parsed once, and once more in its text in force."""
    before, parsed = teams(200), []
    after = {**before, **{f"t{n}": team(f"t{n}", [], ["nowhere"]) for n in (7, 77)}, "t177": "{"}

    class Counted(Part):
        def __init__(self, written: Written, *rest: Any) -> None:
            parsed.append(written.name)
            super().__init__(written, *rest)

    in_force = [*load_files(written(before), {}, None)[0].files.values()]
    with patch.object(loading, "Part", Counted):
        config, refused = load_files(written({**after, "t1": None}), {}, None, in_force=in_force)
    assert [*map(name_of, refused)] == ["t177", "t7", "t77"]
    assert len(parsed) == 200 + 3 + 1
    assert texts_of(config) == {name: text for name, text in before.items() if name != "t1"}


def test_the_work_is_linear_in_the_files_that_changed() -> None:
    """A chain in which each change depends on the next one, and the last one is refused."""

    def judged(count: int) -> int:
        before, calls = teams(300), 0
        faults = fitting._Changes.faults

        def counted(self: Any, name: str) -> Any:
            nonlocal calls
            calls += 1
            return faults(self, name)

        chain: dict[str, str | None] = {
            f"c{n}": team("c", [f"c{n}"], [f"c{n + 1}"], route=f"c{n}") for n in range(count)
        }
        with patch.object(fitting._Changes, "faults", counted):
            in_force, refused = update(before, {**before, **chain})
        assert (in_force, len(refused)) == (before, count)
        return calls

    assert judged(100) - judged(50) <= 50 * 10


# A random model.

NAMES = ["routes", *"abcdefghi"]
TARGETS = ["t1", "t2", "t3"]
HOST = {"HOST": "host"}
BROKEN = "version: 1\nowner: [\n"
ROUTES = "config/routes.yaml"


@st.composite
def a_text(draw: st.DrawFn, file: str) -> str | None:
    """A text of a file: often valid, and often in need of another file's text; None removes it."""
    kind = draw(st.sampled_from(["good", "good", "good", "broken", "variable", "gone"]))
    if kind == "broken":
        return BROKEN
    if file == "routes":
        unmatched = draw(st.sampled_from(["reject", "accept"]))
        shares = draw(st.dictionaries(st.sampled_from(TARGETS), st.just("everybody")))
        more = {"share": shares} if shares else {}
        return json.dumps({"version": 1, "unmatched": unmatched, **more})
    if kind == "gone":
        return None
    owner = draw(st.sampled_from("pq"))
    targets = draw(st.sets(st.sampled_from(TARGETS), max_size=1))
    uses = draw(st.sets(st.sampled_from(TARGETS), max_size=2))
    route = draw(st.sampled_from([file, file, "common"]))
    text = team(owner, targets, sorted(uses), route)
    return text.replace(f"https://{owner}", "https://${HOST}") if kind == "variable" else text


class Histories(RuleBasedStateMachine):
    """Edits, breakages, removals, lost variables, looks and restarts over ten files."""

    @initialize()
    def start(self) -> None:
        self.disk: dict[str, str | None] = {"routes": COMMON, "a": team("p", ["t1"], ["t1"])}
        self.environ = HOST
        self.config = load_files(written(self.disk), HOST, None)[0]
        self.refused: Mapping[str, Any] = {}
        self.is_seen = True

    @rule(data=st.data(), file=st.sampled_from(NAMES))
    def edit(self, data: st.DataObject, file: str) -> None:
        self.disk = {**self.disk, file: data.draw(a_text(file))}
        self.is_seen = False

    @rule(is_set=st.booleans())
    def set_variable(self, is_set: bool) -> None:
        self.environ = HOST if is_set else {}

    @rule()
    def look(self) -> None:
        self.load([*self.config.files.values()])

    @rule()
    def restart(self) -> None:
        """Only the texts are kept, without the values of variables."""
        files = self.config.files.values()
        kept = [Written(file.name, file.content, file.format) for file in files]
        try:
            self.load(kept)
        except ConfigInvalid:
            needed = any(b"${HOST}" in file.content for file in kept)
            assert needed
            assert not self.environ
            self.environ = HOST
            self.load(kept)

    def load(self, in_force: list[Written]) -> None:
        before = texts_of(self.config).items()
        config, self.refused = load_files(written(self.disk), self.environ, None, in_force=in_force)
        self.config, self.is_seen = config, True
        assert texts_of(config).items() <= before | self.disk.items()

    def is_valid(self, edits: Iterable[str] = ()) -> bool:
        """Return whether all that is in force is valid together, after some edits."""
        edited = written({file: self.disk.get(file) for file in edits})
        names = {f"config/{file}.yaml" for file in edits}
        files = [file for name, file in self.config.files.items() if name not in names]
        every = sorted([*files, *edited], key=lambda file: (file.name != ROUTES, file.name))
        try:
            load_files(every, self.environ, None)
        except ConfigInvalid:
            return False
        return True

    @precondition(lambda self: self.is_seen)
    @invariant()
    def what_is_in_force_is_valid(self) -> None:
        assert self.is_valid()

    @precondition(lambda self: self.is_seen)
    @invariant()
    def every_valid_edit_is_in_force(self) -> None:
        """No edit, and not all of them, would be valid beside what is in force; but a broken
        routes.yaml holds all of them up."""
        texts = texts_of(self.config)
        files = {*self.disk, *texts}
        pending = sorted(file for file in files if self.disk.get(file) != texts.get(file))
        assert {*pending} <= {*map(name_of, self.refused)}
        if self.disk["routes"] != BROKEN:
            for edits in (*((file,) for file in pending), *([pending] if pending else ())):
                assert not self.is_valid(edits), edits


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
