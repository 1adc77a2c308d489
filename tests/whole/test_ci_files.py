"""The files of deploy/ci/ and .pre-commit-hooks.yaml are valid for their systems, and their steps
do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import PATIENCE, ROOT, environment
from tests.support.effort import LONG

GITHUB, GITLAB = ROOT / "deploy/ci/github.yaml", ROOT / "deploy/ci/gitlab.yaml"
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))

#: The other programs that the steps call, with the scripts that stand in for them.
OTHERS = {
    "pipx": "",
    "pip": "",
    "gh": '[ "$2" = comment ] && cp "$5" "$OUT/comment.md"',
    "curl": 'cp review.md "$OUT/comment.md"',
}


#: Each starts the router four times or more.
STEPS = pytest.mark.skipif(not LONG, reason="in make test-long")


@pytest.mark.parametrize(
    ("file", "schema"), [(GITHUB, "vendor.github-workflows"), (GITLAB, "vendor.gitlab-ci")]
)
def test_the_files_are_what_their_systems_read(file: Path, schema: str) -> None:
    """The published schemas of these systems accept the files."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    finished = subprocess.run(
        [checker, "--builtin-schema", schema, file], capture_output=True, check=False
    )
    assert finished.returncode == 0, finished.stdout


class Repository:
    """A checkout with the shipped configuration, a commit in which one edit was made to it, and
    what the steps call on its PATH."""

    def __init__(self, folder: Path, edit: tuple[str, str]) -> None:
        self.folder, self.out = folder / "checkout", folder / "out"
        for each in (self.folder / "config", self.out, folder / "bin"):
            each.mkdir(parents=True)
        self._programs(folder / "bin")
        self._git("init", "--quiet")
        for name in ("routes.yaml", "routes.test.yaml"):
            text = (ROOT / "config" / name).read_text(encoding="utf-8")
            (self.folder / "config" / name).write_text(text, encoding="utf-8")
        self.base = self._commit()
        file = self.folder / "config/routes.yaml"
        text = file.read_text(encoding="utf-8")
        assert text.count(edit[0]) == 1
        file.write_text(text.replace(*edit), encoding="utf-8")
        self._commit()

    def _programs(self, folder: Path) -> None:
        router = f'PYTHONPATH={ROOT} exec {sys.executable} -m router "$@"'
        for name, does in {**OTHERS, "ebaas-router": router}.items():
            (folder / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        self.path = f"{folder}:{os.environ['PATH']}"

    def _git(self, *arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        return subprocess.check_output(
            ["git", *who, *arguments], cwd=self.folder, text=True
        ).strip()

    def _commit(self) -> str:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "x")
        return self._git("rev-parse", "HEAD")

    def run(self, script: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a step as the systems do: it ends with the first command that fails."""
        own = {name: value for name, value in variables.items() if "${{" not in value}
        environ = environment({"PATH": self.path, "OUT": str(self.out), **own})
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=self.folder,
            env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def commented(self) -> str:
        return (self.out / "comment.md").read_text(encoding="utf-8")


#: A loss that is right as a whole, which the shipped tests file does not allow.
LOSS = (
    "    required: [certificates, ledger]\n",
    "    required: [certificates]\n    optional: [ledger]\n",
)
EDIT = ("timeout: 3s", "timeout: 2s")
MISTAKE = ("required: [certificates, ledger]", "required: [certificates, ledgr]")


def github(repository: Repository) -> dict[str, subprocess.CompletedProcess[str]]:
    job: dict[str, Any] = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))["jobs"]["routes"]
    temporary, summary = repository.out, repository.out / "summary.md"
    given = {"BASE": repository.base, "NUMBER": "1"}
    given |= {"RUNNER_TEMP": str(temporary), "GITHUB_STEP_SUMMARY": str(summary)}
    went = {}
    for step in job["steps"]:
        if "run" in step:
            went[step["name"]] = repository.run(step["run"], {**job["env"], **given})
            if went[step["name"]].returncode:
                break
    return went


@STEPS
def test_the_workflow(tmp_path: Path) -> None:
    """An edit by which nobody's plan is worse than its tests say passes every step; the comment
    and the job's summary say what it does. A mistake ends the check, with its line in the path
    that the repository has."""
    repository = Repository(tmp_path / "edit", EDIT)
    went = github(repository)
    assert [step for step, each in went.items() if each.returncode] == []
    assert list(went) == ["install", "check", "test", "compare", "comment"]
    assert "no plan changes: 8 events compared" in repository.commented()
    assert "ledger  timeout  3s → 2s" in repository.commented()
    assert (repository.out / "summary.md").read_text(encoding="utf-8") == repository.commented()
    went = github(Repository(tmp_path / "mistake", MISTAKE))
    assert list(went)[-1] == "check"
    problem = r"^config/routes\.yaml:\d+:\d+: routes\[0\]\.required: no target"
    assert re.search(problem, went["check"].stdout, re.MULTILINE)


@STEPS
def test_the_job_comments_what_changes(tmp_path: Path) -> None:
    """The same on GitLab: the job's script, in one shell."""
    repository = Repository(tmp_path, EDIT)
    job: dict[str, Any] = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))["routes"]
    given = {
        **job["variables"],
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": repository.base,
        "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
        "CI_MERGE_REQUEST_PROJECT_ID": "1",
        "CI_MERGE_REQUEST_IID": "2",
        "ROUTES_TOKEN": "secret",
    }
    went = repository.run("\n".join([*job["before_script"], *job["script"]]), given)
    assert went.returncode == 0, went.stderr
    assert "ledger  timeout  3s → 2s" in repository.commented()


@STEPS
def test_the_hooks(tmp_path: Path) -> None:
    """A hook runs for its files, passes a good repository and fails a bad one."""
    good = Repository(tmp_path / "good", EDIT)
    bad = Repository(tmp_path / "bad", LOSS)
    entries = {hook["id"]: hook["entry"] for hook in HOOKS}
    codes = [[each.run(entry, {}).returncode for entry in entries.values()] for each in (good, bad)]
    assert codes == [[0, 0], [0, 1]]
    for hook in HOOKS:
        concerned = ["config/routes.yaml", "routes.test.yaml", "config/routes.d/ledger.yaml"]
        assert all(re.search(hook["files"], name) for name in concerned)
        assert not re.search(hook["files"], "docs/how-to/routes.md")
